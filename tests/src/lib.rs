//! The test harness: real processes of the built binary, real repositories, a real etcd where one is
//! asked for.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]
#![expect(clippy::expect_used, reason = "a test that cannot start its server should stop there")]

pub mod binary;
pub mod checker;
pub mod cluster;
pub mod collector;
pub mod etcd;
pub mod faketime;
pub mod history;
pub mod measure;
pub mod members;
pub mod poll;
pub mod provider;
pub mod repo;
pub mod secret;
pub mod talk;
