//! Nodes that fail to start runs: each is left alone for a while, longer each time, so that neither it
//! nor the loops are driven in circles. Only the leader's memory: a new leader finds out by one start.

use std::collections::BTreeMap;

use flyball_core::ids::NodeName;
use flyball_core::lifecycle::node_pause;
use flyball_core::placement::Resting;
use flyball_core::status::{LoopStatus, Reason};
use jiff::{SignedDuration, Timestamp};

/// A node that has not failed for this long begins anew.
const FORGET_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// Nodes that failed to start runs; no more than there are nodes with claims.
#[derive(Debug, Default)]
pub(super) struct Rests {
    nodes: BTreeMap<NodeName, Rest>,
}

#[derive(Debug)]
struct Rest {
    faults: u32,
    until: Timestamp,
    /// Its end has been acted on.
    over: bool,
}

impl Rests {
    /// A run ended by this status: another failed start, or proof that the node starts things.
    pub(super) fn on_end(&mut self, status: &LoopStatus, now: Timestamp) {
        let Some(node) = &status.node else { return };
        let failed = matches!(status.reason, Reason::CannotStart | Reason::RunsLost);
        if status.start_faults == 0 || !failed {
            return;
        }
        self.nodes.retain(|_, rest| rest.until.duration_since(now).abs() < FORGET_AFTER);
        let until = now;
        let rest = self.nodes.entry(node.clone()).or_insert(Rest { faults: 0, until, over: false });
        rest.faults = rest.faults.saturating_add(1);
        rest.until = now.checked_add(node_pause(rest.faults)).unwrap_or(Timestamp::MAX);
        rest.over = false;
    }

    /// The node has started something. True if it was known for the contrary.
    pub(super) fn on_started(&mut self, node: &NodeName) -> bool {
        self.nodes.remove(node).is_some()
    }

    /// Whether a node rests now.
    pub(super) fn of(&self, node: &NodeName, now: Timestamp) -> Option<Resting> {
        let rest = self.nodes.get(node).filter(|rest| rest.until > now)?;
        // Rounded up: a rest that is not over is never shown as none.
        let left = rest.until.duration_since(now);
        let seconds = left.as_secs().saturating_add(i64::from(left.subsec_nanos() > 0));
        Some(Resting { faults: rest.faults, seconds: u64::try_from(seconds).unwrap_or(0) })
    }

    /// When the next one is over.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.nodes.values().filter(|rest| !rest.over).map(|rest| rest.until).min()
    }

    /// True once for each that is over by now.
    pub(super) fn fire(&mut self, now: Timestamp) -> bool {
        let mut fired = false;
        for rest in self.nodes.values_mut().filter(|rest| !rest.over && rest.until <= now) {
            rest.over = true;
            fired = true;
        }
        fired
    }

    /// Forgets all: this scheduler leads no more, or the clock was set.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
    }
}
