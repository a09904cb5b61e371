//! The service `Models`: what the gateway of a worker needs for a run, given to the node that owns it and to nobody
//! else. What is answered here holds credentials; none of it is logged.

use flyball_core::ids::{LoopKey, Token};
use flyball_core::model::{
    AgentDefinition, Definition, DefinitionKey, DefinitionKind, ProviderSpec, Routing, preset,
};
use flyball_core::spec::{AgentSpec, Manifest};
use flyball_proto::v1::models_server::Models;
use flyball_proto::v1::{ModelSetup, SetupModelsRequest, SetupProvider, SetupRoute};
use serde::Serialize;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::apply::key_of;
use super::error::{no_loop, of_store, status};
use super::secrets::RunProof;

#[tonic::async_trait]
impl Models for Api {
    async fn setup(
        &self,
        request: Request<SetupModelsRequest>,
    ) -> Result<Response<ModelSetup>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.r#loop)?;
        let proof = RunProof {
            node: &request.node,
            incarnation: &request.incarnation,
            uid: &request.uid,
            token: Token(request.token),
        };
        self.check_run(&key, &proof).await?;
        let found = self.store.get_loop(&key).await.map_err(|error| of_store(&error))?;
        let record = found.ok_or_else(|| no_loop(&key))?.0.value;
        let agent = match &record.spec.agent {
            Some(agent) => self.defined_agent(agent).await?,
            None => None,
        };
        let routing = Routing::new(self.model_routes().await?, []);
        let routing = routing.for_loop(&key.namespace, &record.labels);
        let mut providers = Vec::new();
        for name in routing.named_providers() {
            if let Some(spec) = self.provider(name).await? {
                providers.push(self.opened(name, &spec).await?);
            }
        }
        let route = |(name, spec)| SetupRoute { name: str::to_owned(name), spec_json: json(spec) };
        let routes = routing.routes().map(route).collect();
        let agent_json = agent.map(|agent| json(&agent)).unwrap_or_default();
        let labels = record.labels.clone().into_iter().collect();
        Ok(Response::new(ModelSetup { routes, providers, agent_json, labels }))
    }
}

impl Api {
    /// The definition of a loop's agent. Commands have none; shipped agents come with the worker.
    pub(super) async fn defined_agent(
        &self,
        agent: &AgentSpec,
    ) -> Result<Option<AgentDefinition>, Status> {
        let Some(name) = agent.uses.as_ref().filter(|name| preset(name).is_none()) else {
            return Ok(None);
        };
        let key = DefinitionKey::new(DefinitionKind::Agent, name);
        let found = self.store.get_definition(&key).await.map_err(|error| of_store(&error))?;
        match found.map(|found| found.value.manifest.clone()) {
            Some(Definition::Agent(one)) => Ok(Some(one.spec)),
            _ => {
                let message = format!("there is no agent {name}");
                Err(status(Code::NotFound, "AGENT_NOT_FOUND", message))
            }
        }
    }

    /// What a loop with an agent of that name has to wait for, as far as it can be told now.
    pub(super) async fn agent_doubts(&self, manifest: &Manifest) -> Result<Vec<String>, Status> {
        let Some(agent) = manifest.spec.agent.as_ref().filter(|agent| agent.uses.is_some()) else {
            return Ok(Vec::new());
        };
        match self.defined_agent(agent).await {
            Ok(_) => {}
            Err(missing) if missing.code() == Code::NotFound => {
                let text = format!("spec.agent.use: {}; the loop waits for it", missing.message());
                return Ok(vec![text]);
            }
            Err(failed) => return Err(failed),
        }
        let (metadata, routes) = (&manifest.metadata, self.model_routes().await?);
        let routing = Routing::new(routes, []).for_loop(&metadata.namespace, &metadata.labels);
        let none = routing.routes().next().is_none();
        let text =
            "spec.agent.use: no model route takes calls of this loop, so its agent gets no model";
        Ok(none.then(|| text.to_owned()).into_iter().collect())
    }

    async fn opened(&self, name: &str, spec: &ProviderSpec) -> Result<SetupProvider, Status> {
        let mut provider = SetupProvider {
            name: name.to_owned(),
            spec_json: json(spec),
            ..SetupProvider::default()
        };
        let Some(auth) = &spec.auth else { return Ok(provider) };
        let place = LoopKey::new(auth.secret.namespace.clone(), auth.secret.name.clone());
        let value = self.open_secret(&place).await.map_err(|refused| {
            let named = matches!(refused.code(), Code::NotFound | Code::FailedPrecondition);
            let reason =
                if refused.code() == Code::NotFound { "SECRET_NOT_FOUND" } else { "SECRET_SEALED" };
            match named {
                true => {
                    let message = format!("provider {name}: {}", refused.message());
                    status(refused.code(), reason, message)
                }
                false => refused,
            }
        })?;
        provider.credential = value.expose().to_vec().into();
        Ok(provider)
    }
}

fn json(document: &impl Serialize) -> bytes::Bytes {
    // Plain data with text keys always serialises.
    serde_json::to_vec(document).unwrap_or_default().into()
}
