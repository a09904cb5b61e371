//! A real, small language model behind the gateway: genuine streams, a token at a time, of which the model's server
//! counts every one. It runs only when it is asked for (`--real-model`), since it fetches a model and takes minutes of
//! processor time.

mod server;

use flyball_core::model::{AgentEnding, Amount, Protocol, Usage};
use flyball_core::status::{LoopStatus, Phase};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::Repo;
use serde_json::json;

use crate::scene;
use server::Server;

/// The tests by name.
pub(crate) const CASES: [(&str, fn()); 2] = [
    ("real_model_is_metered_to_the_token", metered),
    ("real_model_is_cut_off_in_mid_stream", cut_off),
];

/// Installs the model, and what runs it, into the cache.
pub(crate) fn install() -> Result<(), String> {
    server::install()
}

/// What the provider may give at most; far more than the model's answers have.
const OUTPUT_MAX: u64 = 1500;

/// The model writes a file with a tool and reports, made to by a grammar; the words are its own. The loop ends
/// converged, and what the gateway metered is what the server counted.
fn metered() {
    let server = Server::start();
    let repo = Repo::with(&[("start.txt", "start\n")]);
    let cluster = begin(&server, &repo, "Write a greeting to made.txt.");
    let over = |status: &LoopStatus| status.phase.is_terminal();
    let status = cluster.wait("mend", "over", scene::WAIT_MAX, over);
    assert_eq!(status.phase, Phase::Converged, "{status:#?}\n{}", told(&cluster, &server));
    assert!(!repo.file("flyball/mend", "made.txt").trim().is_empty());
    let calls = server.ended();
    assert_eq!(calls.len(), 2, "{}", told(&cluster, &server));
    assert!(calls.iter().all(|call| call.whole && call.completion > 0), "{calls:?}");
    let counted = Usage {
        input_total: calls.iter().map(|call| call.prompt).sum(),
        output_total: calls.iter().map(|call| call.completion).sum(),
        ..Usage::default()
    };
    let account = *scene::iteration(&repo).agent_run.clone().unwrap();
    assert_eq!(account.metered, Some(counted), "{}", told(&cluster, &server));
    assert_eq!((account.reported, account.tokens_off()), (Some(counted), Some(0)));
    assert_eq!((account.ending, account.turns, account.unread), (AgentEnding::Finished, 2, 0));
    let Amount { tokens, money, calls } = scene::spent_by_budget(&cluster);
    assert_eq!((tokens, calls), (counted.tokens(), 2));
    assert_eq!(money, scene::PRICE.cost(&counted));
    println!(
        "  metered: {} tokens of input and {} of output, as the model's server counted them",
        counted.input_total, counted.output_total
    );
}

/// The loop is cancelled while the model tells a long story: the server is cut off within some tokens, and what the
/// gateway charges is no less than what the model made.
fn cut_off() {
    let server = Server::start();
    let repo = Repo::with(&[("start.txt", "start\n")]);
    let cluster = begin(&server, &repo, "Tell a long story.");
    let before = server.until("the model tells", |server| {
        server.under_way().filter(|completion| *completion >= 16)
    });
    assert!(server.ended().is_empty(), "{}", told(&cluster, &server));
    let cancelled = cluster.cli(&["cancel", "mend"]);
    assert!(cancelled.status.success(), "{}", String::from_utf8_lossy(&cancelled.stderr));
    let call = server.until("the model is cut off", |server| server.ended().first().copied());
    assert!(!call.whole, "the story was told to its end: {call:?}");
    assert!(call.completion >= before && call.completion < OUTPUT_MAX, "{call:?}");
    let over = |status: &LoopStatus| status.phase.is_terminal();
    let status = cluster.wait("mend", "over", scene::WAIT_MAX, over);
    assert_eq!(status.phase, Phase::Cancelled, "{status:#?}\n{}", told(&cluster, &server));
    let spent = scene::spent_by_budget(&cluster);
    let most = call.prompt + call.completion;
    assert!(spent.tokens >= most, "{} charged of {most}", spent.tokens);
    assert_eq!(spent.calls, 1, "a call that was cut off is not made again");
    assert_eq!(server.ended().len(), 1);
    println!(
        "  cut off after {} tokens of output ({before} when it was cancelled); charged {} of {most}",
        call.completion, spent.tokens
    );
}

/// A cluster whose one loop is at work with the model.
fn begin(server: &Server, repo: &Repo, goal: &str) -> Cluster {
    let cluster = Cluster::start(Options::default());
    scene::provide(&cluster, &server.base(), Protocol::Chat);
    let manifest = json!({
        "apiVersion": "flyball.dev/v1", "kind": "Loop", "metadata": {"name": "mend"},
        "spec": {
            "goal": goal,
            "workspace": {"git": {"url": repo.path(), "ref": "main"}},
            "owns": ["made.txt"],
            "checks": [{"name": "made", "run": "test -s made.txt"}],
            "agent": {"use": "builtin", "args": ["--output-tokens", OUTPUT_MAX.to_string()]},
            "budget": {"tokens": 10_000_000, "money": "100 USD", "calls": 20},
            "governor": {"iterations": 1, "backoff": {"initial": "10ms", "max": "10ms"}},
        },
    });
    cluster.apply(&manifest.to_string());
    cluster
}

/// Everything that helps to understand a failure.
fn told(cluster: &Cluster, server: &Server) -> String {
    let logs = cluster.cli(&["logs", "mend"]);
    format!("{}\n{}\n{}", server.told(), String::from_utf8_lossy(&logs.stdout), cluster.logs())
}
