//! I1 and I2: effects at repositories, and life.

use super::super::Invariant::{I1, I2, I5};
use super::build::History;
use super::{bad, good};
use crate::history::Event;

const SRC: &str = "git:h/r/src/**";
const FILE: &str = "git:h/r/src/a.rs";
const SHARED: &str = "git:h/r/src/** (read)";

/// Loop `a` moves from n1 (token 10) to n2 (token 20).
fn moved() -> History {
    History::new()
        .claimed("a", "n1", 10, &[SRC])
        .push("a", 10, 1)
        .push("a", 10, 2)
        .unclaimed("a", 10, 15)
        .claimed("a", "n2", 20, &[SRC])
        .push("a", 20, 3)
}

#[test]
fn tokens_of_a_journal_never_go_down() {
    let verdict = good(moved().pushed("a", 10, 4, "iteration", false));
    assert_eq!(verdict.judged["accepted pushes"], 3);
    assert_eq!(verdict.judged["refused pushes"], 1);
    // Broken in two ways: the journal's own order, and the order of its resources.
    let verdict = moved().push("a", 10, 4).judge();
    assert_eq!((verdict.of(I1), verdict.violations.len()), (2, 2), "{verdict}");
    assert!(verdict.violations[0].message.contains("accepted token 10 after token 20"));
}

#[test]
fn records_are_neither_missing_nor_there_twice() {
    bad(moved().push("a", 20, 5), I1, "record 5 after record 3");
    bad(moved().push("a", 20, 3), I1, "record 3 after record 3");
}

#[test]
fn a_push_without_a_record_is_never_accepted() {
    bad(moved().pushed("a", 20, 0, "", true), I1, "without a record");
    good(moved().pushed("a", 20, 0, "", false));
}

#[test]
fn tokens_are_accepted_from_those_the_store_gave() {
    bad(moved().push("a", 21, 4), I1, "a token that the store gave neither");
    // An overlapping owner may seal; one that does not overlap may not.
    good(overlapped().seal("a", 30, 4));
    bad(
        moved().claimed("c", "n3", 30, &["git:h/r/docs/**"]).seal("a", 30, 4),
        I1,
        "a token that the store gave neither",
    );
}

/// `b` owns a file of what `a` has lost.
fn overlapped() -> History {
    moved().unclaimed("a", 20, 25).claimed("b", "n3", 30, &[FILE])
}

#[test]
fn under_another_loops_token_there_are_only_seals() {
    let message = "may seal, and nothing else";
    bad(overlapped().pushed("a", 30, 4, "iteration", true), I1, message);
    bad(overlapped().pushed("a", 30, 4, "takeover", true), I1, message);
    // A seal that moves a branch with it.
    bad(overlapped().pushed("a", 30, 4, "sealed-by-other", true), I1, message);
    good(overlapped().pushed("a", 30, 4, "iteration", false));
}

/// `a` owned src/**, was lost, and `b` owns a file of it.
fn neighbours(second: &str) -> History {
    History::new()
        .claimed("a", "n1", 10, &[SRC])
        .push("a", 10, 1)
        .unclaimed("a", 10, 15)
        .claimed("b", "n2", 20, &[second])
        .push("b", 20, 1)
}

#[test]
fn tokens_of_an_overlapping_set_never_go_down() {
    bad(neighbours(FILE).push("a", 10, 2), I1, "after b, whose set overlaps, had begun");
    good(neighbours("git:h/r/docs/**").push("a", 10, 2));
    // The late owner may have done nothing before.
    let late = History::new()
        .claimed("a", "n1", 10, &[SRC])
        .unclaimed("a", 10, 15)
        .claimed("b", "n2", 20, &[FILE])
        .push("b", 20, 1);
    bad(late.push("a", 10, 1), I1, "after b, whose set overlaps, had begun");
}

#[test]
fn shared_sets_do_not_fence_each_other() {
    let shared = History::new()
        .claimed("a", "n1", 10, &[SHARED])
        .claimed("b", "n2", 20, &[SHARED])
        .push("b", 20, 1);
    good(shared.clone().push("a", 10, 1));
    let exclusive = shared
        .unclaimed("a", 10, 21)
        .unclaimed("b", 20, 22)
        .claimed("c", "n3", 30, &[SRC])
        .push("c", 30, 1);
    bad(exclusive.push("a", 10, 1), I1, "after c");
}

#[test]
fn nothing_is_alive_after_its_deadline() {
    let dead = |token_max| Event::DeadBy { node: "n1".to_owned(), token_max };
    let claimed = || History::new().claimed("a", "n1", 10, &[SRC]).alive("a", 10, "n1");
    good(claimed().line(dead(10)));
    bad(claimed().line(dead(10)).alive("a", 10, "n1"), I2, "had to be dead");
    // A later life of the node is another matter.
    good(
        claimed()
            .line(dead(10))
            .unclaimed("a", 10, 15)
            .claimed("a", "n1", 20, &[SRC])
            .alive("a", 20, "n1"),
    );
}

#[test]
fn nothing_is_alive_after_a_proven_end() {
    let run = || History::new().claimed("a", "n1", 10, &[SRC]).alive("a", 10, "n1");
    let ended = |unsealed: &[i64]| {
        run().status_of("a", 1, "Cancelled", "", unsealed, 15).unclaimed("a", 10, 15)
    };
    good(ended(&[]));
    bad(ended(&[]).alive("a", 10, "n1"), I2, "reported as ended");
    // An end without proof, and a lost lease, say nothing about processes.
    good(ended(&[10]).alive("a", 10, "n1"));
    good(run().unclaimed("a", 10, 15).alive("a", 10, "n1").unfinished("a"));
}

#[test]
fn what_runs_was_claimed() {
    let run = || History::new().claimed("a", "n1", 10, &[SRC]);
    good(run().alive("a", 10, "n1"));
    bad(run().alive("a", 10, "n2"), I5, "which the store gave to n1");
    bad(run().alive("a", 11, "n1"), I5, "never gave to it");
}
