//! An etcd v3 API server in this process, over redb.
//!
//! It is the store of a single machine, reached through [`Server::channel`] without a transport,
//! and the simulated etcd of tests. It serves what Flyball's store and everyday `etcdctl` use,
//! with the semantics, codes and texts of etcd 3.4: KV with nested transactions, leases, watches
//! with history, compaction, status and member list.
//!
//! One writer thread owns all changes. Requests that arrive together are applied in memory, made
//! durable in one redb commit, and only then published: answers, reads and watch events never show
//! what a crash could take back.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod engine;
mod error;
mod lease;
mod listen;
mod mvcc;
mod options;
mod server;
mod service;
mod shared;
mod storage;
mod watch;
mod writer;

pub use error::OpenError;
pub use listen::{ListenError, Listening};
pub use options::Options;
pub use server::Server;

#[cfg(test)]
mod tests;
