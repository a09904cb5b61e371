//! Whether a history proves something, and the checker's speed and words.

use super::super::Invariant::{I1, Sanity};
use super::build::{History, get, object};
use super::{bad, good};
use crate::checker::{LISTED_MAX, read};
use crate::history::{Answer, Event};

fn moved(scenario: &str) -> History {
    History::of(scenario).claimed("a", "n1", 10, &["git:h/r/**"]).unclaimed("a", 10, 15).claimed(
        "a",
        "n2",
        20,
        &["git:h/r/**"],
    )
}

#[test]
fn a_fault_has_to_bite_and_the_owner_has_to_change() {
    let verdict = good(moved("F1").fault());
    assert_eq!((verdict.judged["faults"], verdict.judged["changes of owner"]), (1, 1));
    good(History::of("quiet"));
    bad(History::of("F1").claimed("a", "n1", 10, &[]).fault(), Sanity, "no change of owner");
    // A part of what another has owned changes its owner; what is beside it does not.
    let first = || History::of("F1").claimed("a", "n1", 10, &["git:h/r/src/**"]);
    let first = || first().unclaimed("a", 10, 15).unfinished("a").unfinished("b");
    good(first().claimed("b", "n1", 20, &["git:h/r/src/a.rs"]).fault());
    let beside = first().claimed("b", "n1", 20, &["git:h/r/docs/**"]);
    bad(beside.fault(), Sanity, "no change of owner");
    let fault = "kill".to_owned();
    let without_bite = |history: History| {
        history
            .line(Event::FaultBegins { fault: fault.clone() })
            .line(Event::FaultEnds { fault: fault.clone() })
    };
    bad(without_bite(moved("F1")), Sanity, "no sign that a fault bit");
    bad(moved("sim").after_ms(1), Sanity, "no fault");
}

#[test]
fn a_fault_has_to_end() {
    let begins = Event::FaultBegins { fault: "cut".to_owned() };
    bad(History::new().line(begins), Sanity, "never ends");
    let ends = Event::FaultEnds { fault: "cut".to_owned() };
    bad(History::new().line(ends), Sanity, "without having begun");
}

#[test]
fn a_history_has_both_its_ends() {
    let cut_off = History::new().judge_as_it_is();
    assert_eq!(cut_off.of(Sanity), 1, "{cut_off}");
    let end = Event::End { unfinished: Vec::new() };
    bad(History::new().line(end), Sanity, "2 ends");
}

#[test]
fn calls_and_answers_fit_each_other() {
    let history = || History::new().unfinished("a");
    bad(history().answer(9, Answer::NotFound), Sanity, "without a call under way");
    let twice = history().call(get("a"), Answer::NotFound).answer(1, Answer::NotFound);
    bad(twice, Sanity, "without a call under way");
    bad(history().invoke("c", get("a")).invoke("c", get("b")), Sanity, "two calls under way");
    good(history().invoke("c", get("a")));
}

#[test]
fn a_set_has_to_be_readable() {
    bad(History::new().claimed("a", "n1", 10, &["no scheme"]), Sanity, "without a scheme");
}

#[test]
fn long_lists_are_cut_and_counted() {
    let mut history = History::new().claimed("a", "n1", 10, &["git:h/r/**"]);
    for _ in 0..LISTED_MAX + 5 {
        history = history.pushed("a", 10, 0, "", true);
    }
    let verdict = history.judge();
    assert_eq!((verdict.of(I1), verdict.violations.len()), (LISTED_MAX + 5, LISTED_MAX));
    assert!(verdict.to_string().contains("I1: 5 more"), "{verdict}");
}

#[test]
fn lines_keep_their_numbers_and_are_judged_in_the_order_of_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history.jsonl");
    let line = |at_us: u64, event: &Event| {
        let entry = crate::history::Entry { at_us, event: event.clone() };
        serde_json::to_string(&entry).unwrap()
    };
    let event = Event::Bite { what: "x".to_owned() };
    let text = format!("{}\n\n{}\n", line(5, &event), line(3, &event));
    std::fs::write(&path, text).unwrap();
    let lines: Vec<_> = read(&path).unwrap().iter().map(|it| (it.number, it.at_us)).collect();
    assert_eq!(lines, [(3, 3), (1, 5)]);
    std::fs::write(&path, "{}\n").unwrap();
    assert!(read(&path).unwrap_err().to_string().starts_with("line 1: "));
}

#[test]
fn a_client_may_see_a_loop_that_others_made() {
    // The model knows only what clients did, so harnesses make every loop through a client.
    bad(
        History::new().call(get("a"), object("uid-a", "Failed", "")),
        super::super::Invariant::Linearizable,
        "fits no order",
    );
}
