//! The gateway through which every model call of a run goes: it decides which model serves the call, holds the
//! credentials, meters tokens and money as they stream, and refuses what the budget or the fencing token does not
//! cover.
//!
//! A call: `request` (key, bounds), `call` (which deployment, retries), `tries` (admission, sending), `relay` (bytes
//! pass, metered), `log` (sums, span, metrics).

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod admit;
mod attempt;
mod body;
mod call;
mod capture;
mod config;
mod count;
mod gate;
mod gateway;
mod headers;
mod health;
mod link;
mod log;
mod quota;
mod relay;
mod request;
mod run;
mod serve;
mod tries;
mod upstream;
pub mod wire;

pub use self::config::Config;
pub use self::gateway::{Gateway, RunGate, Serving};
pub use self::run::{Gone, Iteration, Models, Need, OpenProvider, RunCalls, RunIdentity, Spent};
