//! End to end: real scheduler, worker and guard processes, real repositories, driven through the
//! command line.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

mod converge;
mod takeover;
mod trace;
