//! The gateway against the scripted provider: what passes, what is refused, what it costs, and what happens when
//! anything on the way fails. Everything is real but the provider, the bank and the pools.

#![allow(clippy::unwrap_used, reason = "tests")]

mod admission;
mod client;
mod cut;
mod failures;
mod killed;
mod passing;
mod rig;
mod spans;
mod tls;
