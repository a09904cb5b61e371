//! How the demo's loops must end.

use flyball_core::status::{Phase, Reason};

use super::board::Board;

/// Every loop with the end it must come to.
const ENDS: [(&str, Phase, Reason); 5] = [
    ("fix-ledger", Phase::Converged, Reason::None),
    ("add-average", Phase::Converged, Reason::None),
    ("write-guide", Phase::Converged, Reason::None),
    ("beat-physics", Phase::Unreachable, Reason::NoProgress),
    ("see-saw", Phase::Unreachable, Reason::Flapping),
];

/// What did not come out as it should, in words.
pub(super) fn missed(board: &Board, killed: Option<&str>) -> Vec<String> {
    let mut missed = Vec::new();
    for (name, phase, reason) in ENDS {
        let Some(row) = board.rows.get(name) else {
            missed.push(format!("{name} is missing"));
            continue;
        };
        let status = &row.status;
        if status.phase != phase || (phase != Phase::Converged && status.reason != reason) {
            missed.push(format!("{name} is {} ({:?}), not {phase}", status.phase, status.reason));
        }
    }
    if let Some(victim) = board.rows.get("fix-ledger")
        && let Some(killed) = killed
        && victim.nodes.last().is_none_or(|node| node.as_str() == killed)
    {
        missed.push(format!("fix-ledger did not move away from {killed}"));
    }
    if board.rows.get("add-average").is_some_and(|row| row.waited_for.is_none()) {
        missed.push("add-average did not wait".to_owned());
    }
    missed
}
