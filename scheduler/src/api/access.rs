//! The service `Access`: roles, bindings, and what the caller may do.

use std::sync::Arc;

use flyball_core::access::{
    BINDINGS_MAX, BUILT_IN, BindingKey, KIND_ROLE, Kind, Permissions, Policy, ROLES_MAX, Scope,
    Verb, built_in, parse_binding, parse_role,
};
use flyball_core::identity::Identity;
use flyball_core::manifest::{FieldError, MANIFEST_BYTES_MAX};
use flyball_core::spec::API_VERSION;
use flyball_proto::v1::access_server::Access;
use flyball_proto::v1::{
    AccessObject, ApplyAccessRequest, ApplyAccessResponse, CanIRequest, CanIResponse,
    DeleteAccessResponse, DeleteBindingRequest, DeleteRoleRequest, GrantedRole,
    ListBindingsRequest, ListBindingsResponse, ListRolesRequest, ListRolesResponse, WhoAmIRequest,
    WhoAmIResponse,
};
use flyball_store::{AccessRecord, StoreError, Stored, Update};
use serde::Serialize;
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::error::{contended, invalid, invalid_field, of_store, status};
use crate::access::origin;

/// Tries against others who write the same object.
const TRIES_MAX: u32 = 8;

#[tonic::async_trait]
impl Access for Api {
    async fn who_am_i(
        &self,
        request: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        let who = caller(&request)?;
        let roles = self.policies.now().roles_of(&who).into_iter();
        let roles = roles.map(|(key, role)| GrantedRole {
            role,
            binding: key.name,
            namespace: key.namespace.unwrap_or_default(),
        });
        Ok(Response::new(WhoAmIResponse {
            identity: who.to_string(),
            from: origin(request.extensions()),
            roles: roles.collect(),
        }))
    }

    async fn can_i(&self, request: Request<CanIRequest>) -> Result<Response<CanIResponse>, Status> {
        let who = caller(&request)?;
        let CanIRequest { verb, kind, namespace } = request.into_inner();
        let unknown =
            |error: flyball_core::access::UnknownWord| invalid_field(error.what, error.to_string());
        let verb: Verb = verb.parse().map_err(unknown)?;
        let kind: Kind = kind.parse().map_err(unknown)?;
        let scope = match (kind.is_of_installation(verb), namespace.is_empty(), &who) {
            (_, _, Identity::Node(node)) if verb.is_of_nodes() => Scope::AsNode(node.clone()),
            // For oneself: everybody may who shows the certificate, or the token.
            (_, _, _) if matches!(verb, Verb::Renew | Verb::Join) => Scope::Open,
            (true, ..) => Scope::Installation,
            (false, true, _) => Scope::AllNamespaces,
            (false, false, _) => Scope::Namespace(namespace),
        };
        let (allowed, reason) = match self.policies.now().decide(&who, verb, kind, &scope) {
            Ok(by) => (true, by.to_string()),
            Err(denied) => (false, denied.to_string()),
        };
        Ok(Response::new(CanIResponse { allowed, reason }))
    }

    async fn list_roles(
        &self,
        _: Request<ListRolesRequest>,
    ) -> Result<Response<ListRolesResponse>, Status> {
        let kept = self.store.list_roles().await.map_err(|error| of_store(&error))?;
        let built_in = BUILT_IN.iter().filter_map(|(name, purpose)| built_in_object(name, purpose));
        let own = kept.iter().map(|(name, stored)| object(name, "", &stored.value, &[]));
        Ok(Response::new(ListRolesResponse { roles: built_in.chain(own).collect() }))
    }

