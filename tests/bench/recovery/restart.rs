//! Everything that keeps state is killed and started again over many live loops, whose workers go on
//! meanwhile. Measured until the scheduler accepts submissions, and until every worker is back and a
//! new loop is assigned; beside it one paged read of the same keys from the same store, by a process as new as the
//! scheduler is and by one that has read before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flyball_proto::transport::{self, Address, Connection, Credential};
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::{ApplyRequest, ListClaimsRequest};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::etcd::{self, Etcd};
use flyball_tests::measure::{Samples, at_most};
use serde_json::json;

use crate::simulated::{Node, Seen, Tokens};
use crate::{reader, show};

const NODES: usize = 50;
/// Lease time to live of the nodes, seconds: far longer than any restart here.
const TTL: u32 = 60;
const PARALLEL: usize = 64;
const BOUND: Duration = Duration::from_secs(300);

pub(crate) fn measure(loops: usize, trials: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        on("embedded store", None, loops, trials).await;
        if etcd::is_skipped() {
            println!("  skipped: no etcd");
        } else {
            on("etcd", Some(Etcd::start().await), loops, trials).await;
        }
    });
}

async fn on(name: &str, mut etcd: Option<Etcd>, loops: usize, trials: usize) {
    println!("restart of everything with {loops} live loops on {NODES} nodes, {name}");
    let endpoint = etcd.as_ref().map(Etcd::endpoint);
    let options = Options { workers: 0, ttl: TTL, etcd: endpoint.clone(), ..Options::default() };
    let mut cluster = tokio::task::block_in_place(|| Cluster::start(options));
    let address: Address = cluster.address(1).parse().unwrap();
    let (seen, tokens) = (Arc::new(Seen::default()), Tokens::default());
    let slots = u32::try_from(loops / NODES + 8).unwrap();
    for n in 0..NODES {
        let (address, seen, tokens) = (address.clone(), seen.clone(), tokens.clone());
        tokio::spawn(Node { name: format!("sim{n}"), slots, address, seen, tokens }.live());
    }
    reach("every node is there", &seen.attached, NODES).await;
    submit(&address, loops).await;
    reach("every loop runs", &seen.running, loops).await;
    let before = tokens.lock().unwrap().clone();
    let [mut accepting, mut whole, mut fresh, mut warm] = [const { Samples::empty() }; 4];
    let place = endpoint.unwrap_or_else(|| cluster.dir().join("s1/store").display().to_string());
    for round in 0..trials {
        cluster.schedulers.get_mut(&1).unwrap().kill();
        if let Some(etcd) = &mut etcd {
            etcd.crash_and_restart().await;
        }
        fresh.add(tokio::task::block_in_place(|| reader::fresh(&place)));
        warm.add(reader::read(&place).await);
        reach_down(&seen.attached).await;
        let begun = Instant::now();
        cluster.start_scheduler(1);
        let mut client = connected(&address).await;
        apply(&mut client, &format!("after-{round}")).await;
        accepting.add(begun.elapsed().as_secs_f64() * 1e3);
        reach("every node is back", &seen.attached, NODES).await;
        reach("a new loop runs", &seen.running, loops + round + 1).await;
        whole.add(begun.elapsed().as_secs_f64() * 1e3);
    }
    show("one paged read of the keyspace (embedded: after opening it), new process", &fresh, "ms");
    show("the same by a process that has read before", &warm, "ms");
    show("process started -> submission accepted", &accepting, "ms");
    let ratio = accepting.over(&fresh);
    println!("  as a multiple of the new process's read: {ratio} ({})", at_most(&ratio, 1.5));
    println!("  as a multiple of the other: {}", accepting.over(&warm));
    show("process started -> every node back, next loop at work", &whole, "ms");
    let disturbed = disturbed(&address, &before).await;
    println!(
        "  runs stopped {}, assigned again {}, with another token {disturbed}",
        seen.stopped.load(Ordering::Relaxed),
        seen.repeated.load(Ordering::Relaxed)
    );
}

async fn connected(address: &Address) -> LoopsClient<Connection> {
    let begun = Instant::now();
    loop {
        if let Ok(connection) = transport::connect(address, Credential::none()).await {
            return LoopsClient::new(connection).max_decoding_message_size(256 << 20);
        }
        assert!(begun.elapsed() < BOUND);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn apply(client: &mut LoopsClient<Connection>, name: &str) {
    let manifest = json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": { "name": name },
        "spec": {
            "goal": "be live",
            "owns": [format!("bench:{name}")],
            "checks": [{ "name": "only", "run": ["/bin/true"] }],
        },
    });
    let manifest_json = serde_json::to_vec(&manifest).unwrap().into();
    client.apply(ApplyRequest { manifest_json, ..ApplyRequest::default() }).await.unwrap();
}

async fn submit(address: &Address, loops: usize) {
    let client = connected(address).await;
    let submitters: Vec<_> = (0..PARALLEL)
        .map(|first| {
            let mut client = client.clone();
            tokio::spawn(async move {
                for n in (first..loops).step_by(PARALLEL) {
                    apply(&mut client, &format!("live-{n}")).await;
                }
            })
        })
        .collect();
    for submitter in submitters {
        submitter.await.unwrap();
    }
}

async fn reach(what: &str, counter: &AtomicUsize, wanted: usize) {
    let begun = Instant::now();
    while counter.load(Ordering::Relaxed) < wanted {
        let now = counter.load(Ordering::Relaxed);
        assert!(begun.elapsed() < BOUND, "waited in vain until {what}: {now} of {wanted}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until every node has seen that its scheduler is gone.
async fn reach_down(counter: &AtomicUsize) {
    let begun = Instant::now();
    while counter.load(Ordering::Relaxed) > 0 {
        assert!(begun.elapsed() < BOUND);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How many of the claims are not those of before.
async fn disturbed(address: &Address, before: &BTreeMap<String, i64>) -> usize {
    let mut client = connected(address).await;
    let claims =
        client.list_claims(ListClaimsRequest::default()).await.unwrap().into_inner().claims;
    let now: BTreeMap<String, i64> = claims.into_iter().map(|c| (c.uid, c.token)).collect();
    before.iter().filter(|(uid, token)| now.get(*uid) != Some(token)).count()
}
