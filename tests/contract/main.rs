//! The contract with etcd: one suite, run on the embedded server and on a real etcd, and random
//! requests whose answers on the two are compared word for word.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stdout, reason = "suites say which etcd they ran on, or that they did not")]

#[macro_use]
mod subject;

mod etcdctl;
mod kv;
mod leases;
mod ops;
mod random;
mod txns;
mod watches;
