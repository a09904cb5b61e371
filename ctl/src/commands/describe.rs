//! `flyball describe`: everything about one loop or node, or about what model calls need.

use clap::Args;
use flyball_core::model::BudgetReport;
use flyball_proto::v1::{
    Event, GetBudgetRequest, GetLoopRequest, ListEventsRequest, ListNodesRequest,
};

use super::context::Context;
use super::definitions;
use super::target::{Noun, Target};
use crate::client::Clients;
use crate::objects::{self, LoopDocument, NodeDocument};
use crate::{Exit, Failure, Outcome, view};

/// Most events shown; the rest is in `flyball events`.
const EVENTS_MAX: usize = 10;
/// What can be asked.
const FORMS: &str =
    "flyball describe KIND NAME; kinds are: loop, node, provider, modelroute, agent, budget";

/// Arguments of `describe`.
#[derive(Debug, Clone, Args)]
pub struct Describe {
    /// What: `loop x`, `loop/x`, `node y`, `provider/z`; also modelroute, agent, and budget with a namespace.
    #[arg(value_name = "KIND NAME", required = true)]
    what: Vec<String>,
}

impl Describe {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let target = Target::parse(&self.what)
            .map_err(|failure| Failure { hints: vec![FORMS.to_owned()], ..failure })?;
        let Ok([name]) = <[String; 1]>::try_from(target.names) else {
            return Err(Failure::usage("name one thing").hint(FORMS));
        };
        match target.noun {
            Noun::Loops => describe_loop(context, name).await,
            Noun::Nodes => describe_node(context, name).await,
            Noun::Definitions(kind) => definitions::describe(context, kind, name).await,
            Noun::Claims | Noun::Iterations | Noun::Roles | Noun::RoleBindings => Err(
                Failure::usage("claims, iterations, roles and role bindings cannot be described")
                    .hint(FORMS),
            ),
        }
    }
}

async fn describe_loop(context: &mut Context<'_>, name: String) -> Outcome {
    let namespace = context.namespace();
    let mut clients = context.clients().await?;
    let request = GetLoopRequest { namespace: namespace.clone(), name: name.clone() };
    let object = clients.loops.get(request).await?.into_inner();
    if context.format().is_structured() {
        context.out.document(&objects::json(&object.object_json)?)?;
        return Ok(Exit::Ok);
    }
    let document = LoopDocument::read(&object)?;
    let budget = budget(&mut clients, &namespace, &name).await;
    let events = newest_events(&mut clients, namespace, name).await;
    let page = view::describe_loop::page(&document, budget.as_ref(), &events, context.now());
    context.out.raw(page.as_bytes())?;
    Ok(Exit::Ok)
}

/// What is spent of its budget; the page is worth showing without it.
async fn budget(clients: &mut Clients, namespace: &str, name: &str) -> Option<BudgetReport> {
    let request = GetBudgetRequest { namespace: namespace.to_owned(), r#loop: name.to_owned() };
    let object = clients.budgets.get(request).await.ok()?.into_inner();
    super::budget::report(&object).ok()
}

/// The newest events; none if they cannot be had, for the page is worth showing without them.
async fn newest_events(clients: &mut Clients, namespace: String, name: String) -> Vec<Event> {
    let request = ListEventsRequest { namespace, r#loop: name, follow: false };
    let Ok(answer) = clients.events.list(request).await else { return Vec::new() };
    let mut stream = answer.into_inner();
    let mut newest = std::collections::VecDeque::new();
    while let Ok(Some(event)) = stream.message().await {
        newest.push_back(event);
        if newest.len() > EVENTS_MAX {
            newest.pop_front();
        }
    }
    newest.into()
}

async fn describe_node(context: &mut Context<'_>, name: String) -> Outcome {
    let mut clients = context.clients().await?;
    let nodes = clients.nodes.list(ListNodesRequest {}).await?.into_inner().nodes;
    let Some(object) = nodes.iter().find(|node| node.name == name) else {
        return Err(Failure::new("not-found", format!("there is no node {name}"))
            .hint("nodes that have ever registered: flyball get nodes"));
    };
    if context.format().is_structured() {
        context.out.document(&objects::json(&object.object_json)?)?;
    } else {
        let page = view::describe_node::page(&NodeDocument::read(object)?, context.now());
        context.out.raw(page.as_bytes())?;
    }
    Ok(Exit::Ok)
}
