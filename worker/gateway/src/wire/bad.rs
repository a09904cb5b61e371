//! Why a request is not taken.

use super::json::Fault;

/// Why a request is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    /// Not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(#[from] Fault),
    /// Some other value.
    #[error("the body is not a JSON object")]
    NotObject,
    /// A member that must be there.
    #[error("{0}: is missing")]
    Missing(&'static str),
    /// A member that stands there twice: servers differ in which they take.
    #[error("{0}: stands there more than once")]
    Twice(&'static str),
    /// A member that some servers take for another one.
    #[error("{found}: must be written {field}")]
    Alike {
        /// What it would be taken for.
        field: &'static str,
        /// What was found.
        found: String,
    },
    /// A member with a value that is not allowed.
    #[error("{field}: found {found}, allowed is {allowed}")]
    Wrong {
        /// Which.
        field: &'static str,
        /// Its value, shortened.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// Something whose cost the gateway could not see.
    #[error("{field}: {why}")]
    Unmetered {
        /// Which member.
        field: &'static str,
        /// Why it is refused.
        why: &'static str,
    },
    /// A tool that the provider runs, and bills by something else than tokens.
    #[error(
        "tools: the provider runs {tool} itself and bills it apart, and there is no price for that here; allowed are \
         functions, tools that the client runs, and searches of the web"
    )]
    Unpriced {
        /// Its type, shortened.
        tool: String,
    },
}
