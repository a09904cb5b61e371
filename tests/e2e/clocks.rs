//! Wall clocks that jump: nothing but what is shown depends on them, and the doctor names it.

use std::collections::BTreeSet;
use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::faketime::WallClock;
use serde_json::{Value, json};

use crate::support::{
    FINISH_ONE, ended, finding, finish_list, healthy, list, manifest, parked, scratch,
};

/// Longest wait for anything here.
const BOUND: Duration = Duration::from_secs(60);

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// Who owns the loop, by whom and since when in the store's own order.
fn owner(cluster: &Cluster) -> Option<(Value, Value)> {
    let claims = cluster.json(&["get", "claims", "-o", "json"]);
    let claim = items(&claims).next().map(|claim| claim["claim"].clone())?;
    Some((claim["token"].clone(), claim["incarnation"].clone()))
}

/// The doctor names a jump of about so many milliseconds, with the next step, and the scheduler goes on leading.
fn is_named(cluster: &Cluster, moved_ms: i64) {
    let what = format!("the doctor names the jump of {moved_ms} ms");
    let told = cluster.until(&what, BOUND, |cluster| {
        let told = finding(cluster, &[], "WallClockSet")?;
        // Beside what passed between two reads of a machine that is busy.
        let moved = told["figures"]["movedMillis"].as_i64()?;
        (moved.abs_diff(moved_ms) < 60_000).then_some(told)
    });
    assert_eq!(told["level"], "warning", "{told}");
    assert!(told["message"].as_str().unwrap().contains("the wall clock was moved by"), "{told}");
    let next = told["nextStep"].as_str().unwrap();
    assert!(next.contains("time daemon") && next.contains("no lease is concerned"), "{told}");
    assert!(finding(cluster, &[], "Leader").is_some(), "{}", cluster.log("s1"));
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn a_wall_clock_that_jumps_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = match WallClock::prepare(dir.path()) {
        Ok(clock) => clock,
        Err(why) => {
            eprintln!("SKIPPED: a_wall_clock_that_jumps_changes_nothing: {why}");
            return;
        }
    };
    let cluster = Cluster::start(Options { env: clock.env(), ..Options::default() });
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    // The last item waits, so that the loop is there to be looked at.
    let go = cluster.dir().join("go");
    let agent = format!(
        "until test -e {} || test $(grep -c open list.txt) -gt 1; do sleep 0.05; done; {FINISH_ONE}",
        go.display()
    );
    cluster.apply(&finish_list("finish", &repo, &agent, ""));
    let accepted = |count: u32| {
        let what = format!("{count} items further");
        cluster.wait("finish", &what, BOUND, move |status| status.progress.accepted >= count);
    };
    accepted(1);
    let before = owner(&cluster);
    assert!(before.is_some() && finding(&cluster, &[], "WallClockSet").is_none());
    clock.set("+1d");
    is_named(&cluster, DAY_MS);
    accepted(2);
    assert_eq!(owner(&cluster), before, "the loop keeps its token");
    clock.set("-1d");
    is_named(&cluster, -DAY_MS);
    assert_eq!(owner(&cluster), before, "the loop keeps its token");
    std::fs::write(&go, "").unwrap();
    let status = ended(&cluster, "finish", Phase::Converged, Reason::None);
    assert_eq!((status.runs, status.runs_lost), (1, 0), "{status:#?}");
    let log = cluster.log("s1");
    let days: BTreeSet<&str> = log.lines().filter_map(|line| line.get(..10)).collect();
    assert!(days.len() >= 3, "the clock was seen to jump: {days:?}");
    for (name, words) in [("n1", "beginning anew"), ("s1", "not leading any more")] {
        assert!(!cluster.log(name).contains(words), "{}", cluster.log(name));
    }
    // A pause that by the clock ends in three days is over when the clock is set back.
    clock.set("+2d");
    let mut waits = scratch(json!(null), json!("true"));
    waits["workspace"] = json!({"git": {"url": "/nonexistent/repository.git", "ref": "main"}});
    waits["owns"] = json!(["**"]);
    waits["governor"]["backoff"] = json!({"initial": "10m", "max": "10m"});
    cluster.apply(&manifest("waits", &waits));
    let before = parked(&cluster, "waits", Reason::Backoff, "");
    clock.set("-1d");
    cluster.wait("waits", "tried again", BOUND, |status| status.runs > before.runs);
    healthy(&cluster, "healthy");
}
