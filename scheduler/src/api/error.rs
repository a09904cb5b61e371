//! The one place where errors become wire status codes with details.

use flyball_core::ids::LoopKey;
use flyball_core::manifest::FieldError;
use flyball_store::StoreError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::shell::Stopped;

/// The domain of all error codes.
const DOMAIN: &str = "flyball.dev";

/// Most field violations in one answer; a longer list helps nobody.
const VIOLATIONS_MAX: usize = 50;

/// An error with a machine-readable reason.
pub(crate) fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, []);
    Status::with_error_details(code, message, details)
}

/// Everything that is wrong with a manifest.
pub(super) fn invalid(errors: &[FieldError]) -> Status {
    let mut details = ErrorDetails::with_error_info("INVALID_MANIFEST", DOMAIN, []);
    for error in errors.iter().take(VIOLATIONS_MAX) {
        details.add_bad_request_violation(error.path.clone(), error.detail());
    }
    let message = match errors {
        [one] => format!("{}: {}", one.path, one.detail()),
        _ => format!("the manifest has {} errors", errors.len()),
    };
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// A field of a request that is no part of a manifest.
pub(super) fn invalid_field(field: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    let mut details = ErrorDetails::with_error_info("INVALID_ARGUMENT", DOMAIN, []);
    details.add_bad_request_violation(field, message.clone());
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {message}"), details)
}

/// There is no such loop.
pub(super) fn no_loop(key: &LoopKey) -> Status {
    status(Code::NotFound, "LOOP_NOT_FOUND", format!("there is no loop {key}"))
}

/// Somebody else wrote at the same time, again and again.
pub(super) fn contended(what: &str) -> Status {
    status(Code::Aborted, "CONFLICT", format!("{what} was changed at the same time; try again"))
}

/// What the store's errors mean for a client.
pub(super) fn of_store(error: &StoreError) -> Status {
    let (code, reason) = match error {
        StoreError::Unavailable { .. } | StoreError::Stale { .. } => {
            (Code::Unavailable, "STORE_UNAVAILABLE")
        }
        StoreError::Unknown { .. } => (Code::Unknown, "OUTCOME_UNKNOWN"),
        StoreError::OutOfSpace { .. } => (Code::ResourceExhausted, "STORE_FULL"),
        StoreError::TooLarge { .. } => (Code::InvalidArgument, "TOO_LARGE"),
        StoreError::LeaseLost { .. } => (Code::NotFound, "LEASE_LOST"),
        StoreError::Refused { .. }
        | StoreError::Compacted { .. }
        | StoreError::Undecodable { .. }
        | StoreError::Newer { .. } => (Code::Internal, "STORE_ERROR"),
    };
    status(code, reason, error.to_string())
}

impl From<Stopped> for Status {
    fn from(stopped: Stopped) -> Self {
        status(Code::Unavailable, "SHUTTING_DOWN", stopped.to_string())
    }
}
