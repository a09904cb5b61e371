//! Node records as the API writes and reads them (cordon, uncordon, drain).

use std::sync::Arc;

use etcd_client::proto::PbKeyValue;
use flyball_core::ids::NodeName;
use flyball_core::node::NodeRecord;

use crate::error::StoreError;
use crate::keys;
use crate::loops::{Update, stored};
use crate::store::Store;
use crate::values::{self, Stored};

impl Store {
    /// Writes a node's record over the one read at `expected_revision` (0: there was none).
    ///
    /// # Errors
    /// Those of the transport, or a value above its bound. After [`StoreError::Unknown`] the same
    /// change may be repeated: it is done once.
    pub async fn put_node(
        &self,
        record: &NodeRecord,
        expected_revision: i64,
    ) -> Result<Update<Arc<NodeRecord>>, StoreError> {
        let key = keys::node(&record.name);
        let value = values::encode_node(record)?;
        self.replace(key, value, record, expected_revision, decode).await
    }

    /// Reads a node's record.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn get_node(
        &self,
        name: &NodeName,
    ) -> Result<Option<Stored<Arc<NodeRecord>>>, StoreError> {
        self.etcd.get(keys::node(name)).await?.map(|kv| decode(&kv)).transpose()
    }
}

fn decode(kv: &PbKeyValue) -> Result<Stored<Arc<NodeRecord>>, StoreError> {
    let record = values::decode_node(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, Arc::new(record)))
}
