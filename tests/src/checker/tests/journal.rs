//! I1 and I3: a loop's own journal.

use super::super::Invariant::{I1, I3};
use super::build::History;
use super::{bad, good};

const SRC: &str = "git:h/r/src/**";

fn sealed() -> History {
    History::new().claimed("a", "n1", 10, &[SRC]).pushed("a", 10, 1, "takeover", true)
}

#[test]
fn nothing_is_at_work_before_the_journal_is_sealed() {
    good(sealed().alive("a", 10, "n1"));
    let message = "at work under token 10 before it had sealed";
    let claimed = || History::new().claimed("a", "n1", 10, &[SRC]);
    let late = claimed().alive("a", 10, "n1").pushed("a", 10, 1, "takeover", true);
    bad(late, I1, message);
    bad(claimed().push("a", 10, 1).alive("a", 10, "n1"), I1, message);
    bad(
        claimed().pushed("a", 10, 1, "takeover", false).alive("a", 10, "n1").push("a", 10, 1),
        I1,
        message,
    );
    // Every run anew.
    let again = sealed().unclaimed("a", 10, 15).claimed("a", "n2", 20, &[SRC]);
    bad(again.alive("a", 20, "n2").unfinished("a"), I1, "token 20 before it had sealed");
    // Without a repository there is nothing to seal.
    good(claimed().alive("a", 10, "n1"));
}

#[test]
fn a_result_is_recorded_in_the_journal() {
    let ended =
        |history: History| history.status("a", "Converged", "c1", 12).unclaimed("a", 10, 12);
    bad(ended(sealed()), I3, "no record in its journal says");
    bad(ended(sealed().pushed("a", 10, 2, "published", false)), I3, "no record in its journal");
    good(ended(sealed().pushed("a", 10, 2, "published", true)));
    good(sealed().status("a", "Cancelled", "", 12).unclaimed("a", 10, 12));
}
