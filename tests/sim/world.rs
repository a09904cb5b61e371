//! One world from its beginning to its end.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use flyball_tests::history::Event;

use crate::client;
use crate::faults::Plan;
use crate::site::{KILL_BUDGET, SLOTS, Site, TTL};
use crate::{SCHEDULERS, WORKERS, etcd, git, log, scheduler, worker};

/// Faults begin when everything has started.
const FAULTS_FROM: Duration = Duration::from_secs(3);
/// Within this time after the last fault every loop must have ended.
pub(crate) const SETTLE: Duration = Duration::from_secs(90);

/// What to run.
pub(crate) struct Wanted {
    pub(crate) seed: u64,
    /// How long faults go on.
    pub(crate) span: Duration,
    pub(crate) history: PathBuf,
    pub(crate) log: Option<PathBuf>,
    /// The log has the traces of every crate.
    pub(crate) trace: bool,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Time in the world.
    pub(crate) simulated: Duration,
}

/// Runs a world and writes its history.
pub(crate) fn run(wanted: &Wanted) -> Result<Ran, String> {
    let _logging = wanted.log.as_deref().map(|log| log::to_file(log, wanted.trace));
    let store = store_dir()?;
    let site = Site::new(wanted.seed, &wanted.history, store.path()).map_err(|e| e.to_string())?;
    site.saw_at(Duration::ZERO, start(wanted.seed));
    let mut sim = turmoil::Builder::new()
        .simulation_duration(Duration::from_secs(24 * 3600))
        .tick_duration(Duration::from_millis(4))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(8))
        .tcp_capacity(1 << 14)
        .epoch(SystemTime::UNIX_EPOCH)
        .enable_random_order()
        .rng_seed(wanted.seed)
        .build();
    etcd::add(&mut sim, &site);
    git::add(&mut sim, &site);
    SCHEDULERS.iter().for_each(|name| scheduler::add(&mut sim, &site, name));
    WORKERS.iter().for_each(|name| worker::add(&mut sim, &site, name));
    client::add(&mut sim, &site, wanted.span);
    let mut plan = Plan::new(wanted.seed, FAULTS_FROM, wanted.span);
    let over = plan.over().max(wanted.span);
    loop {
        plan.advance(&mut sim, &site);
        sim.step().map_err(|error| format!("a host failed: {error}"))?;
        let elapsed = sim.elapsed();
        let settled = elapsed > over && {
            let view = site.view();
            view.acknowledged.len() as u64 == client::loops_in(wanted.span)
                && view.acknowledged.iter().all(|key| view.is_over(key))
        };
        if settled || elapsed > over + SETTLE + Duration::from_secs(5) {
            site.saw_at(
                elapsed,
                Event::End { unfinished: site.view().given_up.iter().cloned().collect() },
            );
            return Ok(Ran { simulated: elapsed });
        }
    }
}

fn start(seed: u64) -> Event {
    Event::Start {
        scenario: "sim".to_owned(),
        seed,
        ttl_ms: u64::try_from(TTL.as_millis()).expect("short"),
        kill_budget_ms: u64::try_from(KILL_BUDGET.as_millis()).expect("short"),
        settle_ms: u64::try_from(SETTLE.as_millis()).expect("short"),
        slots: SLOTS,
    }
}

/// In memory where there is such a file system: the store's files are synced often.
fn store_dir() -> Result<tempfile::TempDir, String> {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).map_err(|error| error.to_string())
}