    async fn apply_role(
        &self,
        request: Request<ApplyAccessRequest>,
    ) -> Result<Response<ApplyAccessResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let (manifest, role) =
            parse_role(&document(&request.manifest_json)?).map_err(|errors| invalid(&errors))?;
        self.may_give(&who, &role.permissions, &Scope::AllNamespaces)?;
        let name = manifest.metadata.name.clone();
        for _ in 0..TRIES_MAX {
            let found = self.store.get_role(&name).await.map_err(|error| of_store(&error))?;
            let (roles, _) = self.policies.now().counts();
            room(found.is_none(), roles, ROLES_MAX, "roles")?;
            let Edit { record, outcome, revision } = self.edit(manifest.clone(), found, &who);
            let written = request.dry_run
                || outcome == "unchanged"
                || done(self.store.put_role(&record, revision).await)?;
            if written {
                let object = Some(object(&name, "", &record, &[]));
                let (outcome, warnings) = (outcome.to_owned(), Vec::new());
                return Ok(Response::new(ApplyAccessResponse { object, outcome, warnings }));
            }
        }
        Err(contended(&format!("role {name}")))
    }

    async fn delete_role(
        &self,
        request: Request<DeleteRoleRequest>,
    ) -> Result<Response<DeleteAccessResponse>, Status> {
        let name = request.into_inner().name;
        if built_in(&name).is_some() {
            let message = format!("role {name} is built in and stays");
            return Err(status(Code::FailedPrecondition, "BUILT_IN", message));
        }
        let gone = || status(Code::NotFound, "ROLE_NOT_FOUND", format!("there is no role {name}"));
        for _ in 0..TRIES_MAX {
            let found = self.store.get_role(&name).await.map_err(|error| of_store(&error))?;
            let Some(found) = found else { return Err(gone()) };
            let bindings = self.store.list_bindings().await.map_err(|error| of_store(&error))?;
            let bound = bindings.iter().find(|(_, one)| one.value.manifest.spec.role == name);
            if let Some((key, _)) = bound {
                let message =
                    format!("role {name} is given by rolebinding {key}; delete that first");
                return Err(status(Code::FailedPrecondition, "ROLE_IN_USE", message));
            }
            let deleted = self.store.delete_role(&name, found.mod_revision).await;
            if deleted.map_err(|error| of_store(&error))? {
                return Ok(Response::new(DeleteAccessResponse {}));
            }
        }
        Err(contended(&format!("role {name}")))
    }

    async fn list_bindings(
        &self,
        request: Request<ListBindingsRequest>,
    ) -> Result<Response<ListBindingsResponse>, Status> {
        let wanted = request.into_inner().namespace;
        let kept = self.store.list_bindings().await.map_err(|error| of_store(&error))?;
        let takes = |key: &BindingKey| {
            wanted.is_empty() || key.namespace.as_deref().is_some_and(|own| own == wanted)
        };
        let policy = self.policies.now();
        let bindings = kept.iter().filter(|(key, _)| takes(key)).map(|(key, stored)| {
            let namespace = key.namespace.as_deref().unwrap_or_default();
            let warnings = dangling(&policy, &stored.value.manifest.spec.role);
            object(&key.name, namespace, &stored.value, &warnings)
        });
        Ok(Response::new(ListBindingsResponse { bindings: bindings.collect() }))
    }

    async fn apply_binding(
        &self,
        request: Request<ApplyAccessRequest>,
    ) -> Result<Response<ApplyAccessResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let (manifest, binding) =
            parse_binding(&document(&request.manifest_json)?).map_err(|errors| invalid(&errors))?;
        self.check_given_role(&who, &binding.role, scope_of(&binding.key)).await?;
        let key = binding.key;
        for _ in 0..TRIES_MAX {
            let found = self.store.get_binding(&key).await.map_err(|error| of_store(&error))?;
            let (_, bindings) = self.policies.now().counts();
            room(found.is_none(), bindings, BINDINGS_MAX, "role bindings")?;
            let Edit { record, outcome, revision } = self.edit(manifest.clone(), found, &who);
            let written = request.dry_run
                || outcome == "unchanged"
                || done(self.store.put_binding(&record, revision).await)?;
            if written {
                let namespace = key.namespace.as_deref().unwrap_or_default();
                let object = Some(object(&key.name, namespace, &record, &[]));
                let (outcome, warnings) = (outcome.to_owned(), Vec::new());
                return Ok(Response::new(ApplyAccessResponse { object, outcome, warnings }));
            }
        }
        Err(contended(&format!("role binding {key}")))
    }

    async fn delete_binding(
        &self,
        request: Request<DeleteBindingRequest>,
    ) -> Result<Response<DeleteAccessResponse>, Status> {
        let DeleteBindingRequest { name, namespace, all_namespaces } = request.into_inner();
        let namespace = match (all_namespaces, namespace.as_str()) {
            (true, _) => None,
            (false, "") => Some(flyball_core::spec::DEFAULT_NAMESPACE.to_owned()),
            (false, _) => Some(namespace),
        };
        let key = BindingKey { namespace, name };
        for _ in 0..TRIES_MAX {
            let found = self.store.get_binding(&key).await.map_err(|error| of_store(&error))?;
            let Some(found) = found else {
                let message = format!("there is no role binding {key}");
                return Err(status(Code::NotFound, "BINDING_NOT_FOUND", message));
            };
            let deleted = self.store.delete_binding(&key, found.mod_revision).await;
            if deleted.map_err(|error| of_store(&error))? {
                return Ok(Response::new(DeleteAccessResponse {}));
            }
        }
        Err(contended(&format!("role binding {key}")))
    }
}

