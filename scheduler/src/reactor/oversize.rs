//! What is stored of a report that is too large for the store: where the loop stands, without the
//! history and the memory that made it too large; of those the last that could be stored stay.

use flyball_core::status::{Outcome, Phase, Progress, Reason};

/// Longest text taken over; commit ids and lines for people are far shorter.
const TEXT_BYTES_MAX: usize = 1024;

/// Where the new progress stands, with the history and the memory of the old one.
pub(super) fn progress(old: &Progress, new: &Progress) -> Progress {
    let text = |new: &Option<String>, old: &Option<String>| {
        let fits = new.as_ref().is_none_or(|text| text.len() <= TEXT_BYTES_MAX);
        if fits { new.clone() } else { old.clone() }
    };
    Progress {
        iterations: new.iterations,
        accepted: new.accepted,
        run_ms: new.run_ms,
        initial_distance: new.initial_distance,
        best_distance: new.best_distance,
        distance: new.distance,
        checkpoint: text(&new.checkpoint, &old.checkpoint),
        base: text(&new.base, &old.base),
        published: text(&new.published, &old.published),
        ..old.clone()
    }
}

/// The outcome without its evidence. A loop that would go on is held, since its next run would
/// start without the memory of this one.
pub(super) fn outcome(outcome: &Outcome) -> Outcome {
    let fits = outcome.message.len() <= TEXT_BYTES_MAX;
    let message = if fits { outcome.message.as_str() } else { "its message is too large" };
    let held = !outcome.phase.is_terminal();
    Outcome {
        phase: if held { Phase::Parked } else { outcome.phase },
        reason: if held { Reason::Hold } else { outcome.reason },
        message: format!("{message} (status too large: history and evidence were left out)"),
        evidence: Vec::new(),
        retry_after_ms: 0,
        need: None,
    }
}
