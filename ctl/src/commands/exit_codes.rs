//! `flyball help exit-codes`: what exit codes mean. Hidden as a verb; `help` shows its text.

use clap::Args;

use crate::exit::EXIT_CODES;
use crate::output::Out;
use crate::{Exit, Outcome};

/// Arguments of `exit-codes`: none.
#[derive(Debug, Clone, Args)]
#[command(override_help = EXIT_CODES)]
pub struct ExitCodes {}

impl ExitCodes {
    pub(super) fn run(self, out: &mut Out) -> Outcome {
        out.raw(EXIT_CODES.as_bytes())?;
        Ok(Exit::Ok)
    }
}
