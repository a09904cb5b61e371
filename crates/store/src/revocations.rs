//! Revoked certificates as the API writes and reads them, from any scheduler.

use std::sync::Arc;

use etcd_client::GetOptions;
use etcd_client::proto::PbKeyValue;
use flyball_core::revocation::{REVOCATIONS_MAX, Revocation, Revoked};

use crate::error::StoreError;
use crate::keys::{self, Key};
use crate::loops::{Update, stored};
use crate::store::Store;
use crate::values::{self, Stored};

/// A revocation as it is in the store.
type Found = Stored<Arc<Revocation>>;

/// What a key of the store revokes; `None` for every other key.
pub fn revoked_by(key: &str) -> Option<Revoked> {
    match Key::decode(key.as_bytes()) {
        Key::Revoked(revoked) => Some(revoked),
        _ => None,
    }
}

impl Store {
    /// Writes a revocation over the one read at `expected_revision` (0: there was none).
    ///
    /// # Errors
    /// Those of the transport, or a value above its bound. After [`StoreError::Unknown`] the same
    /// change may be repeated: it is done once.
    pub async fn put_revocation(
        &self,
        revoked: &Revoked,
        record: &Revocation,
        expected_revision: i64,
    ) -> Result<Update<Arc<Revocation>>, StoreError> {
        let value = values::encode_document(record, "a revocation")?;
        self.replace(keys::revoked(revoked), value, record, expected_revision, decode).await
    }

    /// Reads a revocation.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_revocation(&self, revoked: &Revoked) -> Result<Option<Found>, StoreError> {
        self.etcd.get(keys::revoked(revoked)).await?.map(|kv| decode(&kv)).transpose()
    }

    /// All revocations; those whose value cannot be read without it.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_revocations(&self) -> Result<Vec<(Revoked, Option<Found>)>, StoreError> {
        let named = |kv: &PbKeyValue| match Key::decode(&kv.key) {
            Key::Revoked(revoked) => Some((revoked, decode(kv).ok())),
            _ => None,
        };
        // Two schedulers may each let in the last one at the same time.
        let limit = i64::try_from(2 * REVOCATIONS_MAX).unwrap_or(i64::MAX);
        let options = GetOptions::new().with_prefix().with_limit(limit);
        let found = self.etcd.range(keys::REVOKED.into(), options).await?.kvs;
        Ok(found.iter().filter_map(named).collect())
    }

    /// Deletes a revocation at the revision given; false if it has changed since or is gone.
    ///
    /// # Errors
    /// Those of the transport; after an unknown outcome read it again.
    pub async fn delete_revocation(
        &self,
        revoked: &Revoked,
        revision: i64,
    ) -> Result<bool, StoreError> {
        self.delete_at(keys::revoked(revoked), revision).await
    }
}

fn decode(kv: &PbKeyValue) -> Result<Found, StoreError> {
    let record = values::decode_document(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, Arc::new(record)))
}
