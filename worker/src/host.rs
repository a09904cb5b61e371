//! What this node's host lets it do, told with each registration.

use flyball_core::node::Abilities;
use flyball_sandbox::{Guard, HostFacts};

use crate::config::Config;

/// What a guard has, and what the host offers.
pub(crate) async fn abilities(guard: &Guard, config: &Config) -> Abilities {
    let kill_budget_ms = u64::try_from(config.kill_budget.as_millis()).unwrap_or(u64::MAX);
    let offers = config.sandbox.offers(&guard.abilities().missing_layers);
    Abilities { drift_ppm: config.drift_ppm, kill_budget_ms, offers, ..of_guard(guard).await }
}

/// The same without the margins, which are the configuration's.
pub(crate) async fn of_guard(guard: &Guard) -> Abilities {
    let (has, host) = (guard.abilities(), HostFacts::read());
    Abilities {
        containment: has.to_string(),
        weaker_because: has.weaker_because.clone(),
        missing_layers: has.missing_layers.clone(),
        bounds: has.bounds(),
        confines: true,
        memory_locked: has.memory_locked,
        priority_raised: has.priority_raised,
        oom_protected: has.oom_protected,
        landlock_abi: host.landlock_abi,
        seccomp: host.seccomp,
        user_namespaces: host.user_namespaces,
        cgroup2: host.cgroup2.is_some(),
        kernel: host.kernel,
        git: git_version().await.unwrap_or_default(),
        ..Abilities::default()
    }
}

/// Version of git; `None` if it cannot be run.
pub(crate) async fn git_version() -> Option<String> {
    let output = flyball_sandbox::command("git").arg("--version").output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let version = text.trim().strip_prefix("git version ")?;
    output.status.success().then(|| version.to_owned())
}
