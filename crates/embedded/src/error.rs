//! Errors: opening a store, and etcd's own gRPC statuses with their exact codes and texts.

use std::path::PathBuf;
use tonic::{Code, Status};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or another `Server` of this one) has the directory open. Retryable after
    /// that one has ended.
    #[error("the store in {} is in use by another process", path.display())]
    InUse {
        /// Directory that is locked.
        path: PathBuf,
    },
    /// The directory could not be created or read. Not retryable without a change from outside.
    #[error("cannot use the store directory {}: {source}", path.display())]
    Directory {
        /// Directory that was asked for.
        path: PathBuf,
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// The file was written by a newer format. Not retryable: start the matching version.
    #[error("the store has format {found}; this version reads format {known}")]
    Format {
        /// Format number in the file.
        found: u64,
        /// Newest format number that is understood.
        known: u64,
    },
    /// A record cannot be decoded. Not retryable.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The storage engine failed. Not retryable in general.
    #[error("the storage engine failed: {0}")]
    Storage(#[from] Box<redb::Error>),
    /// The writer thread could not be started. Retryable.
    #[error("cannot start the writer thread: {0}")]
    Thread(std::io::Error),
}

impl OpenError {
    /// Whether trying again later, with nothing else changed, can succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Thread(_))
    }
}

/// Anything that redb reports, as one boxed error (its kinds are large).
pub(crate) fn storage(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}

/// A refusal with etcd's code and text.
pub(crate) type Refusal = (Code, &'static str);

pub(crate) const EMPTY_KEY: Refusal = (Code::InvalidArgument, "etcdserver: key is not provided");
pub(crate) const KEY_NOT_FOUND: Refusal = (Code::InvalidArgument, "etcdserver: key not found");
pub(crate) const VALUE_PROVIDED: Refusal = (Code::InvalidArgument, "etcdserver: value is provided");
pub(crate) const LEASE_PROVIDED: Refusal = (Code::InvalidArgument, "etcdserver: lease is provided");
pub(crate) const TOO_MANY_OPS: Refusal =
    (Code::InvalidArgument, "etcdserver: too many operations in txn request");
pub(crate) const DUPLICATE_KEY: Refusal =
    (Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
pub(crate) const COMPACTED: Refusal =
    (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
pub(crate) const FUTURE_REVISION: Refusal =
    (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision");
pub(crate) const LEASE_NOT_FOUND: Refusal =
    (Code::NotFound, "etcdserver: requested lease not found");
pub(crate) const LEASE_EXISTS: Refusal =
    (Code::FailedPrecondition, "etcdserver: lease already exists");
pub(crate) const LEASE_TTL_TOO_LARGE: Refusal =
    (Code::OutOfRange, "etcdserver: too large lease TTL");
pub(crate) const REQUEST_TOO_LARGE: Refusal =
    (Code::InvalidArgument, "etcdserver: request is too large");
pub(crate) const TOO_MANY_REQUESTS: Refusal =
    (Code::ResourceExhausted, "etcdserver: too many requests");
pub(crate) const STOPPED: Refusal = (Code::Unavailable, "etcdserver: server stopped");

/// The refusal as a gRPC status.
pub(crate) fn status((code, message): Refusal) -> Status {
    Status::new(code, message)
}

/// A method of etcd that this server deliberately does not have.
pub(crate) fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("flyball's embedded store does not serve {what}"))
}
