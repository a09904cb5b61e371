//! Linearizability of what clients are told.

use super::super::Invariant::{Linearizable, Sanity};
use super::build::{History, apply, delete, get, object, unknown};
use super::{bad, good};
use crate::history::{Answer, Call};

fn pending() -> Answer {
    object("uid-a", "Pending", "")
}

fn history() -> History {
    History::new().unfinished("a")
}

#[test]
fn a_call_whose_answer_was_lost_may_have_been_done_or_not() {
    let lost = || history().call(apply("a", "d"), unknown());
    good(lost().call(get("a"), Answer::NotFound));
    good(lost().call(get("a"), pending()));
    good(lost().call(get("a"), Answer::NotFound).call(get("a"), pending()));
    let back = lost().call(get("a"), pending()).call(get("a"), Answer::NotFound);
    bad(back, Linearizable, "the answer in line 7 to the call in line 6");
}

#[test]
fn a_loop_that_nobody_made_cannot_be_seen() {
    bad(history().call(get("a"), pending()), Linearizable, "fits no order");
}

#[test]
fn calls_at_once_may_take_effect_in_any_order() {
    let at_once = |answer| {
        history()
            .invoke("one", apply("a", "d"))
            .invoke("two", get("a"))
            .answer(2, answer)
            .answer(1, pending())
            .call(get("a"), pending())
    };
    good(at_once(Answer::NotFound));
    good(at_once(pending()));
    bad(
        history()
            .invoke("one", apply("a", "d"))
            .invoke("two", apply("a", "d"))
            .answer(2, object("uid-b", "Pending", ""))
            .answer(1, pending())
            .call(delete("a"), unknown()),
        Linearizable,
        "fits no order",
    );
}

#[test]
fn an_end_once_seen_stays() {
    let cancel = Call::Cancel { key: "a".to_owned() };
    let over = || history().call(apply("a", "d"), pending()).call(cancel.clone(), pending());
    let ended = object("uid-a", "Cancelled", "");
    good(over().call(get("a"), ended.clone()).call(get("a"), ended.clone()));
    good(over().call(get("a"), pending()).call(get("a"), ended.clone()));
    let verdict = over().call(get("a"), ended).call(get("a"), pending()).judge();
    assert_eq!(verdict.of(Linearizable), 1, "{verdict}");
}

#[test]
fn a_deleted_loop_goes_and_may_come_again() {
    let gone = || {
        let deleted = history().call(apply("a", "d"), pending());
        let deleted = deleted.call(delete("a"), object("uid-a", "Pending", ""));
        deleted.call(get("a"), pending()).call(get("a"), Answer::NotFound)
    };
    good(gone());
    bad(gone().call(get("a"), pending()), Linearizable, "fits no order");
    let again = object("uid-2", "Pending", "");
    good(gone().call(apply("a", "d"), again.clone()).call(get("a"), again));
}

#[test]
fn a_changed_manifest_is_a_later_generation() {
    let second = |generation| Answer::Object {
        uid: "uid-a".to_owned(),
        generation,
        digest: "e".to_owned(),
        phase: "Pending".to_owned(),
        result: String::new(),
    };
    let made = || history().call(apply("a", "d"), pending());
    good(made().call(apply("a", "e"), second(2)).call(get("a"), second(2)));
    bad(made().call(apply("a", "e"), second(1)), Linearizable, "fits no order");
    bad(made().call(get("a"), second(2)), Linearizable, "fits no order");
}

#[test]
fn a_refusal_says_nothing() {
    let refused = Answer::Refused { message: "no".to_owned() };
    good(history().call(apply("a", "d"), refused).call(get("a"), Answer::NotFound));
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    let mut history = history();
    for n in 0..30 {
        history = history.invoke(&format!("c{n}"), apply("a", &n.to_string()));
    }
    // Nobody asked for this digest; to be sure of it, every order of the others would have to be tried.
    let verdict = history.call(get("a"), pending()).judge();
    assert_eq!(verdict.of(Linearizable), 0, "{verdict}");
    assert_eq!(verdict.of(Sanity), 1, "{verdict}");
}
