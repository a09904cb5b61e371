//! The service `Secrets`: values come in, are sealed, and go out only to the node that runs a loop which
//! names them. No call gives a value back to people.

use std::collections::BTreeSet;

use flyball_core::ids::{LoopKey, Token};
use flyball_core::secret::{SECRETS_MAX, SECRETS_OF_RUN_BYTES_MAX, SecretValue};
use flyball_proto::v1::secrets_server::Secrets;
use flyball_proto::v1::{
    DeleteSecretRequest, DeleteSecretResponse, FetchSecretsRequest, FetchSecretsResponse,
    FetchedSecret, ListSecretsRequest, ListSecretsResponse, RotateSecretsKeyRequest,
    RotateSecretsKeyResponse, SecretInfo, SetSecretRequest, SetSecretResponse,
};
use flyball_store::{SecretRecord, StoreError, Update};
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::access::caller;
use super::apply::key_of;
use super::error::{contended, invalid_field, of_store, status};
use crate::secrets::SecretKeys;

/// Tries against others who write the same secret.
const TRIES_MAX: u32 = 8;

/// Who says that it runs a loop, and under which token.
pub(super) struct RunProof<'a> {
    pub(super) node: &'a str,
    pub(super) incarnation: &'a str,
    pub(super) uid: &'a str,
    pub(super) token: Token,
}

#[tonic::async_trait]
impl Secrets for Api {
    async fn set(
        &self,
        request: Request<SetSecretRequest>,
    ) -> Result<Response<SetSecretResponse>, Status> {
        let who = caller(&request)?;
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.name)?;
        let value = SecretValue::new(request.value.to_vec());
        let value = value.map_err(|error| invalid_field("value", error.to_string()))?;
        let keys = self.secret_keys()?;
        let _sealing = keys.sealing().await;
        let sealed = keys.ring().seal(&key, &value);
        let (sealed_with, sealed) =
            sealed.ok_or_else(|| Status::internal("the value could not be sealed"))?;
        let now = self.about.ambient.now();
        for _ in 0..TRIES_MAX {
            let found = self.store.get_secret(&key).await.map_err(|error| of_store(&error))?;
            if found.is_none() {
                self.secret_room(&key).await?;
            }
            let revision = found.as_ref().map_or(0, |found| found.mod_revision);
            let old = found.map(|found| found.value);
            let record = SecretRecord {
                key: key.clone(),
                generation: old.as_ref().map_or(1, |old| old.generation + 1),
                created_at: old.as_ref().map_or(now, |old| old.created_at),
                changed_at: now,
                changed_by: who.to_string(),
                sealed_with: sealed_with.clone(),
                sealed: sealed.clone(),
            };
            match self.store.put_secret(&record, revision).await {
                Ok(Update::Done { .. }) => {
                    let outcome = if old.is_none() { "created" } else { "configured" };
                    let outcome = outcome.to_owned();
                    return Ok(Response::new(SetSecretResponse { outcome }));
                }
                Ok(Update::Conflict(_)) | Err(StoreError::Unknown { .. }) => {}
                Err(error) => return Err(of_store(&error)),
            }
        }
        Err(contended(&format!("secret {key}")))
    }

    async fn list(
        &self,
        request: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        let namespace = request.into_inner().namespace;
        let kept = self.store.list_secrets(&namespace).await.map_err(|error| of_store(&error))?;
        let ring = self.secret_keys.as_ref().map(SecretKeys::ring);
        let state = |id: &str| match &ring {
            Some(ring) if ring.sealing_id() == id => "present",
            Some(ring) if ring.has(id) => "old",
            _ => "missing",
        };
        let secrets = kept.iter().map(|stored| SecretInfo {
            namespace: stored.value.key.namespace.clone(),
            name: stored.value.key.name.clone(),
            generation: stored.value.generation,
            changed_unix_ms: stored.value.changed_at.as_millisecond(),
            changed_by: stored.value.changed_by.clone(),
            sealed_with: stored.value.sealed_with.clone(),
            key_state: state(&stored.value.sealed_with).to_owned(),
        });
        Ok(Response::new(ListSecretsResponse { secrets: secrets.collect() }))
    }

    async fn delete(
        &self,
        request: Request<DeleteSecretRequest>,
    ) -> Result<Response<DeleteSecretResponse>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.name)?;
        for _ in 0..TRIES_MAX {
            let found = self.store.get_secret(&key).await.map_err(|error| of_store(&error))?;
            let Some(found) = found else { return Err(no_secret(&key)) };
            let deleted = self.store.delete_secret(&key, found.mod_revision).await;
            if deleted.map_err(|error| of_store(&error))? {
                return Ok(Response::new(DeleteSecretResponse {}));
            }
        }
        Err(contended(&format!("secret {key}")))
    }

    async fn fetch(
        &self,
        request: Request<FetchSecretsRequest>,
    ) -> Result<Response<FetchSecretsResponse>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.r#loop)?;
        let names = self.secrets_of_run(&request, &key).await?;
        let (mut secrets, mut bytes) = (Vec::with_capacity(names.len()), 0);
        for name in names {
            let place = LoopKey::new(key.namespace.clone(), name.clone());
            let value = self.open_secret(&place).await?;
            bytes += value.expose().len();
            let value = value.expose().to_vec().into();
            secrets.push(FetchedSecret { name, value });
        }
        if bytes > SECRETS_OF_RUN_BYTES_MAX {
            let message = format!(
                "the secrets of loop {key} have {bytes} bytes together; at most {SECRETS_OF_RUN_BYTES_MAX} can be \
                 handed to a step"
            );
            return Err(status(Code::FailedPrecondition, "SECRETS_TOO_LARGE", message));
        }
        Ok(Response::new(FetchSecretsResponse { secrets }))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateSecretsKeyRequest>,
    ) -> Result<Response<RotateSecretsKeyResponse>, Status> {
        let request = request.into_inner();
        self.rotate_secrets_key(request.new_key, request.drop_old).await.map(Response::new)
    }
}

