//! The service `Definitions`: providers, model routes, agents and namespaces' budgets.

use flyball_core::ids::LoopKey;
use flyball_core::manifest::{parse_definition, warnings_of};
use flyball_core::model::{
    DEFINITIONS_MAX, Definition, DefinitionKey, DefinitionKind, ModelRouteSpec, ProviderSpec,
    UnknownDefinitionKind,
};
use flyball_proto::v1::definitions_server::Definitions;
use flyball_proto::v1::{
    ApplyDefinitionRequest, ApplyDefinitionResponse, DefinitionObject, DeleteDefinitionRequest,
    DeleteDefinitionResponse, ExplainRouteRequest, ExplainRouteResponse, GetDefinitionRequest,
    ListDefinitionsRequest, ListDefinitionsResponse,
};
use flyball_store::AccessRecord;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::access::{Edit, caller, described, document, done, room};
use super::error::{contended, invalid, invalid_field, of_store, status};

/// Tries against others who write the same definition.
const TRIES_MAX: u32 = 8;

#[tonic::async_trait]
impl Definitions for Api {
    async fn apply(
        &self,
        request: Request<ApplyDefinitionRequest>,
    ) -> Result<Response<ApplyDefinitionResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let json = document(&request.manifest_json)?;
        let definition = parse_definition(&json).map_err(|errors| invalid(&errors))?;
        let key = definition.key();
        let warnings = self.doubts(&definition).await?;
        for _ in 0..TRIES_MAX {
            let found = self.store.get_definition(&key).await.map_err(|error| of_store(&error))?;
            if found.is_none() {
                let count = self.definitions(key.kind).await?.len();
                room(true, count, DEFINITIONS_MAX, key.kind.plural())?;
            }
            let Edit { record, outcome, revision } = self.edit(definition.clone(), found, &who);
            let written = request.dry_run
                || outcome == "unchanged"
                || done(self.store.put_definition(&record, revision).await)?;
            if written {
                let (object, outcome) = (Some(object(&record, &[])), outcome.to_owned());
                return Ok(Response::new(ApplyDefinitionResponse { object, outcome, warnings }));
            }
        }
        Err(contended(&key.to_string()))
    }

    async fn get(
        &self,
        request: Request<GetDefinitionRequest>,
    ) -> Result<Response<DefinitionObject>, Status> {
        let request = request.into_inner();
        let key = DefinitionKey::new(kind(&request.kind)?, request.name);
        let found = self.store.get_definition(&key).await.map_err(|error| of_store(&error))?;
        let found = found.ok_or_else(|| missing(&key))?.value;
        let warnings = self.doubts(&found.manifest).await?;
        Ok(Response::new(object(&found, &warnings)))
    }

    async fn list(
        &self,
        request: Request<ListDefinitionsRequest>,
    ) -> Result<Response<ListDefinitionsResponse>, Status> {
        let request = request.into_inner();
        let kind = kind(&request.kind)?;
        let mut definitions = Vec::new();
        for record in self.definitions(kind).await? {
            let name = record.manifest.key().name;
            if kind.is_namespaced() && !request.namespace.is_empty() && name != request.namespace {
                continue;
            }
            let warnings = self.doubts(&record.manifest).await?;
            definitions.push(object(&record, &warnings));
        }
        Ok(Response::new(ListDefinitionsResponse { definitions }))
    }

    async fn delete(
        &self,
        request: Request<DeleteDefinitionRequest>,
    ) -> Result<Response<DeleteDefinitionResponse>, Status> {
        let request = request.into_inner();
        let key = DefinitionKey::new(kind(&request.kind)?, request.name);
        for _ in 0..TRIES_MAX {
            let found = self.store.get_definition(&key).await.map_err(|error| of_store(&error))?;
            let Some(found) = found else { return Err(missing(&key)) };
            self.check_unused(&key).await?;
            let deleted = self.store.delete_definition(&key, found.mod_revision).await;
            if deleted.map_err(|error| of_store(&error))? {
                return Ok(Response::new(DeleteDefinitionResponse {}));
            }
        }
        Err(contended(&key.to_string()))
    }

    async fn explain_route(
        &self,
        request: Request<ExplainRouteRequest>,
    ) -> Result<Response<ExplainRouteResponse>, Status> {
        Ok(Response::new(self.explain_call(request.into_inner()).await?))
    }
}

