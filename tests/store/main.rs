//! The store's behaviour on the servers it is used with: the embedded one and a real etcd.

mod audit;
mod batches;
mod budgets;
mod commit;
mod events;
mod faults;
mod loops;
mod lost_answers;
mod probes;
mod sessions;
mod setup;
mod snapshot;
mod tls;
mod watch;