impl Api {
    pub(super) fn secret_keys(&self) -> Result<&SecretKeys, Status> {
        self.secret_keys.as_ref().ok_or_else(|| {
            let message = "this scheduler has no key for secrets; start it with --secrets-key FILE";
            status(Code::FailedPrecondition, "NO_SECRETS_KEY", message)
        })
    }

    async fn secret_room(&self, key: &LoopKey) -> Result<(), Status> {
        let kept = self.store.list_secrets(&key.namespace).await;
        let count = kept.map_err(|error| of_store(&error))?.len();
        if count >= SECRETS_MAX {
            let namespace = &key.namespace;
            let message = format!(
                "namespace {namespace} has {count} secrets; at most {SECRETS_MAX} are allowed"
            );
            return Err(status(Code::ResourceExhausted, "TOO_MANY", message));
        }
        Ok(())
    }

    /// Whether the loop's live claim is this node's, under this token and uid. Asked of the store itself: what the
    /// watch told may be old.
    pub(super) async fn check_run(&self, key: &LoopKey, run: &RunProof<'_>) -> Result<(), Status> {
        let claim = self.store.get_claim(key).await.map_err(|error| of_store(&error))?;
        let its = claim.is_some_and(|claim| {
            let (found, token) = (&claim.value, Token(claim.create_revision));
            found.node.as_str() == run.node
                && found.incarnation.as_str() == run.incarnation
                && found.uid.as_str() == run.uid
                && token == run.token
        });
        if !its {
            let message = format!("{} does not run loop {key} under this token", run.node);
            return Err(status(Code::PermissionDenied, "NOT_ITS_RUN", message));
        }
        Ok(())
    }

    /// The value of a secret, opened.
    pub(super) async fn open_secret(&self, place: &LoopKey) -> Result<SecretValue, Status> {
        let found = self.store.get_secret(place).await.map_err(|error| of_store(&error))?;
        let record = found.ok_or_else(|| no_secret(place))?.value;
        let opened = self.secret_keys()?.ring().open(place, &record.sealed_with, &record.sealed);
        opened.map_err(|error| {
            let message = format!("secret {place} cannot be handed over: {error}");
            status(Code::FailedPrecondition, "SECRET_SEALED", message)
        })
    }

    /// The secrets that the loop names, if this node runs it.
    async fn secrets_of_run(
        &self,
        request: &FetchSecretsRequest,
        key: &LoopKey,
    ) -> Result<BTreeSet<String>, Status> {
        let run = RunProof {
            node: &request.node,
            incarnation: &request.incarnation,
            uid: &request.uid,
            token: Token(request.token),
        };
        self.check_run(key, &run).await?;
        let found = self.store.get_loop(key).await.map_err(|error| of_store(&error))?;
        let named = found.map(|(record, _)| {
            record.value.spec.secrets.iter().map(|one| one.name.clone()).collect()
        });
        Ok(named.unwrap_or_default())
    }
}

fn no_secret(key: &LoopKey) -> Status {
    status(Code::NotFound, "SECRET_NOT_FOUND", format!("there is no secret {key}"))
}
