//! Random requests sent to both servers, one after the other, answers compared.

use crate::ops::{Dice, Op, answer, random};
use crate::subject::Subject;
use etcd_client::{Client, EventType, GetOptions, WatchOptions};
use std::time::Duration;

/// Requests per seed; enough that every kind of request meets every kind of state.
const REQUESTS: usize = 1500;

/// Seeds beside the fixed ones can be given, to look for more.
const SEED_VARIABLE: &str = "FLYBALL_CONTRACT_SEED";

#[tokio::test]
async fn answers_are_those_of_etcd() {
    let extra = std::env::var(SEED_VARIABLE).ok().and_then(|seed| seed.parse().ok());
    for seed in [1, 2].into_iter().chain(extra) {
        let Some(etcd) = Subject::etcd().await else { return };
        Box::pin(compare(seed, Subject::embedded().await, etcd)).await;
    }
}

async fn compare(seed: u64, mut ours: Subject, mut etcd: Subject) {
    let mut dice = Dice(seed);
    let mut newest = 1;
    let mut compacted = 0;
    let mut succeeded = 0;
    for number in 0..REQUESTS {
        let op = random(&mut dice, newest);
        let expected = answer(&mut etcd.client, &op).await;
        let got = answer(&mut ours.client, &op).await;
        assert_eq!(got, expected, "seed {seed}, request {number}: {op:#?}");
        succeeded += usize::from(!expected.contains("etcdserver"));
        if let (Op::Compact(at, _), true) = (&op, expected.starts_with("Compaction")) {
            compacted = *at;
        }
        if number % 8 == 0 {
            newest = revision(&mut etcd.client).await;
        }
    }
    // Otherwise the dice are loaded and little was compared.
    assert!(succeeded > REQUESTS / 2, "only {succeeded} requests were carried out");
    let newest = revision(&mut etcd.client).await;
    let expected = history(&mut etcd.client, compacted + 1, newest).await;
    assert_eq!(history(&mut ours.client, compacted + 1, newest).await, expected);
}

async fn revision(client: &mut Client) -> i64 {
    let response = client.get("x", Some(GetOptions::new().with_count_only())).await.unwrap();
    response.header().unwrap().revision()
}

/// All events from a revision on, as a watch tells them.
async fn history(client: &mut Client, from: i64, to: i64) -> Vec<String> {
    let options = WatchOptions::new().with_all_keys().with_prev_key().with_start_revision(from);
    let mut stream = client.watch("", Some(options)).await.unwrap();
    let mut events = Vec::new();
    let mut reached = from - 1;
    while reached < to {
        let message = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
        let response = message.expect("events in time").unwrap().unwrap();
        assert!(!response.canceled(), "{response:?}");
        for event in response.events() {
            let kv = event.kv().unwrap();
            reached = kv.mod_revision();
            let kind = if event.event_type() == EventType::Put { "put" } else { "delete" };
            events.push(format!("{kind} {kv:?} before {:?}", event.prev_kv()));
        }
    }
    events
}
