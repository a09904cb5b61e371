//! Who uses a definition, and so would stand still without it.

use std::sync::Arc;

use flyball_core::model::{DefinitionKey, DefinitionKind, ModelRouteSpec, Routing};
use flyball_store::LoopRecord;
use tonic::{Code, Status};

use super::Api;
use super::error::status;
use super::watching::Selector;

/// So many names stand in a refusal.
const NAMES_MAX: usize = 5;

impl Api {
    /// Refuses to delete what another definition or a loop that is not over needs. It is looked at, and not compared
    /// in the transaction that deletes: a loop that comes in between waits, and says for what.
    ///
    /// # Errors
    /// `FailedPrecondition` with the names of those that use it.
    pub(super) async fn check_unused(&self, key: &DefinitionKey) -> Result<(), Status> {
        let (users, what, reason) = match key.kind {
            DefinitionKind::Provider => {
                let routes = self.routes_that_name(&key.name).await?;
                (routes, "named by modelroute", "PROVIDER_IN_USE")
            }
            DefinitionKind::ModelRoute => {
                let loops = self.loops_with_only(&key.name).await?;
                (loops, "the only route for the agent of loop", "MODELROUTE_IN_USE")
            }
            DefinitionKind::Agent => {
                let loops = self.living_loops().await?;
                let uses = |one: &&Arc<LoopRecord>| agent_of(one) == Some(&key.name);
                let names = loops.iter().filter(uses).map(|one| one.key.to_string());
                (names.collect(), "used by loop", "AGENT_IN_USE")
            }
            // Without a budget everything has room.
            DefinitionKind::Budget => return Ok(()),
        };
        if users.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} {} is {what} {}; delete or change that first",
            key.kind,
            key.name,
            list(&users)
        );
        Err(status(Code::FailedPrecondition, reason, message))
    }

    async fn routes_that_name(&self, provider: &str) -> Result<Vec<String>, Status> {
        let names = |spec: &ModelRouteSpec| {
            let mut all = spec.tiers.iter().flat_map(|tier| &tier.deployments);
            all.any(|one| one.provider == provider)
        };
        let routes = self.model_routes().await?.into_iter();
        Ok(routes.filter(|(_, spec)| names(spec)).map(|(name, _)| name).collect())
    }

    /// Loops whose agents no other route could serve.
    async fn loops_with_only(&self, route: &str) -> Result<Vec<String>, Status> {
        let routes = self.model_routes().await?;
        let only = |one: &&Arc<LoopRecord>| {
            let namespace = &one.key.namespace;
            let takes = Routing::new(routes.clone(), []).for_loop(namespace, &one.labels);
            let mut takes = takes.routes();
            let first = takes.next().is_some_and(|(name, _)| name == route);
            agent_of(one).is_some() && first && takes.next().is_none()
        };
        let loops = self.living_loops().await?;
        Ok(loops.iter().filter(only).map(|one| one.key.to_string()).collect())
    }

    /// All loops that are not over.
    async fn living_loops(&self) -> Result<Vec<Arc<LoopRecord>>, Status> {
        let all = Selector::new(String::new(), String::new(), Default::default());
        let views = self.core.ask(move |reactor, _| all.select(reactor)).await?;
        let living = views.into_iter().filter(|view| !view.status.phase.is_terminal());
        Ok(living.map(|view| view.record).collect())
    }
}

/// The name of a loop's agent; a command has none, and may do without models.
fn agent_of(record: &LoopRecord) -> Option<&String> {
    record.spec.agent.as_ref()?.uses.as_ref()
}

fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
