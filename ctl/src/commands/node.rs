//! `flyball node`: how a machine becomes a node, with a join token and a certificate of its own.

mod join;
mod token;

use clap::{Args, Subcommand};

use super::context::Context;
use crate::Outcome;

/// Arguments of `node`.
#[derive(Debug, Clone, Args)]
pub struct Node {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Get a first certificate for this machine, with a join token.
    ///
    /// The private key is made here and never leaves this machine. The token names the authority, so
    /// nobody in between can pretend to be the scheduler. The worker renews the certificate by itself.
    #[command(
        after_help = "Example:\n  flyball node join --scheduler https://s1.example:7420 --token fbj1… --dir /var/lib/flyball/identity\n  flyball worker --scheduler https://s1.example:7420 --identity /var/lib/flyball/identity"
    )]
    Join(join::Join),
    /// Make, list and delete join tokens.
    Token(token::Token),
}

impl Node {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.command {
            Command::Join(verb) => verb.run(context).await,
            Command::Token(verb) => verb.run(context).await,
        }
    }
}