/// What is to be written.
pub(super) struct Edit<M> {
    pub(super) record: AccessRecord<M>,
    pub(super) outcome: &'static str,
    /// What it is written over.
    pub(super) revision: i64,
}

impl Api {
    /// Nobody gives away what they do not have themselves.
    fn may_give(
        &self,
        who: &Identity,
        permissions: &Permissions,
        scope: &Scope,
    ) -> Result<(), Status> {
        let given = self.policies.now().may_give(who, permissions, scope);
        given.map_err(|error| status(Code::PermissionDenied, "ESCALATION", error.to_string()))
    }

    /// The role has to exist, read from the store: it may have been made just now, elsewhere.
    async fn check_given_role(
        &self,
        who: &Identity,
        name: &str,
        scope: Scope,
    ) -> Result<(), Status> {
        if let Some(role) = built_in(name) {
            return self.may_give(who, &role.permissions, &scope);
        }
        let found = self.store.get_role(name).await.map_err(|error| of_store(&error))?;
        let Some(found) = found else {
            let own = self.store.list_roles().await.map_err(|error| of_store(&error))?;
            let names = BUILT_IN.iter().map(|(name, _)| *name).filter(|name| *name != "node");
            let names: Vec<&str> = names.chain(own.iter().map(|(name, _)| name.as_str())).collect();
            let message = format!("there is no such role; there are: {}", names.join(", "));
            let error = FieldError::new("spec.role", message).found(name);
            return Err(invalid(&[error]));
        };
        let json = serde_json::to_value(&found.value.manifest).unwrap_or_default();
        let (_, role) = parse_role(&json).map_err(|errors| invalid(&errors))?;
        self.may_give(who, &role.permissions, &scope)
    }

    /// A record of what was given, over what was found.
    pub(super) fn edit<M: PartialEq>(
        &self,
        manifest: M,
        found: Option<Stored<Arc<AccessRecord<M>>>>,
        who: &Identity,
    ) -> Edit<M> {
        let (now, changed_by) = (self.about.ambient.now(), who.to_string());
        let Some(found) = found else {
            let record = AccessRecord {
                manifest,
                generation: 1,
                created_at: now,
                changed_at: now,
                changed_by,
                unknown: serde_json::Map::new(),
            };
            return Edit { record, outcome: "created", revision: 0 };
        };
        let (old, revision) = (&found.value, found.mod_revision);
        let unchanged = old.manifest == manifest;
        let record = AccessRecord {
            manifest,
            generation: old.generation + u64::from(!unchanged),
            created_at: old.created_at,
            changed_at: if unchanged { old.changed_at } else { now },
            changed_by: if unchanged { old.changed_by.clone() } else { changed_by },
            unknown: old.unknown.clone(),
        };
        Edit { record, outcome: if unchanged { "unchanged" } else { "configured" }, revision }
    }
}

