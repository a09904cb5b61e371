//! Whether a run's model calls may still have effects: until its deadline, and no longer than it owns its loop.

use std::time::Duration;

use flyball_core::model::Fence;
use flyball_sandbox::Extender;
use tokio::sync::watch;

use crate::runs::Stop;

/// The deadline of the life that a run belongs to, and whether the run was told to stop.
pub(super) struct RunFence {
    pub(super) deadline: Extender,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Fence for RunFence {
    fn left(&self) -> Option<Duration> {
        // From here on its steps are killed: what they still ask for is not theirs any more.
        if *self.stop.borrow() >= Stop::Evict {
            return None;
        }
        self.deadline.left()
    }
}
