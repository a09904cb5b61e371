//! What can go wrong with git, and what it means for the loop.

use super::oid::Oid;

/// A git operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GitError {
    /// Network, authentication, no such repository. The loop parks with backoff.
    #[error("repository unreachable: {message}")]
    Unreachable {
        /// What git said, without credentials.
        message: String,
    },
    /// The repository answers but has no such branch, tag or ref.
    #[error("no such branch, tag or ref: {reference}")]
    MissingRef {
        /// The ref that was asked for.
        reference: String,
    },
    /// The server cannot push atomically, so it cannot fence.
    #[error("the server does not support atomic pushes, which the journal needs as its seal")]
    AtomicUnsupported,
    /// The server refused a push for reasons of its own (a hook, a protected branch).
    #[error("the server refused the push: {message}")]
    Rejected {
        /// What the server said.
        message: String,
    },
    /// The repository has a format or URL that is not supported.
    #[error("unsupported repository: {message}")]
    Unsupported {
        /// What is not supported.
        message: String,
    },
    /// The connection was lost or timed out in the middle of a push: it may have been applied.
    #[error("outcome unknown: {message}")]
    Unknown {
        /// What is known.
        message: String,
    },
    /// More output than the bound of this call.
    #[error("git {operation} wrote more than {bytes_max} bytes")]
    TooLarge {
        /// The subcommand.
        operation: String,
        /// The bound.
        bytes_max: usize,
    },
    /// The process did not end in time and was killed.
    #[error("git {operation} was killed after {seconds} s")]
    TimedOut {
        /// The subcommand.
        operation: String,
        /// The bound in seconds.
        seconds: u64,
    },
    /// Something on this machine: disk full, no git, a damaged directory.
    #[error("git {operation} failed: {message}")]
    Local {
        /// The subcommand, or what was done.
        operation: String,
        /// What was said.
        message: String,
    },
}

impl GitError {
    /// True when the same operation may succeed later without anybody changing the loop.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unknown { .. }
            | Self::TimedOut { .. }
            | Self::Local { .. } => true,
            Self::MissingRef { .. }
            | Self::AtomicUnsupported
            | Self::Rejected { .. }
            | Self::Unsupported { .. }
            | Self::TooLarge { .. } => false,
        }
    }

    pub(super) fn local(operation: impl Into<String>, message: impl ToString) -> Self {
        Self::Local { operation: operation.into(), message: message.to_string() }
    }
}

/// An append to the journal, or its seal, failed. Nothing of the push was applied, except where
/// it says so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Somebody else appended: this owner has been replaced and must stop. Nothing of the push
    /// was applied.
    #[error("fenced: the journal is at token {found_token}, this owner has token {own_token}")]
    Fenced {
        /// Token of the last record found.
        found_token: i64,
        /// This owner's token.
        own_token: i64,
    },
    /// An earlier push of this very owner, whose outcome was unknown, was applied after all. Open
    /// the journal again and go on from what it says.
    #[error("an earlier push of this owner was applied late; the journal must be read again")]
    Late,
    /// The publish branch is not where it was expected; the journal is. Nothing was applied.
    #[error("{reference} moved: it is at {}", found.as_ref().map_or("nothing", Oid::as_str))]
    PublishMoved {
        /// Full name of the ref that moved.
        reference: String,
        /// Where it is now; `None` if it does not exist.
        found: Option<Oid>,
    },
    /// The chain holds something that is not a record.
    #[error("the journal is damaged at {commit}: {message}")]
    Corrupt {
        /// The commit that cannot be read.
        commit: Oid,
        /// What is wrong.
        message: String,
    },
    /// Anything else; [`GitError::Unknown`] means that reading back failed too.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl JournalError {
    /// True when the same append may succeed later without a new decision.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Fenced { .. } | Self::Late | Self::PublishMoved { .. } | Self::Corrupt { .. } => {
                false
            }
            Self::Git(error) => error.is_retryable(),
        }
    }
}

/// Longest message kept of a git process, in bytes; the end of stderr is where the cause is.
const MESSAGE_BYTES_MAX: usize = 2000;

/// The end of stderr as one bounded text without progress lines and without credentials in URLs.
pub(super) fn message_of(stderr: &str) -> String {
    let lines: Vec<&str> = stderr
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty() && !line.starts_with("hint:"))
        .collect();
    let mut text = without_credentials(&lines.join("; "));
    if text.len() > MESSAGE_BYTES_MAX {
        let mut from = text.len() - MESSAGE_BYTES_MAX;
        while !text.is_char_boundary(from) {
            from += 1;
        }
        text = format!("…{}", &text[from..]);
    }
    if text.is_empty() { "no message".to_owned() } else { text }
}

/// Removes `user:password@` from every `scheme://` in a text.
pub(super) fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c == '\'' || c == '"' || c.is_whitespace())
            .unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user_end) => &after[user_end + 1..],
            None => after,
        };
    }
    out.push_str(rest);
    out
}

/// What the stderr of a failed call to a remote means. Git is run with `LC_ALL=C`, so the texts
/// are stable (checked against 2.39 and 2.47).
pub(super) fn remote_failure(operation: &str, stderr: &str) -> GitError {
    let message = message_of(stderr);
    let has = |needle: &str| stderr.contains(needle);
    if let Some((_, reference)) = stderr.split_once("couldn't find remote ref ") {
        let reference = reference.lines().next().unwrap_or_default().trim().to_owned();
        return GitError::MissingRef { reference };
    }
    if has("does not support --atomic") {
        return GitError::AtomicUnsupported;
    }
    if has("mismatched algorithms") || has("mismatched object format") {
        return GitError::Unsupported { message };
    }
    if has("transport '") && has("not allowed") || has("is not a valid remote name") {
        return GitError::Unsupported { message };
    }
    let of_this_machine =
        ["No space left on device", "cannot lock ref", "unable to write", "unable to create"];
    if of_this_machine.iter().any(|needle| has(needle)) && !has("remote:") {
        return GitError::local(operation, message);
    }
    GitError::Unreachable { message }
}

/// What the stderr of a failed checkout means: content that git refuses to write is the
/// repository's fault and stays so, the rest is this machine's.
pub(super) fn checkout_failure(operation: &str, stderr: &str) -> GitError {
    let message = message_of(stderr);
    if stderr.contains("invalid path") {
        GitError::Unsupported { message }
    } else {
        GitError::local(operation, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_never_reach_a_message() {
        let text = "fatal: unable to access 'https://joe:s3cret@example.org/a@b/': no";
        assert_eq!(message_of(text), "fatal: unable to access 'https://example.org/a@b/': no");
        assert_eq!(without_credentials("ssh://git@host/x file:///a@b"), "ssh://host/x file:///a@b");
    }

    #[test]
    fn remote_failures_are_told_apart() {
        let missing = remote_failure("fetch", "fatal: couldn't find remote ref refs/heads/x\n");
        assert_eq!(missing, GitError::MissingRef { reference: "refs/heads/x".to_owned() });
        assert!(!missing.is_retryable());
        let atomic =
            remote_failure("push", "fatal: the receiving end does not support --atomic push\n");
        assert_eq!(atomic, GitError::AtomicUnsupported);
        let away = remote_failure("fetch", "fatal: Could not read from remote repository.\n");
        assert!(matches!(away, GitError::Unreachable { .. }) && away.is_retryable());
    }
}
