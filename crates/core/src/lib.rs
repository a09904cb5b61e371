//! Flyball's vocabulary and its decisions, with no I/O: no runtime, no clock, no randomness, no
//! network. What varies (time, jitter, ids) comes in as an argument, so every decision can be
//! driven by a table, a text script, a property test or a simulation.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod access;
pub mod ambient;
pub mod bounds;
pub mod diagnosis;
pub mod governor;
pub mod histogram;
pub mod identity;
pub mod ids;
pub mod isolation;
pub mod joining;
pub mod lease;
pub mod lifecycle;
pub mod manifest;
pub mod model;
pub mod node;
pub mod placement;
pub mod planted;
pub mod quantity;
pub mod record;
pub mod redact;
pub mod report;
pub mod resource;
pub mod revocation;
pub mod score;
pub mod seal;
pub mod secret;
pub mod spec;
pub mod status;
