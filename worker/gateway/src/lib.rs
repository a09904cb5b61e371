//! The gateway through which every model call of a run goes: it decides which model serves the call, holds the
//! credentials, meters tokens and money as they stream, and refuses what the budget or the fencing token does not
//! cover.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod wire;
