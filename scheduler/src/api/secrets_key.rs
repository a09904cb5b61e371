//! Another key for secrets: put in front, everything sealed anew with it, and the old ones taken away.

use std::collections::{BTreeMap, BTreeSet};

use flyball_proto::v1::{OldSecretsKey, RotateSecretsKeyResponse, UnopenedSecret};
use flyball_store::{SecretRecord, StoreError, Stored, Update};
use std::sync::Arc;
use tonic::{Code, Status};

use super::Api;
use super::error::{contended, of_store, status};
use crate::secrets::{KeyFileError, Ring};

/// Looks at what is left, against others who write secrets meanwhile.
const PASSES_MAX: u32 = 8;

impl Api {
    /// Seals all secrets with the first key of the file. What cannot be opened is left and told.
    pub(super) async fn rotate_secrets_key(
        &self,
        new_key: bool,
        drop_old: bool,
    ) -> Result<RotateSecretsKeyResponse, Status> {
        let keys = self.secret_keys()?;
        if new_key && !self.about.alone {
            let message = "other schedulers may work on this store, and would not have the new key. Make it by hand: \
                           flyball secret new-key FILE on one, copy FILE to all of them (they need no restart), then \
                           flyball secret rotate-key --reseal-only";
            return Err(status(Code::FailedPrecondition, "OTHER_SCHEDULERS", message));
        }
        {
            // Whoever sealed with the key before has stored it once this is had.
            let _alone = keys.changing().await;
            if new_key {
                keys.add().map_err(|error| unusable(&error))?;
            }
        }
        let ring = keys.ring();
        let (resealed, unopened) = self.reseal(&ring).await?;
        let mut answer = RotateSecretsKeyResponse {
            key: ring.sealing_id().to_owned(),
            resealed,
            unopened,
            ..RotateSecretsKeyResponse::default()
        };
        let used = self.keys_in_use().await?;
        let old = |id: &String| id != ring.sealing_id();
        if drop_old {
            let unused = ring.ids().into_iter().filter(old).filter(|id| !used.contains_key(id));
            let unused: BTreeSet<String> = unused.collect();
            let _alone = keys.changing().await;
            keys.remove(&unused).map_err(|error| unusable(&error))?;
            answer.dropped = unused.into_iter().collect();
        }
        let secrets = |id: &String| used.get(id).copied().unwrap_or(0);
        let kept = keys.ring().ids().into_iter().filter(old);
        answer.old = kept.map(|id| OldSecretsKey { secrets: secrets(&id), id }).collect();
        let (key, dropped) = (&answer.key, answer.dropped.len());
        tracing::info!(key, resealed, dropped, "the secrets are sealed with another key");
        Ok(answer)
    }

    /// Until nothing is left that is sealed with another key and can be opened.
    async fn reseal(&self, ring: &Ring) -> Result<(u64, Vec<UnopenedSecret>), Status> {
        let mut resealed = 0;
        for _ in 0..PASSES_MAX {
            let (mut unopened, mut again) = (Vec::new(), false);
            let kept = self.store.list_secrets("").await.map_err(|error| of_store(&error))?;
            let others = kept.iter().filter(|one| one.value.sealed_with != ring.sealing_id());
            for found in others {
                match sealed_anew(ring, &found.value) {
                    Ok(record) => match self.put_resealed(&record, found).await? {
                        true => resealed += 1,
                        false => again = true,
                    },
                    Err(reason) => unopened.push(UnopenedSecret {
                        namespace: found.value.key.namespace.clone(),
                        name: found.value.key.name.clone(),
                        sealed_with: found.value.sealed_with.clone(),
                        reason,
                    }),
                }
            }
            if !again {
                return Ok((resealed, unopened));
            }
        }
        Err(contended("the secrets"))
    }

    /// False: somebody has written it meanwhile, or nobody knows whether this was done; look again.
    async fn put_resealed(
        &self,
        record: &SecretRecord,
        found: &Stored<Arc<SecretRecord>>,
    ) -> Result<bool, Status> {
        match self.store.put_secret(record, found.mod_revision).await {
            Ok(Update::Done { .. }) => Ok(true),
            Ok(Update::Conflict(_)) | Err(StoreError::Unknown { .. }) => Ok(false),
            Err(error) => Err(of_store(&error)),
        }
    }

    /// Keys by id, with how many secrets are sealed with each.
    async fn keys_in_use(&self) -> Result<BTreeMap<String, u64>, Status> {
        let kept = self.store.list_secrets("").await.map_err(|error| of_store(&error))?;
        let mut used = BTreeMap::new();
        for one in kept {
            *used.entry(one.value.sealed_with.clone()).or_insert(0) += 1;
        }
        Ok(used)
    }
}

/// The same secret under the key that seals now: its value, and who set it when, stay.
fn sealed_anew(ring: &Ring, old: &SecretRecord) -> Result<SecretRecord, String> {
    let value = ring.open(&old.key, &old.sealed_with, &old.sealed);
    let value = value.map_err(|error| error.to_string())?;
    let (sealed_with, sealed) =
        ring.seal(&old.key, &value).ok_or("the value could not be sealed")?;
    Ok(SecretRecord { sealed_with, sealed, ..old.clone() })
}

fn unusable(error: &KeyFileError) -> Status {
    status(Code::FailedPrecondition, "SECRETS_KEY_FILE", error.to_string())
}
