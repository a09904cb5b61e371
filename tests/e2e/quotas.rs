//! Three workers share a provider's account, and one of them dies with a slice of it in hand. Whether the account's
//! limit holds is judged by what the provider itself has counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flyball_core::ids::NodeName;
use flyball_core::model::{PoolSlice, QUOTA_VALID, QuotaReport};
use flyball_core::status::Phase;
use flyball_store::Store;
use flyball_tests::cluster::{Cluster, Options, items};
use flyball_tests::etcd::{self, Etcd};
use flyball_tests::provider::{Asked, Provider, Reply};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::support::{builtin, list, models};

/// Longest wait for anything here: the account allows eight calls in some twenty seconds.
const BOUND: Duration = Duration::from_secs(180);
/// In any span of this length the provider serves no more than its limits.
const PROVIDER_WINDOW: Duration = Duration::from_secs(8);
/// What the scheduler is told of it. As with a real provider, two seconds are for requests that were long on their way.
const QUOTA_WINDOW: Duration = Duration::from_secs(10);
/// Calls in a window.
const REQUESTS: usize = 8;
/// Tokens in a window: enough for the worst cases of all these calls, so that it is the requests that run out.
const TOKENS: u64 = 1_000_000;
/// The loop whose worker dies, and how many calls it makes before.
const LOST: (&str, usize) = ("lost", 4);
const OTHERS: [&str; 3] = ["one", "two", "three"];

/// A call as the provider saw it come.
#[derive(Debug, Clone)]
struct Arrival {
    at: Instant,
    tokens: u64,
    of: String,
}

/// What the provider has counted.
#[derive(Debug, Clone, Default)]
struct Account {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    /// From then on the lost loop's model does not dawdle.
    killed: Arc<AtomicBool>,
}

impl Account {
    fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }

    fn of(&self, name: &str) -> usize {
        self.arrivals().iter().filter(|one| one.of == name).count()
    }

    /// The agents' conversation, counted as it comes.
    fn answer(&self, asked: &Asked) -> Reply {
        let text = asked.text();
        let names = OTHERS.into_iter().chain([LOST.0]);
        let of = names.into_iter().find(|name| text.contains(&format!("work of {name}.")));
        let of = of.unwrap_or("nobody").to_owned();
        let shell = |line: &str| Reply::tool("shell", json!({ "command": line }));
        let killed = self.killed.load(Ordering::SeqCst);
        let reply = match asked.turn() {
            turn if of == LOST.0 && !killed && turn + 1 == LOST.1 => {
                // Its worker dies while this is under way.
                shell("true").paced(BOUND)
            }
            turn if of == LOST.0 && !killed && turn < LOST.1 => shell("true"),
            0 => shell("true"),
            1 => shell("sed -i 's/ open$/ done/' list.txt"),
            _ => Reply::tool("report", json!({ "note": "finished the list", "claim": "done" })),
        };
        let tokens = reply.usage_for(asked).tokens();
        self.arrivals.lock().unwrap().push(Arrival { at: Instant::now(), tokens, of });
        reply
    }

    /// The most calls and tokens in any of the provider's windows.
    fn most(&self) -> (usize, u64) {
        let arrivals = self.arrivals();
        let window = |from: Instant| {
            let within = |one: &&Arrival| one.at >= from && one.at - from < PROVIDER_WINDOW;
            let within = arrivals.iter().filter(within);
            within.fold((0, 0), |(calls, tokens), one| (calls + 1, tokens + one.tokens))
        };
        let windows = arrivals.iter().map(|one| window(one.at));
        windows.fold((0, 0), |most: (usize, u64), one| (most.0.max(one.0), most.1.max(one.1)))
    }
}

/// The pool as it is shown.
fn shown(cluster: &Cluster) -> QuotaReport {
    let quotas = cluster.json(&["quota", "list", "-o", "json"]);
    let quota = quotas.get(0).or_else(|| quotas["items"].get(0)).unwrap_or(&quotas);
    serde_json::from_value(quota.clone()).unwrap()
}

/// Whether somebody finds no room in the account.
fn somebody_waits(cluster: &Cluster) -> Option<()> {
    let is_one = |of: &str| OTHERS.iter().any(|name| of == format!("default/{name}"));
    shown(cluster).waiting.iter().any(|one| is_one(&one.of)).then_some(())
}

/// Reads the slices of the pool.
type Look<'a> = &'a dyn Fn(&Cluster) -> Vec<PoolSlice>;

/// Requests of the pool that are a node's; all of it together never exceeds the account.
fn of_node(slices: &[PoolSlice], node: &NodeName) -> u64 {
    let sum = |part: fn(&PoolSlice) -> u64| slices.iter().map(part).sum::<u64>();
    let all = (sum(|one| one.amount.requests), sum(|one| one.amount.tokens));
    assert!(all.0 <= REQUESTS as u64 && all.1 <= TOKENS, "{slices:#?}");
    slices.iter().filter(|one| one.node == *node).map(|one| one.amount.requests).sum()
}

