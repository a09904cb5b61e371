//! Agents and checks that hang, crash, flood, cannot be started or leave processes behind.

use std::time::Duration;

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use serde_json::json;

use crate::support::{ended, healthy, list, manifest, processes, spec, url};

#[test]
fn agents_that_end_badly() {
    let cluster = Cluster::start(Options { slots: 8, ..Options::default() });
    let repo = list(&["a"]);
    let apply = |name: &str, agent: serde_json::Value| {
        let mut spec = spec(&url(&repo), agent, json!("test -f result.txt"));
        // Sets that do not overlap, so that all run at the same time.
        spec["owns"] = json!([format!("{name}/**")]);
        spec["checks"][0]["run"] = json!(format!("test -f {name}/result"));
        cluster.apply(&manifest(name, &spec));
    };
    apply("crashes", json!("kill -SEGV $$"));
    apply("no-program", json!(["/nonexistent/agent", "--now"]));
    apply("not-found", json!("no-such-agent-program"));
    // What a crashing agent has changed is judged like any change.
    apply(
        "works-then-crashes",
        json!(
            "mkdir -p $(basename $FLYBALL_LOOP); touch $(basename $FLYBALL_LOOP)/result; kill -KILL $$"
        ),
    );

    let status = ended(&cluster, "crashes", Phase::Unreachable, Reason::NoProgress);
    assert_eq!(status.progress.iterations, 2);
    assert!(status.evidence.iter().any(|line| line.contains("signal 11")), "{status:#?}");
    let status = ended(&cluster, "no-program", Phase::Failed, Reason::AgentCannotStart);
    assert!(status.message.contains("No such file"), "{}", status.message);
    let status = ended(&cluster, "not-found", Phase::Unreachable, Reason::NoProgress);
    assert!(status.evidence.iter().any(|line| line.contains("exit 127")), "{status:#?}");
    ended(&cluster, "works-then-crashes", Phase::Converged, Reason::None);
    healthy(&cluster, "healthy");
}

