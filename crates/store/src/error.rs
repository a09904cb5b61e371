//! What can go wrong between this crate and the store, sorted by the one question that matters:
//! was the request applied? Not, certainly not yet, or nobody knows.

use etcd_client::Error as EtcdError;
use tonic::{Code, ConnectError, Status};

/// A failed operation of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Provably not applied, and the same request may succeed later: no connection was made, or
    /// the store was busy or without a leader. Reads are always of this kind.
    #[error("the store cannot be used now: {why}")]
    Unavailable {
        /// What the store or the transport said.
        why: String,
    },
    /// The request was possibly sent and its answer was lost: it may have been applied, or may
    /// still be. Never repeat it; read back.
    #[error("the outcome is unknown: {why}")]
    Unknown {
        /// What the store or the transport said.
        why: String,
    },
    /// Provably not applied, and repeating it will not help: permission, a full store, a bad
    /// request.
    #[error("the store refused: {why}")]
    Refused {
        /// What the store said.
        why: String,
    },
    /// The store's quota is used up; it accepts deletes only.
    #[error(
        "the store is full, etcd has raised its NOSPACE alarm and takes only deletes: {why}; make \
         room (etcdctl compact, defrag, alarm disarm), then try again"
    )]
    OutOfSpace {
        /// What the store said.
        why: String,
    },
    /// The lease does not exist, or no longer.
    #[error("the lease is lost: {why}")]
    LeaseLost {
        /// What the store said.
        why: String,
    },
    /// A value or request above a bound; nothing was sent.
    #[error("{what} takes {bytes} bytes, more than the {bytes_max} allowed")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Its size.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The revision asked for is compacted away; list again.
    #[error("revision {revision} is compacted")]
    Compacted {
        /// The revision asked for.
        revision: i64,
    },
    /// A read answered with an older state than must exist (etcd 3.4.20 to 3.4.41 can, after a
    /// pause: issue 20418); read again.
    #[error("stale read: revision {found}, but {wanted} exists")]
    Stale {
        /// Revision of the answer.
        found: i64,
        /// The revision it must have at least.
        wanted: i64,
    },
    /// A value that cannot be read.
    #[error("{key}: {why}")]
    Undecodable {
        /// The key.
        key: String,
        /// What is wrong with its value.
        why: String,
    },
    /// A value or the schema of a newer version of Flyball.
    #[error("{what} has version {found}, this program knows up to {known}: upgrade it")]
    Newer {
        /// What is newer.
        what: String,
        /// Version found.
        found: u32,
        /// Highest version this program knows.
        known: u32,
    },
}

impl StoreError {
    /// True when the very same request may be sent again and may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Stale { .. })
    }

    /// True when the request may have been applied.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// The same failure of a request that changes nothing: not knowing is no harm then.
    pub(crate) fn of_read(self) -> Self {
        match self {
            Self::Unknown { why } => Self::Unavailable { why },
            other => other,
        }
    }

    /// No answer within the bound.
    pub(crate) fn timed_out(after: std::time::Duration) -> Self {
        Self::Unknown { why: format!("no answer within {after:?}") }
    }

    /// An answer that etcd's API does not allow. The request was sent, so nothing is known.
    pub(crate) fn bad_answer(why: &str) -> Self {
        Self::Unknown { why: format!("unexpected answer: {why}") }
    }
}

impl From<EtcdError> for StoreError {
    fn from(error: EtcdError) -> Self {
        match error {
            EtcdError::GRpcStatus(status) => Self::from(status),
            // Raised before anything is sent.
            EtcdError::InvalidArgs(_)
            | EtcdError::InvalidUri(_)
            | EtcdError::InvalidMetadataValue(_)
            | EtcdError::EndpointsNotManaged => Self::Refused { why: error.to_string() },
            _ => Self::Unknown { why: error.to_string() },
        }
    }
}

impl From<Status> for StoreError {
    fn from(status: Status) -> Self {
        let message = status.message();
        let why = format!("{message} ({:?})", status.code());
        if was_never_sent(&status) || is_refused_for_now(message) {
            return Self::Unavailable { why };
        }
        if message.contains("requested lease not found") {
            return Self::LeaseLost { why };
        }
        if message.contains("database space exceeded") {
            return Self::OutOfSpace { why };
        }
        match status.code() {
            // Answered by the server's checks, before anything was proposed.
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::Unimplemented => Self::Refused { why },
            // "OutOfRange" is left to the reader of ranges: on the wire it also stands for an
            // answer that was too long to decode, which comes after the request was applied.
            _ => Self::Unknown { why },
        }
    }
}

/// True when the transport never had a connection to send the request on.
fn was_never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Refusals that etcd makes before it proposes a request: overload, and no leader when the client
/// requires one. ("leader changed" and "request timed out" are not among them.)
fn is_refused_for_now(message: &str) -> bool {
    message == "etcdserver: too many requests" || message == "etcdserver: no leader"
}

/// True when a range or watch failed because its revision is compacted.
pub(crate) fn is_compacted(error: &EtcdError) -> bool {
    matches!(error, EtcdError::GRpcStatus(status)
        if status.message().contains("required revision has been compacted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(code: Code, message: &str) -> StoreError {
        StoreError::from(Status::new(code, message))
    }

    #[test]
    fn only_what_was_certainly_not_applied_may_be_repeated() {
        let busy = error_of(Code::ResourceExhausted, "etcdserver: too many requests");
        assert!(busy.is_retryable());
        assert!(error_of(Code::Unavailable, "etcdserver: no leader").is_retryable());
        for message in [
            "etcdserver: request timed out",
            "etcdserver: leader changed",
            "error reading a body from connection",
        ] {
            let error = error_of(Code::Unavailable, message);
            assert!(error.is_unknown() && !error.is_retryable(), "{message}");
        }
        assert!(error_of(Code::OutOfRange, "decoded message length too large").is_unknown());
        assert!(error_of(Code::Cancelled, "").is_unknown());
    }

    #[test]
    fn a_connection_that_was_never_made_sent_nothing() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let status = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        assert!(StoreError::from(status).is_retryable());
    }

    #[test]
    fn refusals_are_final() {
        let quota = error_of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded");
        assert!(matches!(quota, StoreError::OutOfSpace { .. }));
        let lease = error_of(Code::NotFound, "etcdserver: requested lease not found");
        assert!(matches!(lease, StoreError::LeaseLost { .. }));
        let dup = error_of(Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
        assert!(matches!(dup, StoreError::Refused { .. }));
    }
}
