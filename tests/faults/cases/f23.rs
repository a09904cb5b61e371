//! F23: etcd is restored from an old snapshot, while the repositories remember what came later.

use std::path::Path;
use std::process::{Command, Stdio};

use flyball_tests::etcd;
use flyball_tests::history::Event;
use flyball_tests::poll::until;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F23",
    title: "etcd restored from an old snapshot",
    usual: false,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let shape = Shape { members: 1, schedulers: 1, items: 8, ..Shape::default() };
    let mut fleet = Fleet::start(attempt, shape);
    let snapshot = fleet.dir().join("snapshot.db");
    etcdctl(&fleet, &["snapshot", "save", &snapshot.display().to_string()]);
    put_much(&fleet);
    // From here on the repository knows tokens that the snapshot has never given.
    let victim = fleet.victim();
    fleet.fault("restore etcd from an old snapshot");
    fleet.kill_worker(&victim.node);
    fleet.lost_everything(&victim);
    let key = &victim.owned[0].0;
    let token = fleet.token(key);
    fleet.until("the new owner has begun", NOTICE_MAX, |view| {
        let status = view.statuses.get(key)?;
        (status.progress.recent.iter().any(|it| it.token.0 >= token)).then_some(())
    });
    // Nobody is asked meanwhile: a store that went back in time may say what it likes.
    fleet.stop_asking();
    let now = fleet.members.dir(1);
    let (away, old) = (now.with_extension("now"), now.with_extension("old"));
    let old_name = old.display().to_string();
    let snapshot = snapshot.display().to_string();
    let peer = "unix://localhost:12";
    let cluster = format!("m1={peer}");
    let restore = ["snapshot", "restore", &snapshot, "--name", "m1", "--data-dir", &old_name];
    let peers = ["--initial-cluster", &cluster, "--initial-advertise-peer-urls", peer];
    etcdctl(&fleet, &[&restore[..], &peers[..]].concat());
    fleet.members.kill(1);
    std::fs::rename(&now, &away).expect("directories can be moved");
    std::fs::rename(&old, &now).expect("directories can be moved");
    let why = "restored from a snapshot".to_owned();
    fleet.record.event(Event::StoreReset { why });
    fleet.runtime.block_on(fleet.members.start());
    let said = until("the scheduler says that the store went back", NOTICE_MAX, || {
        let log = fleet.log("s1");
        let mut lines = log.lines();
        let telling = |line: &&str| line.contains("behind") || line.contains("stale read");
        lines.find(telling).map(str::to_owned)
    });
    fleet.bite(&said);
    // One that remembers nothing knows no better than the store; the repositories do.
    fleet.kill_scheduler("s1");
    let from = fleet.log("s1").len();
    fleet.start_scheduler("s1");
    let refused = fleet.logs("s1", from, &["a worker is refused", "store-behind"]);
    fleet.bite(&refused);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 3);
    let begun = fleet.logged("s1", from, &["a worker is attached"]);
    assert_eq!(begun, None, "a worker began on a store that went back");
    // The operator's next step: the right data.
    fleet.members.kill(1);
    std::fs::rename(&now, &old).expect("directories can be moved");
    std::fs::rename(&away, &now).expect("directories can be moved");
    let why = "the right data are back".to_owned();
    fleet.record.event(Event::StoreReset { why });
    fleet.runtime.block_on(fleet.members.start());
    fleet.start_worker(&victim.node);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}

/// So many revisions lie between the snapshot and what is done later. A store that is behind by a few
/// only gets past that by its own writes within seconds, and is then taken for the right one.
const BEHIND: usize = 300;

fn put_much(fleet: &Fleet) {
    fleet.runtime.block_on(async {
        let mut client = fleet.raw().await;
        for _ in 0..BEHIND {
            client.put("/behind", "x", None).await.expect("a key can be put");
        }
    });
}

fn etcdctl(fleet: &Fleet, args: &[&str]) {
    let endpoint = format!("--endpoints=unix://{}", fleet.members.socket(1).display());
    let root: &Path = fleet.members.root();
    let output = Command::new(etcd::etcdctl().expect("an etcdctl"))
        .env("ETCDCTL_API", "3")
        .current_dir(root)
        .arg(endpoint)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("etcdctl can be started");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
