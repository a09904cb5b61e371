//! The scheduler: API, reactor, committer, leadership. It is the only role that reads and writes the
//! durable state, and any number of schedulers may run: each answers clients, one leads.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod access;
mod api;
mod config;
mod diagnose;
mod findings;
mod listen;
mod namesakes;
mod plain;
pub mod reactor;
mod renewals;
mod run;
mod secrets;
mod shell;
mod signing;
mod stores;
mod tls;

pub use config::{Bound, Config, Listen, RunError, StoreChoice, ambient};
pub use run::{run, run_over};
pub use secrets::{KeyFileError, SecretKeys};
pub use signing::{SIGNED_NODE_LIFETIME, Signer};
