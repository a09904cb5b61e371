//! A model of the guard: it kills everything of a life at its deadline, some time within the kill
//! budget later, by the machine's own clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flyball_core::lease::BootInstant;
use flyball_core::planted::{self, Bug};
use flyball_tests::history::Event;
use flyball_worker::ground::Deadline;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::site::{BootClock, KILL_BUDGET, Site};

/// Longest sleep between two looks at the deadline.
const LOOK: Duration = Duration::from_millis(20);

/// The guard of one life.
pub(crate) struct Guard {
    site: Arc<Site>,
    node: String,
    clock: BootClock,
    /// How late it is to see a deadline pass, as on a busy machine.
    lag: Duration,
    deadline_ms: AtomicU64,
    /// Newest token of a run of this life.
    token_max: AtomicU64,
    /// Wakes in the order of waiting.
    killed: CancellationToken,
}

impl Guard {
    pub(crate) fn new(site: &Arc<Site>, node: &str, clock: BootClock, lag: Duration) -> Arc<Self> {
        Arc::new(Self {
            site: site.clone(),
            node: node.to_owned(),
            clock,
            lag,
            deadline_ms: AtomicU64::new(0),
            token_max: AtomicU64::new(0),
            killed: CancellationToken::new(),
        })
    }

    /// Resolves when everything is killed.
    pub(crate) fn killed(&self) -> WaitForCancellationFutureOwned {
        self.killed.clone().cancelled_owned()
    }

    pub(crate) fn on_run(&self, token: i64) {
        self.token_max.fetch_max(token.unsigned_abs(), Ordering::Relaxed);
    }

    /// Kills everything now.
    pub(crate) fn kill(&self) {
        self.killed.cancel();
    }

    fn is_over(&self) -> bool {
        let deadline = self.deadline_ms.load(Ordering::Relaxed);
        self.killed.is_cancelled() || (deadline != 0 && deadline <= self.clock.now().0)
    }

    /// Watches the deadline until it has killed everything.
    pub(crate) async fn watch(&self) {
        let mut passed = None;
        loop {
            if self.killed.is_cancelled() {
                return;
            }
            if !self.is_over() {
                // Only a planted bug gets here from a passed deadline.
                passed = None;
            } else if passed.is_none() {
                passed = Some(tokio::time::Instant::now());
                self.announce();
            }
            if passed.is_some_and(|passed| passed.elapsed() >= self.lag) {
                return self.kill();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The deadline has passed: after the kill budget nothing may be alive, whatever is said later.
    fn announce(&self) {
        let token_max = self.token_max.load(Ordering::Relaxed).cast_signed();
        if token_max == 0 {
            return;
        }
        let (site, node) = (self.site.clone(), self.node.clone());
        site.bite("a deadline passed");
        tokio::spawn(async move {
            // Both ends of the clock's grain and of the guard's look.
            tokio::time::sleep(KILL_BUDGET + LOOK * 2).await;
            site.saw(Event::DeadBy { node, token_max });
        });
    }
}

impl Deadline for Guard {
    fn extend(&self, until: BootInstant) -> bool {
        // As the page that real guards share with their worker.
        if self.is_over() && !planted::is(Bug::LateAnswerRevives) {
            return false;
        }
        self.deadline_ms.fetch_max(until.0, Ordering::Relaxed);
        true
    }
}
