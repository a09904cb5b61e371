//! What all hosts of one simulated world share: the seed, the history, what is known from outside.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use flyball_core::ambient::Ambient;
use flyball_core::lease::BootInstant;
use flyball_tests::history::{Event, Writer};
use jiff::{SignedDuration, Timestamp};

use crate::chance::Chance;
use crate::scenes::Shape;
use crate::surgeon::Lies;
use crate::traps::Traps;
use crate::view::View;

/// Time to live of workers' leases.
pub(crate) const TTL: Duration = Duration::from_secs(4);
/// Of the leader's.
pub(crate) const ELECTION_TTL: Duration = Duration::from_secs(4);
/// From a deadline until everything must be dead.
pub(crate) const KILL_BUDGET: Duration = Duration::from_millis(500);
/// Runs at a time per node.
pub(crate) const SLOTS: u32 = 3;

/// What only the world itself can do to its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Crash(&'static str),
    Bounce(&'static str),
}

/// One world.
pub(crate) struct Site {
    pub(crate) seed: u64,
    pub(crate) lies: Lies,
    pub(crate) traps: Traps,
    pub(crate) shape: Shape,
    pub(crate) store_dir: PathBuf,
    history: Writer,
    view: Mutex<View>,
    ops: AtomicU64,
    orders: Mutex<Vec<Order>>,
}

/// Time since the beginning of the world.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Site {
    pub(crate) fn new(
        seed: u64,
        shape: Shape,
        history: &Path,
        store_dir: &Path,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            seed,
            lies: Lies::new(seed),
            traps: Traps::default(),
            shape,
            store_dir: store_dir.to_owned(),
            history: Writer::create(history)?,
            view: Mutex::default(),
            ops: AtomicU64::new(1),
            orders: Mutex::default(),
        }))
    }

    /// Has the world do this before its next step.
    pub(crate) fn order(&self, order: Order) {
        self.orders.lock().expect("whole").push(order);
    }

    /// What is to be done now.
    pub(crate) fn take_orders(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock().expect("whole"))
    }

    /// What the harness knows, beside the code under test.
    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("nobody panics inside")
    }

    /// Writes down what is seen now.
    pub(crate) fn saw(&self, event: Event) {
        self.saw_at(now(), event);
    }

    pub(crate) fn saw_at(&self, at: Duration, event: Event) {
        self.history.write(u64::try_from(at.as_micros()).expect("short"), event);
    }

    pub(crate) fn bite(&self, what: &str) {
        self.saw(Event::Bite { what: what.to_owned() });
    }

    /// A number for a client's call.
    pub(crate) fn next_op(&self) -> u64 {
        self.ops.fetch_add(1, Ordering::Relaxed)
    }

    /// Times for people and chance of one host.
    pub(crate) fn ambient(&self, host: &str) -> Ambient {
        let chance = Chance::new(self.seed, host);
        Ambient::new(wall_clock, move || chance.next())
    }
}

fn wall_clock() -> Timestamp {
    // 2026-01-01; any fixed day will do.
    let begin = Timestamp::from_second(1_767_225_600).expect("in range");
    begin + SignedDuration::try_from(now()).expect("in range")
}

/// A machine's clock since its boot: begins somewhere and runs a little fast or slow, within the drift
/// that deadlines allow for.
#[derive(Clone, Copy)]
pub(crate) struct BootClock {
    began_ms: u64,
    /// Millionths that it is fast.
    fast_ppm: i64,
}

impl BootClock {
    pub(crate) fn new(chance: &Chance) -> Self {
        let fast_ppm = chance.between(0, 10_000).cast_signed() - 5_000;
        Self { began_ms: chance.between(1_000, 1_000_000), fast_ppm }
    }

    pub(crate) fn now(self) -> BootInstant {
        let micros = i64::try_from(now().as_micros()).expect("short");
        let micros = micros + micros / 1_000_000 * self.fast_ppm;
        BootInstant(self.began_ms + micros.unsigned_abs() / 1000)
    }
}
