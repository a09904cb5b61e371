//! What the suites share: servers to run against.
#![expect(clippy::expect_used, reason = "a test that cannot start its server should stop there")]

pub mod etcd;
