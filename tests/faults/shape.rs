//! What a case wants of its fleet: how many of everything, how much work, and what agents do.

use std::path::PathBuf;
use std::time::Duration;

/// What to bring up.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) members: usize,
    pub(crate) schedulers: usize,
    pub(crate) workers: usize,
    /// Most runs at a time per worker.
    pub(crate) slots: u32,
    /// Time to live of workers' leases and of the leadership, seconds.
    pub(crate) ttl: u64,
    /// Loops; each two of them overlap, so that one has to wait for the other.
    pub(crate) loops: usize,
    /// Loops that are not submitted at the start.
    pub(crate) spare: usize,
    /// Items per loop: iterations that it takes.
    pub(crate) items: usize,
    /// How long the agent works on each, milliseconds.
    pub(crate) agent_ms: u64,
    /// What the agents do, as [`super::work`] names it.
    pub(crate) agent: &'static str,
    /// Whether checks have a secret, and everything is searched for what must not be there: it takes seconds.
    pub(crate) secret: bool,
    /// Whether the repository is reached through a server, which can be killed.
    pub(crate) served: bool,
    /// Further arguments of every etcd member.
    pub(crate) etcd: Vec<&'static str>,
    /// Further arguments of every worker.
    pub(crate) worker: Vec<String>,
    /// Command in front of every worker's own.
    pub(crate) wrap: Vec<String>,
    /// Further environment of every process.
    pub(crate) env: Vec<(String, String)>,
    /// An earlier version of the program, which all processes are of until they are upgraded.
    pub(crate) earlier: Option<PathBuf>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            members: 3,
            schedulers: 2,
            workers: 2,
            slots: 4,
            ttl: 2,
            loops: 3,
            spare: 0,
            items: 6,
            agent_ms: 200,
            agent: "agent",
            secret: false,
            served: false,
            etcd: Vec::new(),
            worker: Vec::new(),
            wrap: Vec::new(),
            env: Vec::new(),
            earlier: None,
        }
    }
}

impl Shape {
    /// Lease time to live.
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl)
    }

    /// What workers keep back to kill in: an eighth of a short lease, as the program does.
    pub(crate) fn kill_budget(&self) -> Duration {
        Duration::from_millis(500).min(self.ttl() / 8)
    }
}
