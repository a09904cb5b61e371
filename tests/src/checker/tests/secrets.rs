//! I6, and what a search must have done to prove anything.

use super::super::Invariant::{I6, Sanity};
use super::build::History;
use super::{bad, good};
use crate::history::Event;

fn planted(secret: &str) -> Event {
    Event::SecretPlanted { secret: secret.to_owned(), place: "the worker's memory".to_owned() }
}

fn sought(secret: &str, surface: &str, bytes: u64) -> Event {
    Event::SecretSought { secret: secret.to_owned(), surface: surface.to_owned(), bytes }
}

fn seen(secret: &str, surface: &str) -> Event {
    let place = "n1.log".to_owned();
    Event::SecretSeen { secret: secret.to_owned(), surface: surface.to_owned(), place }
}

#[test]
fn a_secret_that_is_sought_and_not_seen_is_well() {
    let history = History::new().line(planted("token")).line(planted("key"));
    let history = history.line(sought("token", "logs", 9)).line(sought("key", "logs", 9));
    let verdict = good(history.line(sought("token", "store", 3)));
    assert_eq!(verdict.judged["secrets planted"], 2);
    assert_eq!(verdict.judged["secrets sought"], 2);
    assert_eq!(verdict.judged["searches of surfaces"], 3);
}

#[test]
fn a_history_without_secrets_says_nothing_of_them() {
    let verdict = good(History::new());
    assert!(!verdict.judged.contains_key("secrets sought"), "{verdict}");
}

#[test]
fn a_secret_that_is_seen_is_a_violation() {
    let history = || History::new().line(planted("token")).line(sought("token", "logs", 9));
    bad(history().line(seen("token", "logs")), I6, "secret token was seen in logs: n1.log");
    let verdict = history().line(seen("token", "logs")).judge();
    assert_eq!(verdict.violations[0].lines, [2, 4], "planted, and seen");
    let twice = history().line(seen("token", "logs")).line(seen("token", "store")).judge();
    assert_eq!(twice.of(I6), 2, "{twice}");
}

#[test]
fn a_secret_has_to_be_sought() {
    bad(History::new().line(planted("token")), Sanity, "planted and never sought");
    let one_of_two = History::new().line(planted("token")).line(planted("key"));
    let one_of_two = one_of_two.line(sought("token", "logs", 9));
    bad(one_of_two, Sanity, "secret key was planted and never sought");
}

#[test]
fn an_empty_surface_proves_nothing() {
    let history = || History::new().line(planted("token")).line(sought("token", "spans", 0));
    bad(history(), Sanity, "sought in spans, which was empty");
    assert_eq!(history().judge().judged["secrets sought"], 0);
    // Beside another one, too: that there are no spans has to be noticed.
    bad(history().line(sought("token", "logs", 9)), Sanity, "sought in spans");
    // In parts, of which one is empty.
    good(history().line(sought("token", "spans", 9)));
}

#[test]
fn what_was_not_planted_cannot_be_sought() {
    let says = "was not planted before";
    bad(History::new().line(sought("token", "logs", 9)), Sanity, says);
    let too_late = History::new().line(sought("token", "logs", 9)).line(planted("token"));
    bad(too_late.line(sought("token", "logs", 9)), Sanity, says);
    let verdict = History::new().line(seen("token", "logs")).judge();
    assert_eq!((verdict.of(I6), verdict.of(Sanity)), (1, 1), "{verdict}");
}
