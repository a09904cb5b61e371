//! Roles and bindings as the API writes and reads them: from any scheduler, each write guarded by the
//! revision it was based on.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use flyball_core::access::{BINDINGS_MAX, BindingKey, BindingManifest, ROLES_MAX, RoleManifest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::keys::{self, Key};
use crate::loops::{Update, stored};
use crate::store::Store;
use crate::values::{self, AccessRecord, Stored};

/// A role or binding as it is in the store.
type Found<M> = Stored<Arc<AccessRecord<M>>>;

impl Store {
    /// Writes a role over the one read at `expected_revision` (0: there was none).
    ///
    /// # Errors
    /// Those of the transport, or a value above its bound. After [`StoreError::Unknown`] the same
    /// change may be repeated: it is done once.
    pub async fn put_role(
        &self,
        record: &AccessRecord<RoleManifest>,
        expected_revision: i64,
    ) -> Result<Update<Arc<AccessRecord<RoleManifest>>>, StoreError> {
        let key = keys::role(&record.manifest.metadata.name);
        self.put_access(key, record, "a role", expected_revision).await
    }

    /// Writes a binding over the one read at `expected_revision` (0: there was none).
    ///
    /// # Errors
    /// See [`Store::put_role`].
    pub async fn put_binding(
        &self,
        record: &AccessRecord<BindingManifest>,
        expected_revision: i64,
    ) -> Result<Update<Arc<AccessRecord<BindingManifest>>>, StoreError> {
        let metadata = &record.manifest.metadata;
        let (namespace, name) = (metadata.namespace.clone(), metadata.name.clone());
        let key = keys::binding(&BindingKey { namespace, name });
        self.put_access(key, record, "a role binding", expected_revision).await
    }

    async fn put_access<M: Serialize + DeserializeOwned + PartialEq>(
        &self,
        key: Vec<u8>,
        record: &AccessRecord<M>,
        what: &str,
        expected_revision: i64,
    ) -> Result<Update<Arc<AccessRecord<M>>>, StoreError> {
        let value = values::encode_access(record, what)?;
        self.replace(key, value, record, expected_revision, decode).await
    }

    /// Reads a role.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_role(&self, name: &str) -> Result<Option<Found<RoleManifest>>, StoreError> {
        self.etcd.get(keys::role(name)).await?.map(|kv| decode(&kv)).transpose()
    }

    /// Reads a binding.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_binding(
        &self,
        key: &BindingKey,
    ) -> Result<Option<Found<BindingManifest>>, StoreError> {
        self.etcd.get(keys::binding(key)).await?.map(|kv| decode(&kv)).transpose()
    }

    /// All roles that can be read, by name.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_roles(&self) -> Result<Vec<(String, Found<RoleManifest>)>, StoreError> {
        let named = |kv: &PbKeyValue| match Key::decode(&kv.key) {
            Key::Role(name) => Some((name, decode(kv).ok()?)),
            _ => None,
        };
        let options = GetOptions::new().with_prefix().with_limit(limit(ROLES_MAX));
        let found = self.etcd.range(keys::ROLES.into(), options).await?.kvs;
        Ok(found.iter().filter_map(named).collect())
    }

    /// All bindings that can be read, by key.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_bindings(
        &self,
    ) -> Result<Vec<(BindingKey, Found<BindingManifest>)>, StoreError> {
        let named = |kv: &PbKeyValue| match Key::decode(&kv.key) {
            Key::Binding(key) => Some((key, decode(kv).ok()?)),
            _ => None,
        };
        let options = GetOptions::new().with_prefix().with_limit(limit(BINDINGS_MAX));
        let found = self.etcd.range(keys::BINDINGS.into(), options).await?.kvs;
        Ok(found.iter().filter_map(named).collect())
    }

    /// Deletes a role at the revision given; false if it has changed since or is gone.
    ///
    /// # Errors
    /// Those of the transport; after an unknown outcome read it again.
    pub async fn delete_role(&self, name: &str, revision: i64) -> Result<bool, StoreError> {
        self.delete_at(keys::role(name), revision).await
    }

    /// Deletes a binding at the revision given; false if it has changed since or is gone.
    ///
    /// # Errors
    /// Those of the transport; after an unknown outcome read it again.
    pub async fn delete_binding(
        &self,
        key: &BindingKey,
        revision: i64,
    ) -> Result<bool, StoreError> {
        self.delete_at(keys::binding(key), revision).await
    }

    pub(crate) async fn delete_at(&self, key: Vec<u8>, revision: i64) -> Result<bool, StoreError> {
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, revision)])
            .and_then([TxnOp::delete(key, None)]);
        Ok(self.etcd.txn(txn).await?.succeeded)
    }
}

/// Two schedulers may each let in the last one at the same time; a listing shows what is there.
fn limit(most: usize) -> i64 {
    i64::try_from(2 * most).unwrap_or(i64::MAX)
}

fn decode<M: DeserializeOwned>(kv: &PbKeyValue) -> Result<Found<M>, StoreError> {
    let record = values::decode_access(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, Arc::new(record)))
}
