//! The gRPC services: checks, hand-over to the writer or the state, headers.

pub(crate) mod cluster;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;

use crate::engine::Answer;
use tonic::Status;

/// An answer of the wrong kind: impossible by construction, and still not worth a panic.
fn mismatch(answer: &Answer) -> Status {
    Status::internal(format!("the writer answered something else: {answer:?}"))
}
