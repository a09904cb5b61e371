//! The shell around the reactor: one task owns it and carries out its effects; others feed it.
//!
//! ```text
//!  API ──query/written──┐                       ┌─► committer ──► store (one txn at a time)
//!  sessions ──reports──►├─► core task (reactor) ├─► sessions' outboxes
//!  feeder (list+watch)─►│                       ├─► feeder (list again)
//!  leadership ─────────►┘                       └─► events, watchers
//! ```
//!
//! The core task never waits for any of them, so they may wait for it.

pub(crate) mod announcer;
pub(crate) mod auditor;
pub(crate) mod committer;
mod core;
pub(crate) mod costs;
pub(crate) mod events;
pub(crate) mod feeder;
mod heard;
pub(crate) mod keeper;
pub(crate) mod known;
pub(crate) mod leadership;
pub(crate) mod outbox;
pub(crate) mod prober;
pub(crate) mod submitter;

pub(crate) use core::{Core, Handle, Stopped};
