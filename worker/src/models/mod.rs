//! What a run's model calls need of the schedulers: its setup, and slices of budgets and quotas.

mod asking;
mod quotas;
#[expect(dead_code, reason = "the run opens its gateway with it")]
pub(crate) mod setup;
mod slices;

pub use asking::Schedulers;
pub use quotas::{NodeQuotas, RunQuotas};
pub use slices::RunSlices;
