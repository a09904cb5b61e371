//! What the demo knows of its loops, from the scheduler's stream.

use std::collections::BTreeMap;

use flyball_core::ids::NodeName;
use flyball_core::quantity::Distance;
use flyball_core::status::{LoopStatus, Phase};
use serde::Deserialize;

/// A loop as the demo shows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Row {
    pub(super) status: LoopStatus,
    /// Nodes it ran on, in order, without repeats in a row.
    pub(super) nodes: Vec<NodeName>,
    /// Distances measured, in order: the first observation, then one per iteration.
    pub(super) distances: Vec<Distance>,
    /// The last thing that happened.
    pub(super) last_event: String,
    /// Milliseconds of the demo's clock when it was applied and when it ended.
    pub(super) applied_ms: u64,
    pub(super) ended_ms: Option<u64>,
    /// Times its base moved under it and its accepted work was carried over and measured again.
    pub(super) rebases: u32,
    /// What `explain` said while it waited.
    pub(super) waited_for: Option<String>,
}

impl Row {
    /// True when nothing more happens to it.
    pub(super) fn has_ended(&self) -> bool {
        self.status.phase.is_terminal()
    }
}

#[derive(Deserialize)]
struct Object {
    status: LoopStatus,
}

/// All loops, by name.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) rows: BTreeMap<String, Row>,
    /// Order of the first appearance.
    pub(super) order: Vec<String>,
}

impl Board {
    /// A loop was applied.
    pub(super) fn on_applied(&mut self, name: &str, now_ms: u64) {
        self.order.push(name.to_owned());
        let row = Row { applied_ms: now_ms, ..Row::default() };
        self.rows.insert(name.to_owned(), row);
    }

    /// An object changed. Returns what changed in words, if it is worth a line.
    pub(super) fn on_object(&mut self, name: &str, json: &[u8], now_ms: u64) -> Option<String> {
        let status = serde_json::from_slice::<Object>(json).ok()?.status;
        let row = self.rows.get_mut(name)?;
        let before = std::mem::replace(&mut row.status, status);
        let now = &row.status;
        if now.phase.is_owned()
            && let Some(node) = &now.node
            && row.nodes.last() != Some(node)
        {
            row.nodes.push(node.clone());
        }
        let measured = now.progress.recent.last().filter(|last| {
            before.progress.recent.last().is_none_or(|known| known.number < last.number)
        });
        let (old, new) = (&before.progress.base, &now.progress.base);
        row.rebases += u32::from(old.is_some() && new.is_some() && old != new);
        if row.distances.is_empty() {
            row.distances.extend(now.progress.initial_distance);
        }
        row.distances.extend(measured.map(|last| last.after));
        if now.phase.is_terminal() && row.ended_ms.is_none() {
            row.ended_ms = Some(now_ms);
        }
        describe(&before, now)
    }

    /// True when every loop has ended.
    pub(super) fn all_ended(&self) -> bool {
        !self.rows.is_empty() && self.rows.values().all(Row::has_ended)
    }
}

fn describe(before: &LoopStatus, now: &LoopStatus) -> Option<String> {
    let node = now.node.as_ref().map(ToString::to_string).unwrap_or_default();
    if before.phase != now.phase {
        let place = if now.phase.is_owned() { format!(" on {node}") } else { String::new() };
        // An owned loop's message repeats its phase and node.
        let why = match &*now.message {
            "" => String::new(),
            _ if now.phase.is_owned() => String::new(),
            message => format!(": {message}"),
        };
        return Some(format!("{}{place}{why}", now.phase));
    }
    let (old, new) = (before.progress.recent.last(), now.progress.recent.last());
    if let Some(new) = new.filter(|new| old.is_none_or(|old| old.number < new.number)) {
        return Some(format!("iteration {} {:?}: {}", new.number, new.decision, new.reason));
    }
    (now.phase == Phase::Pending && before.message != now.message && !now.message.is_empty())
        .then(|| format!("waits: {}", now.message))
}
