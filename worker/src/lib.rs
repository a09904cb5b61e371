//! The worker role.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod git;