#[test]
fn a_program_that_runs_do_not_see_is_told_with_what_to_do() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    // Not below what runs share with a test, and not in a directory that they see.
    let dir = tempfile::Builder::new().prefix("fbhidden").tempdir_in("/var/tmp").unwrap();
    let (hidden, shown) = (dir.path().join("hidden"), dir.path().join("shown"));
    for place in [&hidden, &shown] {
        std::fs::create_dir(place).unwrap();
        std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = hidden.join("fbagent");
    std::fs::write(&program, "#!/bin/sh\ntouch result.txt\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink(&program, shown.join("fblinked")).unwrap();
    let path = format!("{}:{}", std::env::var("PATH").unwrap(), shown.display());
    let env = vec![("PATH".to_owned(), path)];
    let start = |arguments: &[String]| {
        let worker_args = arguments.to_vec();
        Cluster::start(Options { env: env.clone(), worker_args, ..Options::default() })
    };
    let repo = list(&["a"]);
    let apply = |cluster: &Cluster, name: &str, agent: serde_json::Value| {
        cluster.apply(&manifest(name, &spec(&url(&repo), agent, json!("test -f result.txt"))));
    };
    let commands = [
        ("linked", json!("cd . && fblinked --print")),
        ("by-path", json!(format!("{} --print", program.display()))),
        ("direct", json!([program.display().to_string(), "--print"])),
    ];
    let cluster = start(&[]);
    for (name, agent) in &commands {
        apply(&cluster, name, agent.clone());
        let status = ended(&cluster, name, Phase::Failed, Reason::AgentCannotStart);
        let advice = format!("--show {}", hidden.display());
        assert!(status.message.contains(&advice), "{name}: {}", status.message);
    }
    let mut checks = spec(&url(&repo), json!("touch x"), json!("fblinked"));
    checks["owns"] = json!(["x"]);
    cluster.apply(&manifest("check", &checks));
    let status = ended(&cluster, "check", Phase::Failed, Reason::CheckCannotStart);
    assert!(status.message.contains("--show "), "{}", status.message);
    drop(cluster);
    // And what it says helps.
    let cluster = start(&[format!("--show={}", hidden.display())]);
    for (name, agent) in &commands {
        apply(&cluster, name, agent.clone());
        ended(&cluster, name, Phase::Converged, Reason::None);
    }
}

#[test]
fn checks_that_end_badly() {
    let cluster = Cluster::start(Options { slots: 8, ..Options::default() });
    let repo = list(&["a"]);
    let touch = json!("date +%N > result.txt");
    let mut hangs = spec(&url(&repo), touch.clone(), json!("sleep 1000"));
    hangs["checks"][0]["timeout"] = json!("300ms");
    hangs["owns"] = json!(["result.txt"]);
    cluster.apply(&manifest("hangs", &hangs));
    let mut missing = spec(&url(&repo), touch, json!(["/nonexistent/check"]));
    missing["owns"] = json!(["other/**"]);
    cluster.apply(&manifest("missing", &missing));

    let status = ended(&cluster, "hangs", Phase::Unreachable, Reason::NoProgress);
    assert!(status.evidence.iter().any(|line| line.contains("timeout")), "{status:#?}");
    assert_eq!(processes(&cluster, "hangs"), Vec::<String>::new());
    let status = ended(&cluster, "missing", Phase::Failed, Reason::CheckCannotStart);
    assert!(status.message.contains("No such file"), "{}", status.message);
    healthy(&cluster, "healthy");
}

#[test]
fn floods_are_bounded_and_leftovers_are_killed() {
    let cluster = Cluster::start(Options { slots: 8, ..Options::default() });
    let repo = list(&["a"]);
    let flood = "head -c 20000000 /dev/zero | tr '\\0' x; touch flood.txt";
    let mut floods = spec(&url(&repo), json!(flood), json!("test -f flood.txt"));
    floods["owns"] = json!(["flood.txt"]);
    cluster.apply(&manifest("floods", &floods));
    // A child in a new session, a grandchild of two dead parents, and one that ignores signals.
    let breed = "setsid sleep 1000 & (setsid sh -c 'sleep 1000 & exit 0' &) ; \
                 (trap '' TERM HUP INT; while :; do sleep 1000; done) & touch breed.txt";
    let mut breeds = spec(&url(&repo), json!(breed), json!("test -f breed.txt"));
    breeds["owns"] = json!(["breed.txt"]);
    cluster.apply(&manifest("breeds", &breeds));

    ended(&cluster, "floods", Phase::Converged, Reason::None);
    let log = cluster.cli(&["logs", "floods", "--iteration", "1", "--stream", "agent"]);
    let bytes = log.stdout.len();
    assert!((1_000_000..3_000_000).contains(&bytes), "{bytes} bytes of output are kept");
    ended(&cluster, "breeds", Phase::Converged, Reason::None);
    assert_eq!(processes(&cluster, "breeds"), Vec::<String>::new());
    healthy(&cluster, "healthy");
    assert_eq!(std::fs::read_dir(cluster.node_dir("n1").join("runs")).unwrap().count(), 0);
}

#[test]
fn an_agent_that_hangs_is_ended_at_its_limit_and_its_work_is_judged() {
    let cluster = Cluster::start(Options::default());
    let repo = list(&["a"]);
    let agent = "touch result.txt; sleep 1000";
    let mut hangs = spec(&url(&repo), json!(agent), json!("test -f result.txt"));
    hangs["agent"]["timeout"] = json!("500ms");
    cluster.apply(&manifest("hangs", &hangs));
    let status = ended(&cluster, "hangs", Phase::Converged, Reason::None);
    assert_eq!(status.progress.iterations, 1);
    assert_eq!(processes(&cluster, "hangs"), Vec::<String>::new());
    // Wall time ends a loop whose agent would take all of it, and the agent with it.
    let mut slow = spec(&url(&repo), json!("sleep 1000"), json!("false"));
    slow["governor"]["wallTime"] = json!("2s");
    cluster.apply(&manifest("slow", &slow));
    cluster.wait("slow", "over", Duration::from_secs(30), |status| status.phase.is_terminal());
    ended(&cluster, "slow", Phase::Exhausted, Reason::WallTime);
    assert_eq!(processes(&cluster, "slow"), Vec::<String>::new());
}
