//! What a command returns when it could not do what was asked: a stable code, an exit code, a
//! message, field errors and what to do next. Answers of the API are translated here and only here.

use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::exit::Exit;

/// What every command returns.
pub type Outcome = Result<Exit, Failure>;

/// Why a command failed, ready to be shown to a person or as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Stable word for scripts, e.g. `not-found`.
    pub code: &'static str,
    /// What happened, without a final period.
    pub message: String,
    /// Faults of single fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
    /// What to do next, one step per line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// How the process ends.
    #[serde(serialize_with = "exit_number", rename = "exitCode")]
    pub exit: Exit,
}

/// The fault of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Field {
    /// File, with line and column where known; empty if the field came over the network.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Path of the field, e.g. `spec.checks[0].run`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn exit_number<S: serde::Serializer>(exit: &Exit, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*exit as u8)
}

impl Failure {
    /// A failure that ends with exit code 1.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, fields: Vec::new(), hints: Vec::new(), exit: Exit::Error }
    }

    /// A mistake in the command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new("usage", message).exit(Exit::Usage)
    }

    /// With another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// With one more step that the user can take.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// With field errors.
    #[must_use]
    pub fn fields(mut self, fields: Vec<Field>) -> Self {
        self.fields = fields;
        self
    }

    /// An answer of the server that this client cannot read.
    pub fn unreadable(what: &str, error: impl std::fmt::Display) -> Self {
        Self::new("unreadable", format!("the server's {what} cannot be read: {error}"))
            .hint("compare the versions of client and server: flyball version")
    }

    /// Ends quietly: the reader of the output has gone away.
    pub(crate) fn is_closed_output(&self) -> bool {
        self.code == CLOSED_OUTPUT
    }
}

const CLOSED_OUTPUT: &str = "closed-output";

impl From<std::io::Error> for Failure {
    /// Errors of writing the output; other I/O gets a message of its own where it happens.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(CLOSED_OUTPUT, "").exit(Exit::Ok),
            _ => Self::new("output", format!("the output cannot be written: {error}")),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let (code, exit) = match status.code() {
            Code::InvalidArgument => ("invalid", Exit::Error),
            Code::NotFound => ("not-found", Exit::Error),
            Code::AlreadyExists => ("already-exists", Exit::Error),
            Code::FailedPrecondition => ("not-now", Exit::Error),
            Code::Aborted => ("conflict", Exit::Error),
            Code::Unauthenticated => ("unauthenticated", Exit::Auth),
            Code::PermissionDenied => ("not-allowed", Exit::Auth),
            Code::ResourceExhausted => ("too-much", Exit::Error),
            Code::Unavailable => ("unavailable", Exit::Error),
            Code::DeadlineExceeded => ("timeout", Exit::Error),
            Code::Unimplemented => ("unsupported", Exit::Error),
            _ => ("internal", Exit::Error),
        };
        let failure = Self::new(code, message(&status)).exit(exit).fields(fields(&status));
        match code {
            // With a certificate that does not count no token helps.
            "unauthenticated" if failure.message.contains("certificate") => {
                failure.hint("look at it: flyball pki show DIR; then join again, or ask for a new one")
            }
            "unauthenticated" => failure
                .hint("give the token of this scheduler: --token-file FILE, or FLYBALL_TOKEN"),
            "too-much" if is_full(&status) => Self { code: "store-full", ..failure }.hint(
                "nothing was changed; make room in etcd and try again: docs/troubleshooting.md, StoreFull",
            ),
            "unavailable" => failure.hint("is a scheduler running? start one with: flyball up"),
            "not-allowed" => failure
                .hint("what you may do: flyball auth whoami, flyball auth can-i VERB KIND [-n NS]"),
            "unsupported" => failure.hint("compare the versions: flyball version"),
            _ => failure,
        }
    }
}

/// The store takes no writes until an operator makes room.
fn is_full(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == "STORE_FULL")
}

fn message(status: &Status) -> String {
    match status.message() {
        "" => format!("the scheduler answered: {}", status.code()),
        text => text.trim_end_matches('.').to_owned(),
    }
}

fn fields(status: &Status) -> Vec<Field> {
    let violations = status.get_details_bad_request().map(|request| request.field_violations);
    let violations = violations.unwrap_or_default().into_iter();
    violations
        .map(|one| Field { source: String::new(), field: one.field, description: one.description })
        .collect()
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn field_violations_of_an_answer_are_kept() {
        let violation = FieldViolation::new("spec.goal", "must say what is to be reached");
        let details = ErrorDetails::with_bad_request(vec![violation]);
        let status = Status::with_error_details(Code::InvalidArgument, "invalid manifest", details);
        let failure = Failure::from(status);
        assert_eq!(failure.code, "invalid");
        assert_eq!(failure.fields[0].field, "spec.goal");
        assert_eq!(failure.fields[0].description, "must say what is to be reached");
    }

    #[test]
    fn authentication_has_its_own_exit_code() {
        assert_eq!(Failure::from(Status::unauthenticated("no token")).exit, Exit::Auth);
        assert_eq!(Failure::from(Status::permission_denied("no")).exit, Exit::Auth);
        assert_eq!(Failure::from(Status::not_found("loop x")).exit, Exit::Error);
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(failure.is_closed_output());
        assert_eq!(failure.exit, Exit::Ok);
    }
}
