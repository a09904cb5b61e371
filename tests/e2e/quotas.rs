//! Three workers share a provider's account, and one of them dies with a slice of it in hand. Whether the account's
//! limit holds is judged by what the provider itself has counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flyball_core::model::QUOTA_VALID;
use flyball_core::status::Phase;
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::provider::{Asked, Provider, Reply};
use serde_json::json;

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

/// Whether somebody finds no room in the account.
fn somebody_waits(cluster: &Cluster) -> Option<()> {
    let quotas = cluster.json(&["quota", "list", "-o", "json"]);
    let quota = quotas.get(0).or_else(|| quotas["items"].get(0)).unwrap_or(&quotas);
    let waiting = quota["waiting"].as_array()?;
    waiting
        .iter()
        .any(|one| OTHERS.iter().any(|name| one["of"] == format!("default/{name}")))
        .then_some(())
}

#[test]
fn a_shared_account_is_never_overdrawn_and_a_dead_workers_slice_returns_a_window_later() {
    let account = Account::default();
    let provider = Provider::start({
        let account = account.clone();
        move |asked| account.answer(asked)
    });
    let mut cluster = Cluster::start(Options {
        workers: 3,
        slots: 1,
        scheduler_args: vec![format!("--quota-window={}", QUOTA_WINDOW.as_secs())],
        ..Options::default()
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
    let node = cluster.status(LOST.0).unwrap().node.unwrap().to_string();
    account.killed.store(true, Ordering::SeqCst);
    let killed = Instant::now();
    cluster.workers.get_mut(&node).unwrap().kill();

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
