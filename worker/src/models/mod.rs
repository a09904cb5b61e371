//! What a run's model calls need of the schedulers.

pub(crate) mod setup;
