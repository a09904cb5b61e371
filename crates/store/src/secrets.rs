//! Sealed secrets. What is kept here cannot be opened with anything else that is kept here.

use std::sync::Arc;

use etcd_client::GetOptions;
use etcd_client::proto::PbKeyValue;
use flyball_core::ids::LoopKey;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::keys::{self, Key};
use crate::loops::{Update, stored};
use crate::store::Store;
use crate::values::{self, Stored};

/// A sealed secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRecord {
    /// Namespace and name; kept in the key as well.
    pub key: LoopKey,
    /// 1, and one more with every new value.
    pub generation: u64,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// When its value was last set.
    pub changed_at: jiff::Timestamp,
    /// Who did that.
    pub changed_by: String,
    /// Which key it was sealed with.
    pub sealed_with: String,
    /// The sealed value, in hexadecimal.
    pub sealed: String,
}

impl Store {
    /// Writes a secret over the one read at `expected_revision` (0: there was none).
    ///
    /// # Errors
    /// Those of the transport, or a value above its bound. After [`StoreError::Unknown`] the same
    /// change may be repeated: it is done once.
    pub async fn put_secret(
        &self,
        record: &SecretRecord,
        expected_revision: i64,
    ) -> Result<Update<Arc<SecretRecord>>, StoreError> {
        let key = keys::secret(&record.key);
        let value = values::encode_document(record, "a secret")?;
        self.replace(key, value, record, expected_revision, decode).await
    }

    /// Reads a sealed secret.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_secret(
        &self,
        key: &LoopKey,
    ) -> Result<Option<Stored<Arc<SecretRecord>>>, StoreError> {
        self.etcd.get(keys::secret(key)).await?.map(|kv| decode(&kv)).transpose()
    }

    /// All sealed secrets of a namespace that can be read, or of all for an empty one.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_secrets(
        &self,
        namespace: &str,
    ) -> Result<Vec<Stored<Arc<SecretRecord>>>, StoreError> {
        let options = GetOptions::new().with_prefix();
        let found = self.etcd.range(keys::secrets_of(namespace), options).await?.kvs;
        let ours = found.iter().filter(|kv| matches!(Key::decode(&kv.key), Key::Secret(_)));
        Ok(ours.filter_map(|kv| decode(kv).ok()).collect())
    }

    /// Deletes a secret at the revision given; false if it has changed since or is gone.
    ///
    /// # Errors
    /// Those of the transport; after an unknown outcome read it again.
    pub async fn delete_secret(&self, key: &LoopKey, revision: i64) -> Result<bool, StoreError> {
        self.delete_at(keys::secret(key), revision).await
    }
}

fn decode(kv: &PbKeyValue) -> Result<Stored<Arc<SecretRecord>>, StoreError> {
    let record = values::decode_document(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, Arc::new(record)))
}
