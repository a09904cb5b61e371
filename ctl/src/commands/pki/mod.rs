//! `flyball pki`: an authority of one's own, for those who have none, and what it issues.

mod authority;
mod issue;
mod renew;
mod revoke;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use flyball_pki::PkiError;

use super::context::Context;
use crate::{Failure, Outcome, paths};

/// Where the authority for etcd is, in the directory of the one for Flyball.
const ETCD: &str = "etcd";

/// Arguments of `pki`.
#[derive(Debug, Clone, Args)]
pub struct Pki {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Make two authorities: one for Flyball, and one for etcd, to which no worker's certificate opens.
    #[command(after_help = "Example:\n  flyball pki init --dir /etc/flyball/pki")]
    Init(authority::Init),
    /// Issue a certificate with its key, as a directory for --identity or --etcd-identity.
    #[command(
        after_help = "Examples:\n  flyball pki issue --scheduler s1 --host s1.example,10.0.0.1 --out /etc/flyball/identity\n  flyball pki issue --user ada --out ~/.config/flyball/identity\n  flyball pki issue --etcd e1 --host 10.0.0.5 --out /etc/etcd/pki\n  flyball pki issue --etcd-client scheduler --out /etc/flyball/etcd-identity"
    )]
    Issue(issue::Issue),
    /// Replace an authority: first a new one beside the old, then, with --retire, without it.
    #[command(
        after_help = "Examples:\n  flyball pki rotate\n  flyball pki rotate --retire\n  flyball pki rotate --etcd"
    )]
    Rotate(authority::Rotate),
    /// Get a new certificate for the one that an identity has, from a scheduler that signs; its key stays.
    ///
    /// Workers and schedulers do that by themselves when two thirds of its life are over.
    #[command(
        after_help = "Example:\n  flyball --addr https://s1.example:7420 --identity ~/.config/flyball/identity pki renew"
    )]
    Renew(renew::Renew),
    /// Refuse certificates before they end: one by its serial number, or all that somebody has got so far.
    ///
    /// Every scheduler refuses them within two seconds, on open connections too; a node is thrown out, and
    /// its loops go on elsewhere once its lease has ended. Nobody takes it back: whoever is to be let in
    /// again gets a new certificate. Where a key may be known to others name its holder: a certificate that
    /// was renewed meanwhile has another number.
    #[command(
        after_help = "Examples:\n  flyball pki revoke node:n7 --reason \"stolen\"\n  flyball pki revoke 5c1f…e0 --reason \"issued by mistake\"\n  flyball pki revoke ./n7 --reason \"scrapped\""
    )]
    Revoke(revoke::Revoke),
    /// Show which certificates are revoked.
    #[command(after_help = "Examples:\n  flyball pki revoked\n  flyball pki revoked -o json")]
    Revoked(revoke::List),
    /// Show what certificates say: files, or directories of identities and authorities.
    #[command(after_help = "Example:\n  flyball pki show /etc/flyball/identity")]
    Show(show::Show),
}

/// Where the authorities are.
#[derive(Debug, Clone, Args)]
struct Place {
    /// Directory of the authorities [default: pki in the data directory].
    #[arg(long, value_name = "DIR", env = "FLYBALL_PKI_DIR")]
    dir: Option<PathBuf>,
}

impl Place {
    fn dir(&self) -> Result<PathBuf, Failure> {
        let default = || paths::data_dir().map(|dir| dir.join("pki"));
        let none = || Failure::usage("no directory is given: --dir, or FLYBALL_PKI_DIR");
        self.dir.clone().or_else(default).ok_or_else(none)
    }

    /// The authority for Flyball, or that for etcd.
    fn authority(&self, etcd: bool) -> Result<PathBuf, Failure> {
        let dir = self.dir()?;
        Ok(if etcd { dir.join(ETCD) } else { dir })
    }
}

impl Pki {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.command {
            Command::Init(verb) => verb.run(context),
            Command::Issue(verb) => verb.run(context),
            Command::Rotate(verb) => verb.run(context),
            Command::Show(verb) => verb.run(context),
            Command::Renew(verb) => verb.run(context).await,
            Command::Revoke(verb) => verb.run(context).await,
            Command::Revoked(verb) => verb.run(context).await,
        }
    }
}

fn failed(error: PkiError) -> Failure {
    Failure::new("pki", error.to_string())
}
