//! `flyball seal`: journals that are still to be sealed, and the way out if one never can be.

use std::time::Duration;

use clap::{Args, Subcommand};
use flyball_proto::v1::{AbandonSealRequest, ListSealsRequest, SealInfo};
use tokio::time::Instant;

use super::context::Context;
use super::mark::who;
use crate::client::Clients;
use crate::output::Format;
use crate::view::seals::{document, repositories, resources, row, table};
use crate::{Exit, Failure, Outcome, retry};

/// Rhythm of looking whether the leader has acted.
const POLL: Duration = Duration::from_millis(100);

/// How long that may take before the user is told that it is only recorded: an election and some more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `seal`.
#[derive(Debug, Clone, Args)]
pub struct Seal {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Show which journals have to be sealed before anybody works on the resources of a lost run.
    List(List),
    /// Give a seal up, if its journal can never be reached again.
    ///
    /// A run that was lost without proof may still push until its journal is sealed, so whoever owns
    /// some of its resources next seals it first. Giving that up frees the resources at once: if a
    /// process of that run, or a push of it, is alive after all, two loops may then act on them. Do it
    /// only when the repository is gone for good and the node of the run has been stopped. Who did it,
    /// when and why is kept as an event of the loop.
    Abandon(Abandon),
}

#[derive(Debug, Clone, Args)]
struct List {
    /// Of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

#[derive(Debug, Clone, Args)]
struct Abandon {
    /// The loop's uid, as `flyball seal list` shows it, or its name if only one is listed.
    #[arg(value_name = "UID")]
    uid: String,
    /// Why it is safe; recorded.
    #[arg(long, value_name = "TEXT", required = true)]
    reason: String,
}

impl Seal {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.command {
            Command::List(list) => list.run(context).await,
            Command::Abandon(abandon) => abandon.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &mut Context<'_>) -> Outcome {
        let mut clients = context.clients().await?;
        let seals = listed(&mut clients, context.namespaces(self.all_namespaces)).await?;
        match context.format() {
            Format::Json | Format::Yaml => {
                let items: Vec<_> = seals.iter().map(document).collect();
                context.out.document(&serde_json::json!({ "kind": "List", "items": items }))?;
            }
            Format::Name => {
                seals.iter().try_for_each(|seal| context.out.line(format!("seal/{}", seal.uid)))?;
            }
            Format::Table | Format::Wide if seals.is_empty() => {
                context.out.note("nothing is to be sealed");
            }
            Format::Table | Format::Wide => {
                let wide = context.format() == Format::Wide;
                let mut table = table(self.all_namespaces);
                for seal in &seals {
                    table.row(row(seal, wide, self.all_namespaces));
                }
                context.out.table(&mut table)?;
            }
        }
        Ok(Exit::Ok)
    }
}

impl Abandon {
    async fn run(self, context: &mut Context<'_>) -> Outcome {
        let mut clients = context.clients().await?;
        let all = listed(&mut clients, String::new()).await?;
        let seal = find(&all, &self.uid, &context.namespace())?;
        let (uid, reason, by) = (seal.uid.clone(), self.reason, who());
        let request = AbandonSealRequest { uid: uid.clone(), reason, by };
        let send = || {
            let (mut loops, request) = (clients.loops.clone(), request.clone());
            async move { loops.abandon_seal(request).await }
        };
        let answer = retry::until_answered(send, |text| context.out.note(text)).await;
        let given_up = answer.into_result()?;
        let done = acted_on(&mut clients, &uid).await?;
        match context.format() {
            Format::Json | Format::Yaml => context.out.document(&document(&given_up))?,
            Format::Name => context.out.line(format!("seal/{uid}"))?,
            Format::Table | Format::Wide => {
                let state = if done { "given up" } else { "to be given up once a scheduler leads" };
                context.out.line(format!("seal/{uid} {state}"))?;
            }
        }
        let (at, of) = (repositories(seal).join(", "), resources(seal).join(", "));
        context.out.note(format!(
            "loops may work on {of} again although nothing stops a push of the lost run to {at}"
        ));
        Ok(Exit::Ok)
    }
}

async fn listed(clients: &mut Clients, namespace: String) -> Result<Vec<SealInfo>, Failure> {
    Ok(clients.loops.list_seals(ListSealsRequest { namespace }).await?.into_inner().seals)
}

/// The one that is meant: by its uid, or by the loop's name in the namespace.
fn find<'a>(seals: &'a [SealInfo], wanted: &str, namespace: &str) -> Result<&'a SealInfo, Failure> {
    if let Some(found) = seals.iter().find(|seal| seal.uid == wanted) {
        return Ok(found);
    }
    let named: Vec<&SealInfo> =
        seals.iter().filter(|seal| seal.r#loop == wanted && seal.namespace == namespace).collect();
    match named[..] {
        [one] => Ok(one),
        [] => Err(Failure::new("not-found", format!("nothing is to be sealed of {wanted:?}"))
            .hint("what there is: flyball seal list -A")),
        _ => {
            let uids: Vec<&str> = named.iter().map(|seal| seal.uid.as_str()).collect();
            let message =
                format!("several lives of {wanted} are to be sealed: {}", uids.join(", "));
            Err(Failure::usage(message).hint("name one by its uid"))
        }
    }
}

/// Whether the leader has acted on it, within some seconds.
async fn acted_on(clients: &mut Clients, uid: &str) -> Result<bool, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = listed(clients, String::new()).await?;
        if !left.iter().any(|seal| seal.uid == uid) {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}
