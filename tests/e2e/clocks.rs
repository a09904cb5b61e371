//! Wall clocks that jump: nothing but what is shown depends on them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::etcd::fetch_file;
use serde_json::json;

use crate::support::{FINISH_ONE, ended, finish_list, healthy, list, manifest, parked, scratch};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(60);

/// Loaded into a process it answers its questions for the wall clock; threads are safe with it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// Sets the wall clock of all processes; replaced whole, since it is read all the time.
fn set(clock: &Path, offset: &str) {
    std::fs::write(clock.with_extension("new"), format!("{offset}\n")).unwrap();
    std::fs::rename(clock.with_extension("new"), clock).unwrap();
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn a_wall_clock_that_jumps_changes_nothing() {
    let path = format!("usr/lib/{}-linux-gnu/{LIBRARY}", std::env::consts::ARCH);
    let library = match fetch_file("libfaketime", &path) {
        Ok(library) => library.canonicalize().unwrap(),
        Err(why) => {
            eprintln!("SKIPPED: a_wall_clock_that_jumps_changes_nothing: {why}");
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    set(&clock, "+0");
    let variable = |name: &str, value: &Path| (name.to_owned(), value.display().to_string());
    let env = vec![
        variable("LD_PRELOAD", &library),
        variable("FAKETIME_TIMESTAMP_FILE", &clock),
        variable("FAKETIME_NO_CACHE", Path::new("1")),
        variable("DONT_FAKE_MONOTONIC", Path::new("1")),
    ];
    let cluster = Cluster::start(Options { env, ..Options::default() });
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    cluster.apply(&finish_list("finish", &repo, &format!("sleep 0.5; {FINISH_ONE}"), ""));
    let accepted = |count: u32| {
        let what = format!("{count} items further");
        cluster.wait("finish", &what, BOUND, move |status| status.progress.accepted >= count);
    };
    accepted(1);
    set(&clock, "+1d");
    accepted(3);
    set(&clock, "-1d");
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.runs, status.runs_lost), (1, 0), "{status:#?}");
    let log = cluster.log("s1");
    let days: BTreeSet<&str> = log.lines().filter_map(|line| line.get(..10)).collect();
    assert!(days.len() >= 3, "the clock was seen to jump: {days:?}");
    for (name, words) in [("n1", "beginning anew"), ("s1", "not leading any more")] {
        assert!(!cluster.log(name).contains(words), "{}", cluster.log(name));
    }
    // A pause that by the clock ends in three days is over when the clock is set back.
    set(&clock, "+2d");
    let mut waits = scratch(json!(null), json!("true"));
    waits["workspace"] = json!({"git": {"url": "/nonexistent/repository.git", "ref": "main"}});
    waits["owns"] = json!(["**"]);
    waits["governor"]["backoff"] = json!({"initial": "10m", "max": "10m"});
    cluster.apply(&manifest("waits", &waits));
    let before = parked(&cluster, "waits", Reason::Backoff, "");
    set(&clock, "-1d");
    cluster.wait("waits", "tried again", BOUND, |status| status.runs > before.runs);
    healthy(&cluster, "healthy");
}
