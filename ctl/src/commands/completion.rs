//! `flyball completion`: a completion script for a shell.

use clap::{Args, CommandFactory, ValueEnum};

use crate::args::Cli;
use crate::output::Out;
use crate::{Exit, Outcome};

/// Arguments of `completion`.
#[derive(Debug, Clone, Args)]
pub struct Completion {
    /// The shell.
    shell: Shell,
}

/// The shells that scripts are made for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(super) fn run(self, out: &mut Out) -> Outcome {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "flyball", &mut script);
        out.raw(&script)?;
        Ok(Exit::Ok)
    }
}
