//! Judges histories by the invariants of ownership, knowing nothing but the history: no code of the
//! product takes part, also not in the decision which resources overlap.
//!
//! | invariant | judged |
//! |---|---|
//! | I1 | tokens accepted per journal and per resource never go down; sequence numbers have no gaps or repeats; only given tokens are accepted, only with a record, and another loop's only for a seal; a run seals its journal before it is at work |
//! | I2 | nothing of a run is alive after its deadline, nor after its end was reported as proven |
//! | I3 | acknowledged loops and ends stay; one loop per name; a stored end never changes, and a result has a record in the journal |
//! | I4 | every loop that may end has ended in time after the last fault |
//! | I5 | live claims never conflict, slots suffice, no claim stays without lease or is rewritten, tokens go up, one leader at a time; what runs was claimed |
//! | I6 | no planted secret was seen on a surface that was searched for it |
//! | linearizable | answers about one name fit a single copy, unknown answers included |
//! | sanity | the history is whole, and proves something; every planted secret was sought, and each surface had something in it |
//!
//! Pushes name the refs that they move, but neither the commits that these leave nor those that they come to. So I3
//! cannot see a publish branch that is put back or loses commits, a result that is on no branch, nor that a
//! checkpoint holds the work of the one before it. For these stand the repository's own tests (`worker/src/git`),
//! and each case's look at the branch in the end, which sees only what is there then.
//!
//! Of I6 a history shows what a search found, not what was there: a secret that is written in a form that the search
//! does not know (`crate::secret`), or where it did not look, is not seen. A history in which no secret was planted
//! (simulations) says nothing of I6.

mod claims;
mod clients;
mod effects;
mod facts;
mod journal;
mod life;
mod lines;
mod liveness;
mod model;
mod overlap;
mod resources;
mod results;
mod sanity;
mod secrets;
#[cfg(test)]
mod tests;
mod verdict;

pub use lines::{Line, number, read};
pub use overlap::Pattern;
pub use verdict::{Invariant, LISTED_MAX, Verdict, Violation};

use crate::history::Event;

/// Judges a history, whose lines are in the order of their times.
pub fn judge(lines: &[Line]) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.count("lines", lines.len());
    let (settle_ms, slots) = lines
        .iter()
        .find_map(|line| match &line.event {
            Event::Start { settle_ms, slots, .. } => Some((*settle_ms, *slots)),
            _ => None,
        })
        .unwrap_or_default();
    let mut facts = facts::Facts::gather(lines);
    sanity::judge(lines, &facts, &mut verdict);
    effects::judge(lines, &mut facts, &mut verdict);
    journal::judge(lines, &mut verdict);
    life::judge(lines, &facts, &mut verdict);
    results::judge(lines, &facts, &mut verdict);
    secrets::judge(lines, &mut verdict);
    liveness::judge(lines, &facts, settle_ms, &mut verdict);
    claims::judge(&mut facts, slots, &mut verdict);
    clients::judge(lines, &mut verdict);
    verdict
}
