//! Durable fenced assignments per second: through the store's commit, and as bare transactions with
//! the same compares, puts and sizes, one assignment each and 60 in one. On a real etcd and on the
//! embedded store; both write through to the disk before they answer.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

#[path = "assignments/raw.rs"]
mod raw;

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::Channel;
use flyball_core::ids::LoopKey;
use flyball_core::spec::{Access, LoopSpec};
use flyball_core::status::{LoopStatus, Phase};
use flyball_store::{
    Assign, Campaign, ClaimRecord, CreateLoop, LeaderRecord, Leadership, LoopRecord, Mutation,
    MutationResult, NewLoop, OpenSession, Session, Store,
};
use flyball_tests::etcd::Etcd;
use flyball_tests::measure::{Samples, at_least, rate};

use raw::Raw;

/// Entries of the assigned sets.
const WIDTHS: [usize; 3] = [1, 4, 16];
/// Assignments per side and round; a multiple of 60 and of 64.
const COUNT: usize = 1920;
const ROUNDS: usize = 5;
/// Mutations handed to one call of the store, as the scheduler's committer does under load.
const BATCH: usize = 256;
/// Longer than any run: nothing renews the leases here.
const TTL: Duration = Duration::from_secs(1800);

/// A loop to be assigned.
struct Waiting {
    name: String,
    revision: i64,
    owners: Vec<(Access, String)>,
}

/// A leader with a node's session on a server of its own.
struct World {
    store: Store,
    leadership: Leadership,
    session: Session,
    raw: Raw,
}

fn key(name: &str) -> LoopKey {
    LoopKey::new("default", name)
}

impl World {
    async fn on(channel: Channel) -> Self {
        let store = Store::from_channel(channel.clone()).await.unwrap();
        let record = LeaderRecord { id: "s1".to_owned(), address: "unix:///s1".to_owned() };
        let leadership = match store.campaign(&record, TTL).await.unwrap() {
            Campaign::Won(leadership) => leadership,
            Campaign::Held(held) => panic!("held by {held:?}"),
        };
        let opened = store.open_session(&leadership, &"n1".into(), &"life".into(), TTL).await;
        let OpenSession::Opened(session) = opened.unwrap() else { panic!("no session") };
        let raw = Raw::new(channel, &leadership, &session).await;
        Self { store, leadership, session, raw }
    }

    /// Creates loops that wait for an assignment of sets of `width` entries.
    async fn submit(&self, prefix: &str, width: usize) -> Vec<Waiting> {
        let mut waiting = Vec::with_capacity(COUNT);
        let names: Vec<String> = (0..COUNT).map(|n| format!("{prefix}-{n:06}")).collect();
        for names in names.chunks(BATCH) {
            let loops: Vec<NewLoop> = names.iter().map(|name| new_loop(name)).collect();
            let created = self.store.create_loops(&loops).await;
            for (name, created) in names.iter().zip(created) {
                let CreateLoop::Created { revision } = created.unwrap() else { panic!("{name}") };
                let path = |n| format!("git/example.org/org/{name}/src/module-{n:02}");
                let owners = (0..width).map(|n| (Access::Exclusive, path(n))).collect();
                waiting.push(Waiting { name: name.clone(), revision, owners });
            }
        }
        waiting
    }

    async fn commit(&self, waiting: Vec<Waiting>) -> Duration {
        let mutations: Vec<Mutation> =
            waiting.iter().map(|one| assignment(one, &self.session)).collect();
        let begun = Instant::now();
        for batch in mutations.chunks(BATCH) {
            let commit = self.store.commit(&self.leadership, batch).await;
            let done =
                |result: &&MutationResult| matches!(result, MutationResult::Committed { .. });
            assert_eq!(commit.results.iter().filter(done).count(), batch.len(), "{commit:?}");
        }
        begun.elapsed()
    }

