//! I3, I4 and I5: the store's own order.

use super::super::Invariant::{I3, I4, I5, Linearizable};
use super::build::{History, apply, delete, get, object};
use super::{bad, good};
use crate::history::{Answer, Event};

const SRC: &str = "git:h/r/src/**";
const FILE: &str = "git:h/r/src/a.rs";

#[test]
fn live_claims_never_conflict() {
    let first = || History::new().claimed("a", "n1", 10, &[SRC]);
    bad(first().claimed("b", "n2", 20, &[FILE]), I5, "still owns");
    good(first().claimed("b", "n2", 20, &["git:h/r/docs"]));
    good(first().unclaimed("a", 10, 15).claimed("b", "n2", 20, &[FILE]));
    // Within one revision, what goes makes room, whatever was told first.
    good(first().claimed("b", "n2", 20, &[FILE]).unclaimed("a", 10, 20));
    bad(first().claimed("b", "n2", 20, &["git:h/r/src/** (read)"]), I5, "still owns");
    let read = "git:h/r/src/** (read)";
    good(History::new().claimed("a", "n1", 10, &[read]).claimed("b", "n1", 20, &[read]));
}

#[test]
fn the_stores_order_counts_and_not_the_order_of_telling() {
    let told_late = History::new()
        .claimed("b", "n2", 20, &[FILE])
        .claimed("a", "n1", 10, &[SRC])
        .unclaimed("a", 10, 15);
    good(told_late);
}

#[test]
fn nodes_are_not_overfull() {
    let two = || History::new().claimed("a", "n1", 10, &[]).claimed("b", "n1", 11, &[]);
    good(two().claimed("c", "n2", 12, &[]));
    good(two().unclaimed("a", 10, 12).claimed("c", "n1", 13, &[]));
    bad(two().claimed("c", "n1", 12, &[]), I5, "3 claims at a time, and 2 slots");
}

#[test]
fn no_claim_stays_without_a_lease() {
    let permanent = || History::new().claim("a", "n1", (10, 12, 0), &[SRC]);
    bad(permanent(), I5, "hangs on no lease");
    good(permanent().unclaimed("a", 10, 15));
    good(permanent().claim("a", "n1", (10, 14, 7), &[SRC]));
}

#[test]
fn no_claim_is_rewritten_in_place() {
    let live = || History::new().claimed("a", "n1", 10, &[SRC, "git:h/r/docs"]);
    // On another lease, or told in another order, it is the same.
    good(live().claim("a", "n1", (10, 12, 8), &["git:h/r/docs", SRC]));
    let message = "rewritten under its token 10";
    bad(live().claim("a", "n2", (10, 12, 7), &[SRC, "git:h/r/docs"]), I5, message);
    bad(live().claim("a", "n1", (10, 12, 7), &[SRC]), I5, message);
    bad(live().claim("a", "n1", (10, 12, 7), &[SRC, "git:h/r/docs (read)"]), I5, message);
}

#[test]
fn tokens_of_a_loop_go_up_and_are_revisions() {
    let gone = || History::new().claimed("a", "n1", 10, &[SRC]).unclaimed("a", 10, 15);
    good(gone().claimed("a", "n1", 20, &[SRC]));
    bad(gone().claim("a", "n1", (9, 20, 7), &[SRC]), I5, "tokens of a loop only go up");
    bad(gone().claim("a", "n1", (21, 20, 7), &[SRC]), I5, "seen at revision 20");
    bad(
        History::new().claimed("a", "n1", 10, &[SRC]).claimed("a", "n2", 20, &[SRC]),
        I5,
        "its claim with token 10 has not gone",
    );
}

#[test]
fn one_leader_follows_another() {
    good(History::new().leader("s1", 1).leader("", 2).leader("s2", 3).leader("s2", 4));
    bad(History::new().leader("s1", 1).leader("s2", 3), I5, "s1 has not ceased to lead");
}

#[test]
fn a_replaced_store_begins_anew() {
    let reset = Event::StoreReset { why: "restored".to_owned() };
    let history = History::new().leader("s1", 30).claimed("a", "n1", 31, &[SRC]).line(reset);
    good(history.clone().leader("s2", 5).claim("a", "n1", (31, 40, 7), &[SRC]));
    bad(history.claimed("a", "n1", 7, &[SRC]), I5, "tokens of a loop only go up");
}

#[test]
fn an_acknowledged_loop_stays() {
    let made = || History::new().call(apply("a", "d"), object("uid-a", "Pending", ""));
    let seen = || made().call(get("a"), object("uid-a", "Pending", "")).unfinished("a");
    good(seen());
    bad(made().unfinished("a"), I3, "never seen again");
    good(made().call(delete("a"), object("", "Pending", "")).call(get("a"), Answer::NotFound));
    let verdict = seen().call(get("a"), Answer::NotFound).judge();
    assert_eq!((verdict.of(I3), verdict.of(Linearizable)), (1, 1), "{verdict}");
}

#[test]
fn a_retry_never_makes_a_second_loop() {
    let made = || History::new().call(apply("a", "d"), object("uid-a", "Pending", ""));
    good(made().call(apply("a", "d"), object("uid-a", "Pending", "")).status("a", "Failed", "", 9));
    let verdict = made()
        .status("a", "Failed", "", 9)
        .call(apply("a", "d"), object("uid-2", "Failed", ""))
        .judge();
    assert_eq!((verdict.of(I3), verdict.of(Linearizable)), (2, 1), "{verdict}");
    assert!(verdict.violations[0].message.contains("a retry made a second one"), "{verdict}");
}

#[test]
fn a_stored_end_never_changes() {
    let over = || History::new().status("a", "Running", "", 5).status("a", "Converged", "c1", 6);
    good(over().status("a", "Converged", "c1", 7));
    bad(over().status("a", "Converged", "c2", 7), I3, "changed in the store");
    bad(over().status("a", "Running", "", 7).unfinished("a"), I3, "changed in the store");
    // A later generation is another piece of work.
    good(over().status_of("a", 2, "Pending", "", &[], 7).unfinished("a"));
    bad(
        over().status_of("a", 2, "Failed", "", &[], 7).status("a", "Converged", "c1", 8),
        I3,
        "from generation 2 back to 1",
    );
}

#[test]
fn an_acknowledged_end_is_the_stores() {
    let over = || History::new().status("a", "Converged", "c1", 6);
    let made = |history: History| history.call(apply("a", "d"), object("uid-a", "Converged", "c1"));
    good(made(over()).call(get("a"), object("uid-a", "Converged", "c1")));
    bad(made(History::new().status("a", "Converged", "other", 6)), I3, "which the store never had");
    let verdict = made(over()).call(get("a"), object("uid-a", "Running", "")).judge();
    assert_eq!((verdict.of(I3), verdict.of(Linearizable)), (1, 1), "{verdict}");
}

#[test]
fn what_can_end_ends_in_time() {
    let fault = || History::new().status("a", "Running", "", 5).fault();
    good(fault().status("a", "Converged", "", 6));
    good(fault().unfinished("a"));
    bad(fault(), I4, "never ended");
    bad(fault().after_ms(1500).status("a", "Converged", "", 6), I4, "after its bound of 1000 ms");
    // One that was wished for later has its time from then on.
    let later = fault().after_ms(1500).call(apply("b", "d"), object("uid-b", "Pending", ""));
    good(later.status("b", "Converged", "", 8).unfinished("a"));
}
