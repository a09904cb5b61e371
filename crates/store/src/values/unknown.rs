//! Fields of a newer version in a protobuf message: found as raw bytes, so that a rewrite by this
//! version can append them unchanged.

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::DecodeError;

/// The raw fields of `message` whose tag is above `tag_max`, in their order.
pub(super) fn fields_above(message: &[u8], tag_max: u32) -> Result<Vec<u8>, DecodeError> {
    let malformed = |error: prost::DecodeError| DecodeError::Malformed(error.to_string());
    let mut unknown = Vec::new();
    let mut rest = message;
    while rest.has_remaining() {
        let start = rest;
        let (tag, wire_type) = decode_key(&mut rest).map_err(malformed)?;
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(malformed)?;
        if tag > tag_max {
            unknown.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    Ok(unknown)
}