    async fn compare(&mut self, width: usize) {
        let sample = self.submit(&format!("sample{width}"), width).await;
        let name = sample[0].name.clone();
        let owner = sample[0].owners[0].1.clone();
        self.commit(sample).await;
        self.raw.imitate(&name, &owner).await;
        let mut sides = [const { Samples::empty() }; 5];
        for round in 0..ROUNDS {
            for (side, samples) in sides.iter_mut().enumerate() {
                let waiting = self.submit(&format!("w{width:02}s{side}r{round}"), width).await;
                let took = match side {
                    0 => self.commit(waiting).await,
                    1 => self.raw.run(&waiting, 1, 64).await,
                    2 => self.raw.run(&waiting, 60, 1).await,
                    3 => self.raw.run(&waiting, 60, 4).await,
                    _ => self.raw.run(&waiting, 60, 16).await,
                };
                samples.add(rate(COUNT, took));
            }
        }
        let [ours, single, batch, batch4, batch16] = sides;
        println!("  {width} entries: store.commit {ours}");
        let (over, verdict) = (ours.over(&single), at_least(&ours.over(&single), 3.5));
        println!("    bare, 1 per transaction, 64 at a time {single}; ratio {over} ({verdict})");
        let (over, verdict) = (ours.over(&batch), at_least(&ours.over(&batch), 0.8));
        println!("    bare, 60 per transaction, one at a time {batch}; ratio {over} ({verdict})");
        println!(
            "    bare, 60 per transaction, 4 at a time {batch4}; ratio {}",
            ours.over(&batch4)
        );
        println!(
            "    bare, 60 per transaction, 16 at a time {batch16}; ratio {}",
            ours.over(&batch16)
        );
    }
}

fn new_loop(name: &str) -> NewLoop {
    let spec = LoopSpec { goal: "be done".to_owned(), ..LoopSpec::default() };
    let record = LoopRecord {
        key: key(name),
        uid: format!("uid-{name}").into(),
        generation: 1,
        labels: std::collections::BTreeMap::new(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        spec,
        spec_digest: String::new(),
        traceparent: String::new(),
        cancel: None,
        delete: false,
    };
    NewLoop { record: Arc::new(record), status: Arc::new(LoopStatus::default()) }
}

fn assignment(waiting: &Waiting, session: &Session) -> Mutation {
    let attempt = format!("attempt-{}", waiting.name);
    let claim = ClaimRecord {
        key: key(&waiting.name),
        uid: format!("uid-{}", waiting.name).into(),
        node: "n1".into(),
        incarnation: "life".into(),
        attempt: attempt.clone().into(),
        lease: session.lease,
        resources: waiting.owners.iter().map(|(_, path)| path.replacen('/', ":", 1)).collect(),
        repository: String::new(),
        since: jiff::Timestamp::UNIX_EPOCH,
    };
    let status = LoopStatus {
        phase: Phase::Assigned,
        attempt: Some(attempt.into()),
        node: Some("n1".into()),
        incarnation: Some("life".into()),
        message: "assigned to n1".to_owned(),
        ..LoopStatus::default()
    };
    Mutation::Assign(Assign {
        claim,
        owners: waiting.owners.clone(),
        status: Arc::new(status),
        status_revision: waiting.revision,
        loop_revision: waiting.revision,
        session_revision: session.create_revision,
    })
}

async fn run(what: &str, start: impl AsyncFn() -> (Channel, Box<dyn std::any::Any>)) {
    println!("{what}: assignments per second, median [least .. greatest] of {ROUNDS} rounds");
    for width in WIDTHS {
        let (channel, keep) = start().await;
        World::on(channel).await.compare(width).await;
        drop(keep);
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    if wants("etcd") {
        run("etcd", async || {
            let etcd = Etcd::start().await;
            (etcd.channel(), Box::new(etcd) as Box<dyn std::any::Any>)
        })
        .await;
    }
    if wants("embedded") {
        run("embedded store", async || {
            let dir = tempfile::tempdir().unwrap();
            let options = flyball_embedded::Options::at(dir.path().join("store"));
            let server = flyball_embedded::Server::open(options).unwrap();
            (server.channel(), Box::new((server, dir)) as Box<dyn std::any::Any>)
        })
        .await;
    }
}
