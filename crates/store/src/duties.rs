//! Seal duties as the API reads and writes them: an operator gives one up from any scheduler. Everything
//! else about them is the leader's.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use etcd_client::{Compare, CompareOp, Txn, TxnOp};
use flyball_core::ids::LoopUid;
use flyball_core::seal::SealDuty;

use crate::client::ranges;
use crate::error::StoreError;
use crate::keys;
use crate::loops::{Update, stored};
use crate::store::Store;
use crate::values::{self, Stored};

impl Store {
    /// Writes a seal duty over the one read at `expected_revision` (0: there was none).
    ///
    /// # Errors
    /// Those of the transport, or a value above its bound. After [`StoreError::Unknown`] the same
    /// change may be repeated: it is done once.
    pub async fn put_duty(
        &self,
        duty: &SealDuty,
        expected_revision: i64,
    ) -> Result<Update<Arc<SealDuty>>, StoreError> {
        let key = keys::duty(&duty.loop_uid);
        let value = values::encode_duty(duty)?;
        let txn = Txn::new()
            .when([Compare::mod_revision(key.clone(), CompareOp::Equal, expected_revision)])
            .and_then([TxnOp::put(key.clone(), value, None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.etcd.txn(txn).await?;
        if answer.succeeded {
            return Ok(Update::Done { revision: answer.revision });
        }
        let found = ranges(answer.responses).next().and_then(|mut kvs| kvs.pop());
        match found.map(decode).transpose()? {
            Some(found) if *found.value == *duty => {
                Ok(Update::Done { revision: found.mod_revision })
            }
            found => Ok(Update::Conflict(found)),
        }
    }

    /// Reads a seal duty.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_duty(
        &self,
        uid: &LoopUid,
    ) -> Result<Option<Stored<Arc<SealDuty>>>, StoreError> {
        self.etcd.get(keys::duty(uid)).await?.map(decode).transpose()
    }
}

fn decode(kv: PbKeyValue) -> Result<Stored<Arc<SealDuty>>, StoreError> {
    let duty = values::decode_duty(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(&kv, Arc::new(duty)))
}
