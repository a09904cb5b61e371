//! `flyball cordon`, `uncordon` and `drain`: whether nodes take runs.

use std::time::Duration;

use clap::Args;
use flyball_core::quantity::Span;
use flyball_proto::v1::{ListNodesRequest, MarkNodeRequest, NodeMark};
use tokio::time::Instant;

use super::context::Context;
use super::target::{Noun, names_of};
use crate::client::Clients;
use crate::objects::{self, NodeDocument};
use crate::output::Format;
use crate::{Exit, Failure, Outcome};

/// Rhythm of looking whether a draining node is empty.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `cordon`.
#[derive(Debug, Clone, Args)]
pub struct Cordon {
    /// The nodes.
    #[arg(value_name = "NODE", required = true)]
    names: Vec<String>,
    /// Why, for whoever looks at the node later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Arguments of `uncordon`.
#[derive(Debug, Clone, Args)]
pub struct Uncordon {
    /// The nodes.
    #[arg(value_name = "NODE", required = true)]
    names: Vec<String>,
}

/// Arguments of `drain`.
#[derive(Debug, Clone, Args)]
pub struct Drain {
    /// The nodes.
    #[arg(value_name = "NODE", required = true)]
    names: Vec<String>,
    /// Why, for whoever looks at the node later.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Stop runs that have not reached their iteration's edge after this long; their loops do the
    /// iteration again elsewhere. 0s stops them now [default: 1h].
    #[arg(long, value_name = "DURATION")]
    deadline: Option<Span>,
    /// Wait until no run is left on the nodes.
    #[arg(short, long)]
    wait: bool,
    /// Give up waiting after this long, with exit code 7 [default: never].
    #[arg(long, value_name = "DURATION", requires = "wait")]
    timeout: Option<Span>,
}

impl Cordon {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let mut clients = context.clients().await?;
        let (mark, reason) = (NodeMark::Cordoned, self.reason);
        let marking = Marking { mark, word: "cordoned", reason, deadline: None };
        marking.apply(context, &mut clients, &names_of(Noun::Nodes, &self.names)?).await?;
        Ok(Exit::Ok)
    }
}

impl Uncordon {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let mut clients = context.clients().await?;
        let (mark, reason) = (NodeMark::Schedulable, String::new());
        let marking = Marking { mark, word: "uncordoned", reason, deadline: None };
        marking.apply(context, &mut clients, &names_of(Noun::Nodes, &self.names)?).await?;
        Ok(Exit::Ok)
    }
}

impl Drain {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let names = names_of(Noun::Nodes, &self.names)?;
        let mut clients = context.clients().await?;
        let (mark, reason) = (NodeMark::Draining, self.reason);
        let marking = Marking { mark, word: "draining", reason, deadline: self.deadline };
        marking.apply(context, &mut clients, &names).await?;
        if !self.wait {
            return Ok(Exit::Ok);
        }
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout.0);
        loop {
            let left = runs_left(&mut clients, &names).await?;
            if left.is_empty() {
                break;
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                let message = format!("timed out; still running: {}", left.join(", "));
                return Err(Failure::new("timeout", message).exit(Exit::WaitTimeout));
            }
            tokio::time::sleep(POLL).await;
        }
        if !context.format().is_structured() {
            names.iter().try_for_each(|name| context.out.line(format!("node/{name} drained")))?;
        }
        Ok(Exit::Ok)
    }
}

struct Marking {
    mark: NodeMark,
    word: &'static str,
    reason: String,
    deadline: Option<Span>,
}

impl Marking {
    async fn apply(
        &self,
        context: &mut Context<'_>,
        clients: &mut Clients,
        names: &[String],
    ) -> Result<(), Failure> {
        for name in names {
            let request = MarkNodeRequest {
                name: name.clone(),
                mark: self.mark.into(),
                reason: self.reason.clone(),
                by: who(),
                deadline_ms: self.deadline.map(|span| millis(span.0)),
            };
            let object = clients.nodes.mark(request).await?.into_inner();
            match context.format() {
                Format::Json | Format::Yaml => {
                    context.out.document(&objects::json(&object.object_json)?)?;
                }
                Format::Name => context.out.line(format!("node/{name}"))?,
                Format::Table | Format::Wide => {
                    context.out.line(format!("node/{name} {}", self.word))?;
                }
            }
        }
        Ok(())
    }
}

/// This user on this host, as others see who marked a node.
pub(super) fn who() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| format!("uid-{}", nix::unistd::Uid::effective()));
    match nix::unistd::gethostname() {
        Ok(host) => format!("{user}@{}", host.to_string_lossy()),
        Err(_) => user,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The runs that these nodes still have. A node that is away has none that anybody could wait for.
async fn runs_left(clients: &mut Clients, names: &[String]) -> Result<Vec<String>, Failure> {
    let nodes = clients.nodes.list(ListNodesRequest {}).await?.into_inner().nodes;
    let mut left = Vec::new();
    for object in nodes.iter().filter(|node| names.contains(&node.name)) {
        left.extend(NodeDocument::read(object)?.status.runs);
    }
    Ok(left)
}
