//! A loop around one agent: a repository with a failing test, a provider by script, a route to it, and what is
//! known of all of them when the loop has ended.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use flyball_core::model::{AgentAccount, Amount, ModelPrice, Money, Protocol};
use flyball_core::record::{IterationRecord, JournalEntry, JournalRecord};
use flyball_core::status::{LoopStatus, Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::provider::{Provider, Reply};
use flyball_tests::repo::Repo;
use serde_json::json;

use crate::install::Installed;

/// The key that only the gateway has.
const PROVIDER_KEY: &str = "sk-only-the-gateway-has-this-0123456789";
/// What the provider charges.
pub(crate) const PRICE: ModelPrice = ModelPrice {
    input: Money::from_dollars(3),
    output: Money::from_dollars(15),
    cache_read: Some(Money(300_000)),
    cache_write: Some(Money(3_750_000)),
    cache_write_1h: None,
    reasoning: None,
    web_search: None,
    long: None,
    hidden_reasoning: None,
};

/// What is run.
pub(crate) struct Setting<'a> {
    /// The agent's name.
    pub(crate) agent: &'a str,
    /// What the provider speaks.
    pub(crate) protocol: Protocol,
    pub(crate) installed: Option<&'a Installed>,
    /// What the model answers, turn by turn.
    pub(crate) turns: Vec<Reply>,
}

/// What came of it.
pub(crate) struct Ended {
    /// What the agent said of itself, and what the gateway metered.
    pub(crate) account: AgentAccount,
    pub(crate) note: String,
}

/// Runs a loop to its end, which must be `Converged` after one iteration, and compares every count: that of the
/// provider, of the gateway, of the budget.
pub(crate) fn converges(setting: Setting<'_>) -> Ended {
    let Scene { provider, repo, cluster } = Scene::new(&setting, 100);
    let status = cluster.wait("mend", "over", WAIT_MAX, |status| status.phase.is_terminal());
    assert_eq!(status.phase, Phase::Converged, "{status:#?}\n{}", told(&cluster, &provider));
    assert_eq!(status.progress.iterations, 1, "{}", told(&cluster, &provider));
    assert!(repo.file("flyball/mend", "add.sh").contains("$1 + $2"));

    let record = iteration(&repo);
    let account = *record.agent_run.clone().unwrap();
    let (calls, usage) = provider.totals();
    assert!(calls > 0);
    assert_eq!(account.metered, Some(usage), "the gateway's count\n{}", told(&cluster, &provider));
    let served = provider.served();
    let served = served.iter().filter(|one| one.status == 200 && one.asked.protocol.is_some());
    let money = served.fold(0, |sum, one| sum + PRICE.cost(&one.usage).0);
    let spent = Amount { tokens: usage.tokens(), money: Money(money), calls };
    assert_eq!(spent_by_budget(&cluster), spent, "{}", told(&cluster, &provider));
    for one in provider.served().iter().filter(|one| one.asked.protocol.is_some()) {
        assert_eq!(one.asked.key(), Some(PROVIDER_KEY), "the agent's own key went out");
    }
    let said = cluster.cli(&["logs", "mend"]);
    assert!(!String::from_utf8_lossy(&said.stdout).contains(PROVIDER_KEY));
    Ended { account, note: record.agent_note }
}

/// Runs a loop whose budget has room for two calls of the many that it takes: it is parked, with nothing asked beyond
/// them, and goes on to its end when the budget is raised.
pub(crate) fn parks_and_goes_on(setting: Setting<'_>) {
    let Scene { provider, repo, cluster } = Scene::new(&setting, 2);
    let parked = |status: &LoopStatus| status.reason == Reason::Budget;
    cluster.wait("mend", "parked for its budget", WAIT_MAX, parked);
    assert_eq!(provider.totals().0, 2, "{}", told(&cluster, &provider));
    let extended = cluster.cli(&["budget", "extend", "mend", "--calls", "50"]);
    assert!(extended.status.success(), "{}", String::from_utf8_lossy(&extended.stderr));
    let over = |status: &LoopStatus| status.phase.is_terminal();
    let status = cluster.wait("mend", "over", WAIT_MAX, over);
    assert_eq!(status.phase, Phase::Converged, "{status:#?}\n{}", told(&cluster, &provider));
    assert!(repo.file("flyball/mend", "add.sh").contains("$1 + $2"));
    let (calls, usage) = provider.totals();
    let spent = spent_by_budget(&cluster);
    let told = || told(&cluster, &provider);
    assert_eq!((spent.calls, spent.tokens), (calls, usage.tokens()), "{}", told());
}

/// Runs a loop whose provider's account is at its limit in the middle of the agent's work, for longer than a call waits:
/// the agent ends at once, the loop is parked, and goes on to its end by itself.
pub(crate) fn waits_and_goes_on(setting: Setting<'_>) {
    let turns = setting.turns.clone();
    let limits = AtomicUsize::new(0);
    let provider = Provider::start(move |asked| {
        let works = asked.turn() == 1 && !asked.tools().is_empty();
        match works && limits.fetch_add(1, Ordering::SeqCst) == 0 {
            true => Reply::status(429, Some(3)),
            false => Provider::turn_of(&turns, asked),
        }
    });
    let Scene { provider, repo, cluster } = Scene::with(provider, &setting, 100);
    let parked = |status: &LoopStatus| status.reason == Reason::Quota;
    cluster.wait("mend", "parked for quota", WAIT_MAX, parked);
    let over = |status: &LoopStatus| status.phase.is_terminal();
    let status = cluster.wait("mend", "over", WAIT_MAX, over);
    assert_eq!(status.phase, Phase::Converged, "{status:#?}\n{}", told(&cluster, &provider));
    assert_eq!(status.progress.iterations, 1, "{}", told(&cluster, &provider));
    assert!(repo.file("flyball/mend", "add.sh").contains("$1 + $2"));
    let served = provider.served();
    let limited = served.iter().filter(|one| one.status == 429).count();
    assert_eq!(limited, 1, "nobody asks again: {}", told(&cluster, &provider));
    let (calls, usage) = provider.totals();
    let spent = spent_by_budget(&cluster);
    let told = || told(&cluster, &provider);
    assert_eq!((spent.calls, spent.tokens), (calls, usage.tokens()), "{}", told());
}

