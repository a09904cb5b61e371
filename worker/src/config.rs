//! What a worker is told at start: who it is, where the schedulers are, what it offers.

use std::path::PathBuf;
use std::time::Duration;

use flyball_core::ids::NodeName;
use flyball_core::model::PriceTable;
use flyball_core::node::NodeFacts;
use flyball_proto::transport::{Address, Credential};

use crate::offers::SandboxConfig;

/// Configuration of one worker process.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name, stable over restarts.
    pub node: NodeName,
    /// Where the node keeps clones, logs and its lock. One worker at a time.
    pub data_dir: PathBuf,
    /// Schedulers to try, in order, at least one.
    pub schedulers: Vec<Address>,
    /// What to show them.
    pub credential: Credential,
    /// Labels, capacity and slots.
    pub facts: NodeFacts,
    /// Program and arguments that start the guard.
    pub guard_command: Vec<String>,
    /// Lease time to live to ask for, seconds; `None` leaves it to the scheduler, whose own setting
    /// wins in any case. What is granted is read back and used.
    pub ttl_seconds: Option<i64>,
    /// Share of the TTL kept back for clocks that run at different speeds, in millionths.
    pub drift_ppm: u32,
    /// Time kept back to kill everything before the lease can end.
    pub kill_budget: Duration,
    /// Names of variables of the worker's environment that agents and checks may see.
    pub pass_env: Vec<String>,
    /// How runs are confined.
    pub sandbox: SandboxConfig,
    /// First part of the names of journal and run refs, `refs/flyball` unless a server forbids it.
    pub ref_prefix: String,
    /// How model calls are served.
    pub models: ModelsConfig,
}

/// What the operator of a node says about model calls.
#[derive(Debug, Clone)]
pub struct ModelsConfig {
    /// Prices of models for which their provider's definition has none.
    pub prices: PriceTable,
    /// Longest time a call waits for room in its provider's account, before its loop is parked.
    pub quota_wait: Duration,
    /// Where requests and answers are kept, one file a call; absent: nowhere.
    pub capture: Option<PathBuf>,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            prices: PriceTable::built_in().clone(),
            quota_wait: flyball_gateway::Config::default().quota_wait,
            capture: None,
        }
    }
}

/// Default drift bound: 2 % is far beyond any working clock's rate error.
pub const DRIFT_PPM_DEFAULT: u32 = 20_000;
/// Default kill budget; killing takes milliseconds, this covers a machine that is busy.
pub const KILL_BUDGET_DEFAULT: Duration = flyball_sandbox::KILL_BUDGET_DEFAULT;
/// Variables passed by default: what tool chains need to be found, and nothing secret.
pub const PASS_ENV_DEFAULT: [&str; 5] = ["PATH", "LANG", "LC_ALL", "TZ", "RUSTUP_TOOLCHAIN"];
/// Default first part of ref names.
pub const REF_PREFIX_DEFAULT: &str = "refs/flyball";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_are_shipped_with_a_price_have_it() {
        let prices = ModelsConfig::default().prices;
        let known = prices.models.keys().next().unwrap();
        assert!(prices.price_of(known).known);
    }
}
