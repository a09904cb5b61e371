//! What a run's model calls need of the schedulers: routes with the keys of providers, and slices of budgets and
//! quotas.

mod asking;
mod quotas;
pub(crate) mod setup;
mod slices;

pub(crate) use asking::AskError;
pub use asking::Schedulers;
pub use quotas::{NodeQuotas, RunQuotas};
pub use slices::RunSlices;