struct Scene {
    provider: Provider,
    repo: Repo,
    cluster: Cluster,
}

impl Scene {
    /// All of it, with the loop applied.
    fn new(setting: &Setting<'_>, calls: u64) -> Self {
        Self::with(Provider::turns(setting.turns.clone()), setting, calls)
    }

    fn with(provider: Provider, setting: &Setting<'_>, calls: u64) -> Self {
        let test =
            ". ./add.sh\ntest \"$(add 2 3)\" = 5 && echo ok add || { echo FAILED add; exit 1; }\n";
        let repo = Repo::with(&[("add.sh", "add() { echo $(($1 - $2)); }\n"), ("test.sh", test)]);
        let cluster = Cluster::start(options(setting.installed));
        provide(&cluster, &provider.base(setting.protocol), setting.protocol);
        cluster.apply(&manifest(setting.agent, &repo, calls));
        Self { provider, repo, cluster }
    }
}

/// Longest wait for a loop; Node and Python start slowly on a busy machine.
pub(crate) const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(180);

/// Calls do not wait for quota for long.
const QUOTA_WAIT: &str = "--quota-wait=1";

fn options(installed: Option<&Installed>) -> Options {
    let Some(installed) = installed else { return Options::default() };
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let show = installed.show.iter().map(|dir| format!("--show={}", text(dir)));
    let own = std::env::var("PATH").unwrap_or_default();
    let path: Vec<String> = installed.path.iter().map(|dir| text(dir)).chain([own]).collect();
    Options {
        worker_args: show.chain([QUOTA_WAIT.to_owned()]).collect(),
        env: vec![("PATH".to_owned(), path.join(":"))],
        ..Options::default()
    }
}

/// Gives a cluster its one provider, at a base URL, with a key and a route.
pub(crate) fn provide(cluster: &Cluster, base: &str, protocol: Protocol) {
    let set = ["secret", "set", "provider", "--from-file", "-"];
    let set = cluster.cli_with_input(&set, PROVIDER_KEY);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    cluster.apply(&definitions(base, protocol));
}

fn definitions(base: &str, protocol: Protocol) -> String {
    let provider = json!({
        "apiVersion": "flyball.dev/v1", "kind": "Provider", "metadata": {"name": "scripted"},
        "spec": {
            "baseUrl": base,
            "protocols": [protocol],
            "auth": {
                "secret": {"name": "provider"},
                "scheme": if protocol == Protocol::Anthropic { "xApiKey" } else { "bearer" },
            },
            "prices": {"served-1": PRICE},
        },
    });
    let route = json!({
        "apiVersion": "flyball.dev/v1", "kind": "ModelRoute", "metadata": {"name": "all"},
        "spec": {"tiers": [{
            "name": "only", "deployments": [{"provider": "scripted", "model": "served-1"}],
        }]},
    });
    format!("{provider}\n---\n{route}\n")
}

fn manifest(agent: &str, repo: &Repo, calls: u64) -> String {
    json!({
        "apiVersion": "flyball.dev/v1", "kind": "Loop", "metadata": {"name": "mend"},
        "spec": {
            "goal": "Make test.sh pass. The fault is in add.sh.",
            "workspace": {"git": {"url": repo.path(), "ref": "main"}},
            "owns": ["add.sh"],
            "pins": ["test.sh"],
            "checks": [{"name": "test", "run": "sh test.sh"}],
            "agent": {"use": agent},
            "budget": {"tokens": 10_000_000, "money": "100 USD", "calls": calls},
            "governor": {"iterations": 2, "backoff": {"initial": "10ms", "max": "10ms"}},
        },
    })
    .to_string()
}

/// The record of the only iteration, from the journal.
pub(crate) fn iteration(repo: &Repo) -> IterationRecord {
    let journal = repo.journals().pop().unwrap();
    let bodies = repo.git(&["log", "--first-parent", "--format=%b%x00", &journal]);
    let mut records = bodies.split('\0').filter_map(|body| {
        let record: JournalRecord = serde_json::from_str(body.trim()).ok()?;
        match record.entry {
            JournalEntry::Iteration(record) => Some(*record),
            _ => None,
        }
    });
    // The oldest record is the last one.
    records.next_back().unwrap()
}

/// What the loop's budget says is spent.
pub(crate) fn spent_by_budget(cluster: &Cluster) -> Amount {
    let budget = cluster.json(&["budget", "get", "mend", "-o", "json"]);
    serde_json::from_value(budget["spent"].clone()).unwrap()
}

/// Everything that helps to understand a failure.
fn told(cluster: &Cluster, provider: &Provider) -> String {
    let logs = cluster.cli(&["logs", "mend"]);
    let asked: Vec<String> = provider
        .served()
        .iter()
        .map(|one| {
            format!("{} {} {} {:?}", one.asked.method, one.asked.path, one.status, one.usage)
        })
        .collect();
    format!(
        "asked of the provider:\n{}\nlogs of the loop:\n{}\n{}",
        asked.join("\n"),
        String::from_utf8_lossy(&logs.stdout),
        cluster.logs()
    )
}
