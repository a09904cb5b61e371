//! One watch: what it wants to see and how far it has read.

use crate::mvcc::{Change, State, span::Span};
use etcd_client::proto::{PbEvent, PbKeyValue};
use std::sync::Arc;

// The generated names of these enumerations are not exported by etcd-client.
const FILTER_NO_PUT: i32 = 0;
const FILTER_NO_DELETE: i32 = 1;
const EVENT_PUT: i32 = 0;
const EVENT_DELETE: i32 = 1;

/// Bytes of events after which a message is closed at the next revision. Well below the 4 MiB that
/// clients accept by default, even when one more revision of the largest size follows.
const MESSAGE_BYTES: usize = 1 << 20;

/// A registered watch.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: i64,
    pub(super) key: Vec<u8>,
    pub(super) range_end: Vec<u8>,
    pub(super) filters: Vec<i32>,
    pub(super) prev_kv: bool,
    pub(super) progress_notify: bool,
    /// First revision not read yet; may lie in the future.
    pub(super) next: i64,
    /// Whether something was sent since the last round of progress messages.
    pub(super) active: bool,
}

/// What reading found.
pub(super) enum Batch {
    /// Nothing to tell; everything published was read.
    Nothing,
    /// Events up to and including this revision.
    Events(i64, Vec<PbEvent>),
    /// What it should have read next is compacted.
    Compacted,
}

impl Watcher {
    /// Reads on, as far as one message goes.
    pub(super) fn read(&mut self, state: &State) -> Batch {
        if self.next > state.published {
            return Batch::Nothing;
        }
        if self.next < state.log.first() {
            return Batch::Compacted;
        }
        let mut events = Vec::new();
        let mut bytes = 0;
        for (revision, changes) in state.log.between(self.next, state.published) {
            self.next = revision + 1;
            for change in changes.iter().filter(|change| self.wants(change)) {
                let event = self.event(state, change);
                bytes += size(event.kv.as_ref()) + size(event.prev_kv.as_ref());
                events.push(event);
            }
            if bytes >= MESSAGE_BYTES {
                break;
            }
        }
        if events.is_empty() { Batch::Nothing } else { Batch::Events(self.next - 1, events) }
    }

    fn wants(&self, change: &Change) -> bool {
        let unwanted = if change.deleted { FILTER_NO_DELETE } else { FILTER_NO_PUT };
        Span::new(&self.key, &self.range_end).contains(&change.kv.key)
            && !self.filters.contains(&unwanted)
    }

    fn event(&self, state: &State, change: &Change) -> PbEvent {
        let kv = PbKeyValue::clone(&change.kv);
        let before = kv.mod_revision - 1;
        // A version before the compacted revision cannot be known any more and is left out.
        let known = self.prev_kv && before >= state.compacted;
        let prev_kv = if known && kv.create_revision != kv.mod_revision {
            state.index.get(&kv.key, before).map(|kv| PbKeyValue::clone(&Arc::clone(kv)))
        } else {
            None
        };
        let r#type = if change.deleted { EVENT_DELETE } else { EVENT_PUT };
        PbEvent { r#type, kv: Some(kv), prev_kv }
    }
}

fn size(kv: Option<&PbKeyValue>) -> usize {
    kv.map_or(0, |kv| kv.key.len() + kv.value.len())
}
