//! One world from its beginning to its end.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use flyball_tests::history::Event;
use turmoil::Sim;

use crate::client;
use crate::faults::Plan;
use crate::scenes::{Scene, Shape};
use crate::site::{KILL_BUDGET, Order, SLOTS, Site, TTL};
use crate::stage::Stage;
use crate::{SCHEDULERS, WORKERS, etcd, git, log, scheduler, worker};

/// Faults begin when everything has started.
const FAULTS_FROM: Duration = Duration::from_secs(3);
/// No script plays longer than this, from the beginning of its world.
const PLAY_MAX: Duration = Duration::from_secs(120);
/// Within this time after the last fault every loop must have ended.
pub(crate) const SETTLE: Duration = Duration::from_secs(90);

/// What to run.
pub(crate) struct Wanted {
    pub(crate) seed: u64,
    /// The script that is played instead of clients and random faults.
    pub(crate) scene: Option<&'static Scene>,
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
    /// Whether the moment came that the script is about; why not.
    pub(crate) played: Result<(), String>,
}

/// How a script ended; nothing while it plays.
type Played = Arc<Mutex<Option<Result<(), String>>>>;

/// Runs a world and writes its history.
pub(crate) fn run(wanted: &Wanted) -> Result<Ran, String> {
    let _logging = wanted.log.as_deref().map(|log| log::to_file(log, wanted.trace));
    let store = store_dir()?;
    let shape = wanted.scene.map_or_else(Shape::default, |scene| scene.shape);
    let site = Site::new(wanted.seed, shape, &wanted.history, store.path())
        .map_err(|error| error.to_string())?;
    site.saw_at(Duration::ZERO, start(wanted));
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
    match wanted.scene {
        Some(scene) => run_scene(sim, &site, scene),
        None => run_random(sim, &site, wanted),
    }
}

/// Clients that submit by chance, and faults that are drawn.
fn run_random(mut sim: Sim<'_>, site: &Arc<Site>, wanted: &Wanted) -> Result<Ran, String> {
    client::add(&mut sim, site, wanted.span);
    let mut plan = Plan::new(wanted.seed, FAULTS_FROM, wanted.span);
    let over = plan.over().max(wanted.span);
    loop {
        plan.advance(&mut sim, site);
        sim.step().map_err(|error| format!("a host failed: {error}"))?;
        let elapsed = sim.elapsed();
        let settled = elapsed > over && {
            let view = site.view();
            view.acknowledged.len() as u64 == client::loops_in(wanted.span)
                && view.acknowledged.iter().all(|key| view.is_over(key))
        };
        if settled || elapsed > over + SETTLE + Duration::from_secs(5) {
            end(site, elapsed);
            return Ok(Ran { simulated: elapsed, played: Ok(()) });
        }
    }
}

/// A script instead.
fn run_scene(mut sim: Sim<'_>, site: &Arc<Site>, scene: &'static Scene) -> Result<Ran, String> {
    site.traps.expect();
    let played = Played::default();
    let (told, on) = (played.clone(), site.clone());
    sim.host("client", move || {
        let (told, on) = (told.clone(), on.clone());
        async move {
            let how = (scene.play)(Stage::new(&on)).await;
            *told.lock().expect("whole") = Some(how);
            Ok(())
        }
    });
    let longest = PLAY_MAX + SETTLE;
    loop {
        for order in site.take_orders() {
            match order {
                Order::Crash(host) => sim.crash(host),
                Order::Bounce(host) => sim.bounce(host),
            }
        }
        sim.step().map_err(|error| format!("a host failed: {error}"))?;
        let (elapsed, how) = (sim.elapsed(), played.lock().expect("whole").clone());
        if how.is_some() || elapsed > longest {
            end(site, elapsed);
            let played = how.unwrap_or_else(|| Err("the script did not end".to_owned()));
            return Ok(Ran { simulated: elapsed, played });
        }
    }
}

fn end(site: &Site, at: Duration) {
    let unfinished = site.view().given_up.iter().cloned().collect();
    site.saw_at(at, Event::End { unfinished });
}

fn start(wanted: &Wanted) -> Event {
    let scene = wanted.scene.map(|scene| format!("scene {}", scene.name));
    Event::Start {
        scenario: scene.unwrap_or_else(|| "sim".to_owned()),
        seed: wanted.seed,
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
