//! Bytes of a row: the changes of consecutive revisions, each change one tag byte and one
//! length-delimited key-value message of etcd's own protocol, each revision closed by a tag.

use crate::error::OpenError;
use crate::mvcc::Change;
use etcd_client::proto::PbKeyValue;
use prost::Message;
use std::sync::Arc;

const PUT: u8 = 0;
const DELETE: u8 = 1;
const END_OF_REVISION: u8 = 2;

/// Encodes revisions in order.
pub(super) fn encode<'a>(revisions: impl Iterator<Item = (i64, &'a Arc<[Change]>)>) -> Vec<u8> {
    let mut row = Vec::new();
    for (_, changes) in revisions {
        for change in changes.iter() {
            row.push(if change.deleted { DELETE } else { PUT });
            row.extend_from_slice(&change.kv.encode_length_delimited_to_vec());
        }
        row.push(END_OF_REVISION);
    }
    row
}

/// Decodes what `encode` made; the error says what is wrong.
pub(super) fn decode(mut row: &[u8]) -> Result<Vec<Vec<Change>>, String> {
    let mut revisions = Vec::new();
    let mut changes = Vec::new();
    while let Some((tag, rest)) = row.split_first() {
        row = rest;
        match *tag {
            END_OF_REVISION => revisions.push(std::mem::take(&mut changes)),
            PUT | DELETE => {
                let kv = PbKeyValue::decode_length_delimited(&mut row)
                    .map_err(|error| format!("a change does not decode: {error}"))?;
                changes.push(Change { kv: Arc::new(kv), deleted: *tag == DELETE });
            }
            other => return Err(format!("unknown tag {other} in a row")),
        }
    }
    if changes.is_empty() { Ok(revisions) } else { Err("a row ends inside a revision".to_owned()) }
}

pub(super) fn encode_kv(kv: &PbKeyValue) -> Vec<u8> {
    kv.encode_to_vec()
}

pub(super) fn decode_kv(bytes: &[u8]) -> Result<PbKeyValue, OpenError> {
    PbKeyValue::decode(bytes)
        .map_err(|error| OpenError::Damaged(format!("a base row does not decode: {error}")))
}
