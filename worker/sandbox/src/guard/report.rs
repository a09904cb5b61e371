//! What becomes of a guard whose worker is gone: another role of the same program, which tells of it.
//! By exec, so that the guard itself needs neither a runtime nor a network, and so that the lock of
//! the state directory is given back in the same moment.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::{Guard, Mode};

/// This very program, also if another version lies at its path by now.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// What the worker asked for.
pub(super) struct Becoming {
    arguments: Vec<String>,
    note: OwnedFd,
}

impl Becoming {
    pub(super) fn new(arguments: Vec<String>, fds: Vec<OwnedFd>) -> Option<Self> {
        fds.into_iter().next().map(|note| Self { arguments, note })
    }
}

impl Guard {
    /// Becomes the reporter if the worker cannot tell by itself that nothing is left. Returns if
    /// there is nothing to tell, or if it cannot be told: then the lease ends by its time to live.
    pub(super) fn report(&mut self) {
        if !matches!(self.mode, Mode::Ending { report: true, .. }) {
            return;
        }
        let Some(Becoming { arguments, note }) = self.reporter.take() else { return };
        // An exec drops nothing.
        drop(self.cgroups.take());
        // All our other descriptors close on exec, and the signal mask goes back to what it was.
        let _ = Command::new(THIS_PROGRAM).arg0("flyball").args(arguments).stdin(note).exec();
    }
}