impl Api {
    /// All definitions of a kind, by name.
    pub(super) async fn definitions(
        &self,
        kind: DefinitionKind,
    ) -> Result<Vec<std::sync::Arc<AccessRecord<Definition>>>, Status> {
        let found = self.store.list_definitions(kind).await.map_err(|error| of_store(&error))?;
        Ok(found.into_iter().map(|stored| stored.value).collect())
    }

    /// All routes, by name.
    pub(super) async fn model_routes(&self) -> Result<Vec<(String, ModelRouteSpec)>, Status> {
        let all = self.definitions(DefinitionKind::ModelRoute).await?;
        let routes = all.iter().filter_map(|record| match &record.manifest {
            Definition::ModelRoute(one) => Some((one.metadata.name.clone(), one.spec.clone())),
            _ => None,
        });
        Ok(routes.collect())
    }

    /// A provider, if it exists.
    pub(super) async fn provider(&self, name: &str) -> Result<Option<ProviderSpec>, Status> {
        let key = DefinitionKey::new(DefinitionKind::Provider, name);
        let found = self.store.get_definition(&key).await.map_err(|error| of_store(&error))?;
        Ok(found.and_then(|found| match &found.value.manifest {
            Definition::Provider(one) => Some(one.spec.clone()),
            _ => None,
        }))
    }

    /// What is allowed in a definition and yet probably not meant, by itself and beside the others.
    async fn doubts(&self, definition: &Definition) -> Result<Vec<String>, Status> {
        let mut warnings = warnings_of(definition);
        match definition {
            Definition::Provider(one) => warnings.extend(self.doubt_secret(&one.spec).await?),
            Definition::ModelRoute(one) => warnings.extend(self.doubt_providers(&one.spec).await?),
            Definition::Agent(_) | Definition::Budget(_) => {}
        }
        Ok(warnings)
    }

    async fn doubt_secret(&self, spec: &ProviderSpec) -> Result<Option<String>, Status> {
        let Some(auth) = &spec.auth else { return Ok(None) };
        let place = LoopKey::new(auth.secret.namespace.clone(), auth.secret.name.clone());
        let found = self.store.get_secret(&place).await.map_err(|error| of_store(&error))?;
        let LoopKey { namespace, name } = place;
        Ok(found.is_none().then(|| {
            format!(
                "spec.auth.secret: there is no secret {name} in namespace {namespace}, and loops that need it wait; \
                 flyball secret set {name} -n {namespace} --from-file FILE"
            )
        }))
    }

    async fn doubt_providers(&self, spec: &ModelRouteSpec) -> Result<Vec<String>, Status> {
        let mut warnings = Vec::new();
        for (at, tier) in spec.tiers.iter().enumerate() {
            for (index, one) in tier.deployments.iter().enumerate() {
                if self.provider(&one.provider).await?.is_none() {
                    let path = format!("spec.tiers[{at}].deployments[{index}].provider");
                    warnings.push(format!("{path}: provider {} does not exist", one.provider));
                }
            }
        }
        Ok(warnings)
    }
}

fn kind(word: &str) -> Result<DefinitionKind, Status> {
    word.parse()
        .map_err(|unknown: UnknownDefinitionKind| invalid_field("kind", unknown.to_string()))
}

fn missing(key: &DefinitionKey) -> Status {
    let message = match key.kind {
        DefinitionKind::Budget => format!("namespace {} has no budget", key.name),
        kind => format!("there is no {kind} {}", key.name),
    };
    status(Code::NotFound, "DEFINITION_NOT_FOUND", message)
}

fn object(record: &AccessRecord<Definition>, warnings: &[String]) -> DefinitionObject {
    let DefinitionKey { kind, name } = record.manifest.key();
    let object_json = serde_json::to_vec(&described(record, warnings)).unwrap_or_default().into();
    DefinitionObject { kind: kind.word().to_owned(), name, object_json }
}