/// Waits until nothing of a dead node is in the pool. The worker died at `killed`, so its lease ended no earlier; that
/// it has ended is seen when the node is offline.
fn wait_for_return(cluster: &Cluster, look: Look<'_>, node: &NodeName, killed: Instant) {
    cluster.until("its lease has ended", BOUND, |cluster| {
        let nodes = cluster.json(&["get", "nodes", "-o", "json"]);
        let mut one = items(&nodes).filter(|one| one["metadata"]["name"] == node.0.as_str());
        (one.next()?["status"]["online"] == false).then_some(())
    });
    let after_lease = of_node(&look(cluster), node);
    // A reading may come late on a loaded machine: then it proves nothing.
    let in_time = killed.elapsed() < QUOTA_WINDOW;
    assert!(!in_time || after_lease > 0, "it went with the lease");
    cluster.until("its slice has returned", BOUND, |cluster| {
        let slices = look(cluster);
        let left = of_node(&slices, node);
        let at = killed.elapsed();
        assert!(left > 0 || at >= QUOTA_WINDOW, "back {at:?} after the kill: {slices:#?}");
        (left == 0).then_some(())
    });
}

#[test]
fn a_shared_account_is_never_overdrawn_and_a_dead_workers_slice_returns_a_window_later() {
    play(Options::default(), &|cluster| shown(cluster).slices);
}

/// The same with what the store itself holds of the pool.
#[test]
fn a_shared_account_is_never_overdrawn_on_a_real_etcd() {
    if etcd::is_skipped() {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let etcd = runtime.block_on(Etcd::start());
    let store = runtime.block_on(Store::connect(&[etcd.endpoint()])).unwrap();
    let options = Options { etcd: Some(etcd.endpoint()), ..Options::default() };
    play(options, &|_| {
        let pools = runtime.block_on(store.list_quota_pools()).unwrap();
        pools.into_iter().next().map(|(_, _, pool)| pool.slices).unwrap_or_default()
    });
}

fn play(options: Options, look: Look<'_>) {
    let account = Account::default();
    let provider = Provider::start({
        let account = account.clone();
        move |asked| account.answer(asked)
    });
    let mut cluster = Cluster::start(Options {
        workers: 3,
        slots: 1,
        scheduler_args: vec![format!("--quota-window={}", QUOTA_WINDOW.as_secs())],
        ..options
    });
    let quota = json!({ "requestsPerMinute": REQUESTS, "tokensPerMinute": TOKENS });
    cluster.apply(&models(&provider, json!({ "quota": quota })));
    let repos: Vec<_> = OTHERS.iter().chain([&LOST.0]).map(|name| (*name, list(&["a"]))).collect();
    let work = |name: &str| {
        let repo = &repos.iter().find(|(of, _)| *of == name).unwrap().1;
        let goal = format!("The work of {name}.");
        builtin(name, repo, &goal, "")
    };

    let begun = Instant::now();
    cluster.apply(&work(LOST.0));
    cluster.until("the loop has made its calls", BOUND, |_| {
        (account.of(LOST.0) == LOST.1).then_some(())
    });
    OTHERS.iter().for_each(|name| cluster.apply(&work(name)));
    cluster.until("the account has no room", BOUND, somebody_waits);
    let node = cluster.status(LOST.0).unwrap().node.unwrap();
    let held = of_node(&look(&cluster), &node);
    assert_eq!(held, LOST.1 as u64, "what it used, in hand or cooling");
    account.killed.store(true, Ordering::SeqCst);
    let killed = Instant::now();
    cluster.workers.get_mut(&node.0).unwrap().kill();
    wait_for_return(&cluster, look, &node, killed);

    for (name, repo) in &repos {
        let what = format!("{name} is over");
        let status = cluster.wait(name, &what, BOUND, |status| status.phase.is_terminal());
        assert_eq!(status.phase, Phase::Converged, "{name}: {status:#?}");
        assert_eq!(repo.file("main", "list.txt"), "a done\n");
    }
    let arrivals = account.arrivals();
    let (calls, tokens) = account.most();
    assert!(calls <= REQUESTS && tokens <= TOKENS, "{calls} calls, {tokens} tokens: {arrivals:#?}");
    // No slice that was out at the kill could have returned before: neither the dead worker's nor one that ended.
    let returned = killed.min(begun + QUOTA_VALID) + QUOTA_WINDOW;
    let before = arrivals.iter().filter(|one| one.at < returned).count();
    assert!(before <= REQUESTS, "{before} calls before anything could return: {arrivals:#?}");
    assert_eq!(provider.totals().0 as usize, arrivals.len() - 1, "all but the one that was cut");
}