/// Who calls; the guard lets nobody through of whom that is not known.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Identity, Status> {
    let who = request.extensions().get::<Identity>().cloned();
    who.ok_or_else(|| Status::unauthenticated("nothing proves who calls"))
}

/// True when written; false: somebody was faster, or the answer was lost; look again.
pub(super) fn done<T>(written: Result<Update<T>, StoreError>) -> Result<bool, Status> {
    match written {
        Ok(Update::Done { .. }) => Ok(true),
        Ok(Update::Conflict(_)) | Err(StoreError::Unknown { .. }) => Ok(false),
        Err(error) => Err(of_store(&error)),
    }
}

/// Nothing more of what there is as much of as is allowed.
pub(super) fn room(new: bool, count: usize, most: usize, what: &str) -> Result<(), Status> {
    if new && count >= most {
        let message = format!("there are {count} {what}; at most {most} are allowed");
        return Err(status(Code::ResourceExhausted, "TOO_MANY", message));
    }
    Ok(())
}

fn scope_of(key: &BindingKey) -> Scope {
    key.namespace.clone().map_or(Scope::AllNamespaces, Scope::Namespace)
}

/// A manifest's JSON.
pub(super) fn document(manifest: &[u8]) -> Result<Value, Status> {
    let bytes = manifest.len();
    if bytes > MANIFEST_BYTES_MAX {
        let message = format!("is {bytes} bytes long, at most {MANIFEST_BYTES_MAX} are allowed");
        return Err(invalid_field("manifest_json", message));
    }
    serde_json::from_slice(manifest)
        .map_err(|error| invalid_field("manifest_json", format!("is not JSON: {error}")))
}

fn dangling(policy: &Policy, role: &str) -> Vec<String> {
    let missing = policy.role(role).is_none();
    missing.then(|| format!("role {role} does not exist: nothing is given")).into_iter().collect()
}

fn object<M: Serialize>(
    name: &str,
    namespace: &str,
    record: &AccessRecord<M>,
    warnings: &[String],
) -> AccessObject {
    wire(name, namespace, &described(record, warnings))
}

/// What was given and since when it is so, as users see it.
pub(super) fn described<M: Serialize>(record: &AccessRecord<M>, warnings: &[String]) -> Value {
    // Plain data with text keys always serialises.
    let mut document = serde_json::to_value(&record.manifest).unwrap_or_default();
    document["metadata"]["generation"] = json!(record.generation);
    document["metadata"]["creationTimestamp"] = json!(record.created_at);
    document["status"] = json!({ "changedAt": record.changed_at, "changedBy": record.changed_by });
    if !warnings.is_empty() {
        document["status"]["warnings"] = json!(warnings);
    }
    document
}

fn built_in_object(name: &str, purpose: &str) -> Option<AccessObject> {
    let role = built_in(name)?;
    let mut rules: Vec<Value> = Vec::new();
    for kind in Kind::all() {
        let verbs: Vec<_> = role.permissions.iter().filter(|(_, of)| *of == kind).collect();
        if !verbs.is_empty() {
            let verbs: Vec<_> = verbs.iter().map(|(verb, _)| verb.as_str()).collect();
            rules.push(json!({ "kinds": [kind.as_str()], "verbs": verbs }));
        }
    }
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": KIND_ROLE,
        "metadata": { "name": name },
        "spec": { "rules": rules },
        "status": { "builtIn": true, "purpose": purpose },
    });
    Some(wire(name, "", &document))
}

fn wire(name: &str, namespace: &str, document: &Value) -> AccessObject {
    let object_json = serde_json::to_vec(document).unwrap_or_default().into();
    AccessObject { name: name.to_owned(), namespace: namespace.to_owned(), object_json }
}
