//! The roles of the binary: what runs as a process of its own.

use crate::args::Global;
use crate::output::Out;
use crate::{Failure, Outcome};

/// Commands that start a role.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Role {
    /// Run the control plane for one machine: scheduler, embedded store and workers.
    Up,
    /// Watch five loops converge, wait, fail and flap on two example repositories.
    Demo,
    /// Run a scheduler.
    Scheduler,
    /// Run a worker.
    Worker,
    /// The process that is parent of every run and enforces its deadline.
    #[command(hide = true)]
    Guard,
}

/// Runs a role until it ends.
///
/// # Errors
/// Always: the roles are not part of this build.
pub fn run(role: Role, _global: &Global, _out: &mut Out) -> Outcome {
    let name = format!("{role:?}").to_lowercase();
    Err(Failure::new("unsupported", format!("this build has no role {name}")))
}
