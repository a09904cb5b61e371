//! What a loop has cost is told once, whichever scheduler leads when it converges.

use std::time::Duration;

use etcd_client::Client;
use flyball_core::status::Phase;
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::collector::{collector, exporting_to};
use flyball_tests::etcd::{self, Etcd};
use flyball_tests::poll;
use flyball_tests::provider::{Provider, Reply};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::{builtin, list, models};

const BOUND: Duration = Duration::from_secs(60);
const ACCOUNT: &str = "/flyball/v1/accounts/loops/default/x";

/// Takes from the account that it was told, as if the leader had died before.
fn forget(runtime: &Runtime, etcd: &Etcd) {
    let _inside = runtime.enter();
    let mut client = runtime.block_on(Client::from_channel(etcd.channel(), None)).unwrap();
    let found = runtime.block_on(client.get(ACCOUNT, None)).unwrap();
    let mut value = found.kvs().first().expect("the loop has an account").value().to_vec();
    let told = value.windows(7).position(|text| text == b"\"told\":").expect("it was told");
    // A field of the same length that nobody knows.
    value[told + 1..told + 5].copy_from_slice(b"t_ld");
    runtime.block_on(client.put(ACCOUNT, value, None)).unwrap();
}

/// Ends the leader, and waits until another one has begun.
fn next_leader(cluster: &mut Cluster) {
    let leads = |cluster: &Cluster, number: usize| {
        let log = cluster.log(&format!("s{number}"));
        log.matches("INFO leading").count()
    };
    let all: usize = (1..=2).map(|number| leads(cluster, number)).sum();
    let old = *cluster.schedulers.keys().next().unwrap();
    let old = if cluster.schedulers.len() == 1 { old } else { leader(cluster) };
    cluster.schedulers.remove(&old).unwrap().kill();
    cluster.start_scheduler(old);
    cluster.until("another one leads", BOUND, |cluster| {
        ((1..=2).map(|number| leads(cluster, number)).sum::<usize>() > all).then_some(())
    });
}

/// The scheduler that said last that it leads: only one has, or the other was killed since.
fn leader(cluster: &Cluster) -> usize {
    let last = |number: &usize| {
        let log = cluster.log(&format!("s{number}"));
        log.rfind("INFO leading").map(|at| log[..at].lines().last().map(str::to_owned))
    };
    (1..=2).max_by_key(last).unwrap()
}

#[test]
fn what_a_leader_did_not_come_to_tell_the_next_one_tells_and_nobody_tells_it_twice() {
    if etcd::is_skipped() {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let etcd = runtime.block_on(Etcd::start());
    let (collector, address) = collector(&runtime);
    let provider = Provider::turns(vec![
        Reply::tool("shell", json!({ "command": "sed -i 's/ open$/ done/' list.txt" })),
        Reply::tool("report", json!({ "note": "finished" })),
    ]);
    let options = Options { schedulers: 2, ..exporting_to(&address) };
    let mut cluster = Cluster::start(Options { etcd: Some(etcd.endpoint()), ..options });
    cluster.apply(&models(&provider, json!({})));
    let [x, y, z] = [(); 3].map(|()| list(&["a"]));
    cluster.apply(&builtin("x", &x, "Finish every item of the list.", ""));
    cluster.wait_for_end("x", Phase::Converged);
    let told = |count: u64| {
        poll::until(&format!("its cost was told {count} times"), BOUND, || {
            let found = collector.histogram("flyball.loop.cost").0;
            assert!(found <= count, "told {found} times");
            (found == count).then_some(())
        });
    };
    told(1);

    // A new leader finds nothing to tell.
    next_leader(&mut cluster);
    cluster.apply(&builtin("y", &y, "Finish every item of the list.", ""));
    cluster.wait_for_end("y", Phase::Converged);
    told(2);
    // Had the first died before it told, the next one does.
    forget(&runtime, &etcd);
    next_leader(&mut cluster);
    told(3);
    next_leader(&mut cluster);
    cluster.apply(&builtin("z", &z, "Finish every item of the list.", ""));
    cluster.wait_for_end("z", Phase::Converged);
    told(4);
}
