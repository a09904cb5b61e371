//! End to end: real scheduler, worker and guard processes, real repositories, driven through the
//! command line.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod secrets;
mod support;

mod ahead;
mod bad_change;
mod bad_process;
mod bad_repository;
mod budgets;
mod clocks;
mod converge;
mod costs;
mod definitions;
mod ending;
mod etcd_roles;
mod fleet;
mod identities;
mod itself;
mod left_behind;
mod misuse;
mod moving_base;
mod operations;
mod outages;
mod output;
mod overlap;
mod quotas;
mod reporter;
mod restored;
mod rogue;
mod rolling;
mod schedulers;
mod seals;
mod takeover;
mod trace;
mod wiped;
