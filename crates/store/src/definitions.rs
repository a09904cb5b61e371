//! Providers, model routes, agents and namespaces' budgets as the API writes and reads them: from any scheduler, each
//! write guarded by the revision it was based on.

use std::sync::Arc;

use etcd_client::GetOptions;
use etcd_client::proto::PbKeyValue;
use flyball_core::model::{DEFINITIONS_MAX, Definition, DefinitionKey, DefinitionKind};

use crate::error::StoreError;
use crate::keys::{self, Key};
use crate::loops::{Update, stored};
use crate::store::Store;
use crate::values::{self, AccessRecord, Stored};

/// A definition as it is in the store.
type Found = Stored<Arc<AccessRecord<Definition>>>;

impl Store {
    /// Writes a definition over the one read at `expected_revision` (0: there was none).
    ///
    /// # Errors
    /// Those of the transport, or a value above its bound. After [`StoreError::Unknown`] the same
    /// change may be repeated: it is done once.
    pub async fn put_definition(
        &self,
        record: &AccessRecord<Definition>,
        expected_revision: i64,
    ) -> Result<Update<Arc<AccessRecord<Definition>>>, StoreError> {
        let key = record.manifest.key();
        let value = values::encode_access(record, key.kind.word())?;
        self.replace(keys::definition(&key), value, record, expected_revision, decode).await
    }

    /// Reads a definition.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_definition(&self, key: &DefinitionKey) -> Result<Option<Found>, StoreError> {
        self.etcd.get(keys::definition(key)).await?.map(|kv| decode(&kv)).transpose()
    }

    /// All definitions of a kind that can be read, by name.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_definitions(&self, kind: DefinitionKind) -> Result<Vec<Found>, StoreError> {
        // Two schedulers may each let in the last one at the same time.
        let most = i64::try_from(2 * DEFINITIONS_MAX).unwrap_or(i64::MAX);
        let options = GetOptions::new().with_prefix().with_limit(most);
        let found = self.etcd.range(keys::definitions_of(kind), options).await?.kvs;
        let ours = found.iter().filter(|kv| matches!(Key::decode(&kv.key), Key::Definition(_)));
        Ok(ours.filter_map(|kv| decode(kv).ok()).collect())
    }

    /// Deletes a definition at the revision given; false if it has changed since or is gone.
    ///
    /// # Errors
    /// Those of the transport; after an unknown outcome read it again.
    pub async fn delete_definition(
        &self,
        key: &DefinitionKey,
        revision: i64,
    ) -> Result<bool, StoreError> {
        self.delete_at(keys::definition(key), revision).await
    }
}

fn decode(kv: &PbKeyValue) -> Result<Found, StoreError> {
    let record = values::decode_access(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, Arc::new(record)))
}
