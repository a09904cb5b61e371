//! Where untrusted commands run: the guard, a process outside the worker that is the parent of
//! every run, and what the worker uses to talk to it.
//!
//! ```text
//! worker ──socket──> guard ──socket──> step init ──> command ──> whatever it starts
//!    └── shared page: the deadline ──────┘
//! ```
//!
//! * The **worker** may crash, be stopped or starve; nothing here relies on it. It extends a
//!   deadline by storing into a shared page ([`Extender`]), which costs no system call.
//! * The **guard** ([`guard_main`]) is single-threaded and in a session of its own. When its
//!   socket ends (the worker died) or the deadline passes, it kills everything, proves that nothing
//!   is left, and exits. Until then it holds the lock of the state directory ([`StateLock`]), which
//!   the next incarnation of the worker waits for.
//! * A **step init** is a small process per running command: PID 1 of a PID namespace where the host
//!   allows one, else a child subreaper. It carries the same deadline and the step's time limit by
//!   itself, bounds the output, and kills all descendants when the command ends for whatever reason.
//!   If the guard dies, it kills and exits. One that has proven to be without children and whose
//!   mounts are as they were takes the next step, which saves a fork and a namespace per command.
//!
//! This is the only crate in which unsafe code may appear; it is all in `sys`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod abilities;
mod client;
mod clock;
mod config;
mod confine;
mod guard;
mod handle;
mod host;
mod line;
mod lock;
mod page;
mod proctree;
mod socket;
mod step;
mod sys;
mod tools;
mod wire;

pub use abilities::{Abilities, Containment, Isolation};
pub use client::{Extender, Guard};
pub use clock::{FAR_AWAY, boottime};
pub use config::{
    GuardConfig, GuardError, GuardLoss, KILL_BUDGET_DEFAULT, OUTPUT_BYTES_DEFAULT, Reporter,
    STDIN_BYTES_MAX, SpawnError, Step,
};
pub use confine::{Confinement, Limits, Overlay, SECRETS_DIR, Who, Writable};
pub use guard::guard_main;
pub use handle::{Listeners, StepEnd, StepHandle, StepKiller};
pub use host::HostFacts;
pub use lock::{StateLock, StateLockError, acquire_state_dir};
pub use tools::{command, raise_priority};
