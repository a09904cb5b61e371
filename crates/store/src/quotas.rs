//! Quota pools of providers' accounts: read with what they depend on, and written if nothing of it has changed.

use etcd_client::proto::PbKeyValue;
use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp};
use flyball_core::ids::NodeName;
use flyball_core::model::{Definition, DefinitionKey, DefinitionKind, Pool, ProviderQuota};

use crate::client::ranges;
use crate::error::StoreError;
use crate::keys::{self, Key};
use crate::loops::stored;
use crate::store::Store;
use crate::values::{self, SessionRecord, Stored};

/// A pool as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolState {
    /// The pool; an empty one if there is none yet.
    pub pool: Pool,
    /// What the account allows.
    pub quota: ProviderQuota,
    /// The session of the node that asks.
    pub session: Option<Stored<SessionRecord>>,
    revision: i64,
}

impl Store {
    /// Reads a provider's pool and the session of the node that asks about it; `None` if there is no such provider.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn quota_pool(
        &self,
        provider: &str,
        node: &NodeName,
    ) -> Result<Option<PoolState>, StoreError> {
        let reads = [provider_key(provider), keys::quota(provider), keys::session(node)];
        let reads: Vec<TxnOp> = reads.into_iter().map(|key| TxnOp::get(key, None)).collect();
        let answer =
            self.etcd.txn(Txn::new().and_then(reads)).await.map_err(StoreError::of_read)?;
        let mut found = ranges(answer.responses).map(|mut kvs| kvs.pop());
        let mut next = || found.next().flatten();
        let Some(quota) = next().map(|kv| quota_of(&kv)).transpose()? else { return Ok(None) };
        let (pool, revision) = pool_of(next())?;
        let session = next().map(|kv| {
            let session = SessionRecord::decode(node.clone(), &kv.value);
            session.map(|one| stored(&kv, one)).map_err(|error| error.at(&kv.key))
        });
        Ok(Some(PoolState { pool, quota, session: session.transpose()?, revision }))
    }

    /// Writes a pool in place of the one that was read, while the node's session is the one that was read. False:
    /// somebody was faster, or the session has ended; look again.
    ///
    /// # Errors
    /// Those of the transport. After [`StoreError::Unknown`] look again too: a slice that was granted is found.
    pub async fn put_quota_pool(
        &self,
        provider: &str,
        pool: &Pool,
        read: &PoolState,
    ) -> Result<bool, StoreError> {
        let key = keys::quota(provider);
        let mut compares =
            vec![Compare::mod_revision(key.clone(), CompareOp::Equal, read.revision)];
        if let Some(session) = &read.session {
            let key = keys::session(&session.value.node);
            compares.push(Compare::create_revision(key, CompareOp::Equal, session.create_revision));
        }
        let value = values::encode_document(pool, "a quota pool")?;
        let txn = Txn::new().when(compares).and_then([TxnOp::put(key, value, None)]);
        Ok(self.etcd.txn(txn).await?.succeeded)
    }

    /// All providers with their pools.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn list_quota_pools(&self) -> Result<Vec<(String, ProviderQuota, Pool)>, StoreError> {
        let options = GetOptions::new().with_prefix();
        let prefix = keys::definitions_of(DefinitionKind::Provider);
        let providers = self.etcd.range(prefix, options.clone()).await?.kvs;
        let pools = self.etcd.range(keys::QUOTAS.into(), options).await?.kvs;
        let mut all = Vec::with_capacity(providers.len());
        for kv in providers {
            let Key::Definition(DefinitionKey { name, .. }) = Key::decode(&kv.key) else {
                continue;
            };
            let key = keys::quota(&name);
            let pool = pools.iter().find(|pool| pool.key == key).cloned();
            all.push((name, quota_of(&kv)?, pool_of(pool)?.0));
        }
        Ok(all)
    }
}

fn provider_key(name: &str) -> Vec<u8> {
    keys::definition(&DefinitionKey::new(DefinitionKind::Provider, name))
}

fn quota_of(kv: &PbKeyValue) -> Result<ProviderQuota, StoreError> {
    let record =
        values::decode_access::<Definition>(&kv.value).map_err(|error| error.at(&kv.key))?;
    match record.manifest {
        Definition::Provider(manifest) => Ok(manifest.spec.quota),
        _ => Ok(ProviderQuota::default()),
    }
}

fn pool_of(kv: Option<PbKeyValue>) -> Result<(Pool, i64), StoreError> {
    let Some(kv) = kv else { return Ok((Pool::default(), 0)) };
    let pool = values::decode_document(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok((pool, kv.mod_revision))
}
