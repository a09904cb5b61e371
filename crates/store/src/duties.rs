//! Seal duties as the API reads and writes them: an operator gives one up from any scheduler. Everything
//! else about them is the leader's.

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use flyball_core::ids::LoopUid;
use flyball_core::seal::SealDuty;

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
        self.replace(key, value, duty, expected_revision, decode).await
    }

    /// Reads a seal duty.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_duty(
        &self,
        uid: &LoopUid,
    ) -> Result<Option<Stored<Arc<SealDuty>>>, StoreError> {
        self.etcd.get(keys::duty(uid)).await?.map(|kv| decode(&kv)).transpose()
    }
}

fn decode(kv: &PbKeyValue) -> Result<Stored<Arc<SealDuty>>, StoreError> {
    let duty = values::decode_duty(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, Arc::new(duty)))
}
