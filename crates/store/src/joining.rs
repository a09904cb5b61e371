//! Join tokens, and the schedulers that can sign certificates, as the API writes and reads them.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::PbKeyValue;
use etcd_client::{GetOptions, PutOptions, Txn, TxnOp};
use flyball_core::joining::{JOIN_TOKENS_MAX, JoinTokenRecord};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::keys::{self, Key};
use crate::loops::{Update, stored};
use crate::store::Store;
use crate::values::{self, Stored};

/// A join token as it is in the store.
type Found = Stored<Arc<JoinTokenRecord>>;

/// Signers that are looked at; a fleet has a handful.
const SIGNERS_MAX: i64 = 100;

/// A scheduler that can sign certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SignerRecord {
    /// Where it is reached, `https://host:port`.
    pub address: String,
    /// SHA-256 of the public key of the authority behind its own certificate, lower-case hexadecimal.
    pub pin: String,
}

impl Store {
    /// Writes a new join token.
    ///
    /// # Errors
    /// Those of the transport. After [`StoreError::Unknown`] the same may be repeated.
    pub async fn create_join_token(
        &self,
        id: &str,
        record: &JoinTokenRecord,
    ) -> Result<Update<Arc<JoinTokenRecord>>, StoreError> {
        let value = values::encode_document(record, "a join token")?;
        self.replace(keys::join_token(id), value, record, 0, decode).await
    }

    /// Reads a join token.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_join_token(&self, id: &str) -> Result<Option<Found>, StoreError> {
        self.etcd.get(keys::join_token(id)).await?.map(|kv| decode(&kv)).transpose()
    }

    /// All join tokens that can be read, by id.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_join_tokens(&self) -> Result<Vec<(String, Found)>, StoreError> {
        let named = |kv: &PbKeyValue| match Key::decode(&kv.key) {
            Key::JoinToken(id) => Some((id, decode(kv).ok()?)),
            _ => None,
        };
        // Two schedulers may each let in the last one at the same time.
        let limit = i64::try_from(2 * JOIN_TOKENS_MAX).unwrap_or(i64::MAX);
        let options = GetOptions::new().with_prefix().with_limit(limit);
        let found = self.etcd.range(keys::JOIN_TOKENS.into(), options).await?.kvs;
        Ok(found.iter().filter_map(named).collect())
    }

    /// Deletes a join token at the revision given; false if it is gone. Whoever gets true has used it, and
    /// nobody else can.
    ///
    /// # Errors
    /// Those of the transport. After [`StoreError::Unknown`] it may be gone: it is not used.
    pub async fn delete_join_token(&self, id: &str, revision: i64) -> Result<bool, StoreError> {
        self.delete_at(keys::join_token(id), revision).await
    }

    /// Says that a scheduler can sign, for as long as the lease that is answered is kept alive.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe, an earlier lease ends by itself.
    pub async fn announce_signer(
        &self,
        scheduler: &str,
        record: &SignerRecord,
        ttl: Duration,
    ) -> Result<i64, StoreError> {
        let value = values::encode_document(record, "a signer")?;
        let (lease, _) = self.etcd.grant(ttl).await?;
        let options = PutOptions::new().with_lease(lease);
        let put = TxnOp::put(keys::signer(scheduler), value, Some(options));
        self.etcd.txn(Txn::new().and_then([put])).await?;
        Ok(lease)
    }

    /// The schedulers that can sign now.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn list_signers(&self) -> Result<Vec<SignerRecord>, StoreError> {
        let options = GetOptions::new().with_prefix().with_limit(SIGNERS_MAX);
        let found = self.etcd.range(keys::SIGNERS.into(), options).await?.kvs;
        let ours = found.iter().filter(|kv| matches!(Key::decode(&kv.key), Key::Signer(_)));
        Ok(ours.filter_map(|kv| values::decode_document(&kv.value).ok()).collect())
    }
}

fn decode(kv: &PbKeyValue) -> Result<Found, StoreError> {
    let record = values::decode_document(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, Arc::new(record)))
}
