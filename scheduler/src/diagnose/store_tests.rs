//! Findings about the store, from made-up answers.

use flyball_core::diagnosis::Level;

use super::*;

fn lines(found: &[Finding]) -> Vec<String> {
    found
        .iter()
        .map(|one| format!("{} {}: {}", one.level.as_str(), one.code, one.message))
        .collect()
}

fn member(name: &str, status: Result<StoreStatus, StoreError>) -> Member {
    let urls = vec![format!("http://{name}:2379")];
    Member { id: 1, name: name.to_owned(), urls, status: Some(status) }
}

fn well(name: &str) -> Member {
    member(name, Ok(StoreStatus { leader: 1, ..StoreStatus::default() }))
}

fn away(name: &str) -> Member {
    member(name, Err(StoreError::Unavailable { why: "refused".to_owned() }))
}

#[test]
fn versions_are_judged_and_every_trouble_has_a_next_step() {
    let level = |text| version(text).iter().map(|one| one.level).max();
    assert_eq!(level("3.6.9"), Some(Level::Ok));
    assert_eq!(level("3.4.23+flyball.0.1.0"), Some(Level::Ok));
    assert_eq!(level("3.4.42"), Some(Level::Warning));
    assert_eq!(level("3.4.23"), Some(Level::Warning));
    assert_eq!(level("3.5.1"), Some(Level::Error));
    let bugs = version("3.4.23");
    assert_eq!(bugs.len(), 3);
    assert!(bugs.iter().all(|one| one.message.ends_with("safety holds by fencing")));
    assert!(bugs.iter().all(|one| one.next_step.contains(RECOMMENDED)));
}

#[test]
fn a_full_store_is_an_error_and_a_nearly_full_one_a_warning() {
    let status = |db_bytes, quota_bytes, errors: &[&str]| StoreStatus {
        version: "3.6.9".to_owned(),
        db_bytes,
        quota_bytes,
        errors: errors.iter().map(|text| (*text).to_owned()).collect(),
        ..StoreStatus::default()
    };
    let mib = 1024 * 1024;
    assert_eq!(
        lines(&space(&status(mib, 100 * mib, &[]))),
        ["ok Size: database of 1 MiB, 1 % of its quota"]
    );
    assert_eq!(
        lines(&space(&status(90 * mib, 100 * mib, &["memberID:1 alarm:NOSPACE "]))),
        [
            "error EtcdNoSpace: etcd is out of space: nothing new is accepted, runs go on",
            "warning Size: database of 90 MiB, 90 % of its quota"
        ]
    );
    assert_eq!(
        lines(&space(&status(1900 * mib, 0, &[]))),
        ["warning Size: database of 1900 MiB; etcd's quota is 2 GiB unless it is set"]
    );
}

#[test]
fn members_that_are_away_are_named_and_a_quorum_is_counted() {
    let last = |all: &[Member]| lines(&members(all, 0, false)).pop().unwrap_or_default();
    assert_eq!(last(&[well("a")]), "ok Quorum: 1 of 1 members answer, 1 are needed");
    assert_eq!(
        lines(&members(&[well("a"), well("b"), away("c")], 0, false)),
        [
            "warning MemberAway: does not answer at http://c:2379: the store cannot be used now: refused",
            "ok Quorum: 2 of 3 members answer, 2 are needed"
        ]
    );
    assert!(last(&[well("a"), away("b"), away("c")]).starts_with("error Quorum"));
    assert!(last(&[well("a"), well("b")]).starts_with("warning Quorum"));
    // Addresses that cannot be reached from here say nothing against a store that takes writes.
    let unreached = [well("a"), away("b"), away("c")];
    assert!(lines(&members(&unreached, 0, true)).pop().unwrap().starts_with("warning Quorum"));
    assert!(lines(&members(&[away("a")], 1, false)).pop().unwrap().starts_with("ok Quorum"));
    let embedded = Member { id: 1, name: "embedded".to_owned(), urls: vec![], status: None };
    assert_eq!(members(&[embedded], 0, false), []);
}

#[test]
fn what_was_measured_is_compared_with_bounds() {
    let ms = Duration::from_millis;
    let quick = Measured { writes: vec![ms(1), ms(2), ms(90)], ..Measured::default() };
    let slow = Measured { writes: vec![ms(60)], keep_alive: ms(700), ..Measured::default() };
    let codes = |measured: Result<Measured, StoreError>| {
        let found = super::measured(&measured, ms(666));
        found.into_iter().map(|one| one.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(Ok(quick)), ["Writes", "RoundTrip"]);
    assert_eq!(codes(Ok(slow)), ["WritesSlow", "RoundTripSlow"]);
    assert_eq!(codes(Err(StoreError::OutOfSpace { why: "full".to_owned() })), ["Measure"]);
}
