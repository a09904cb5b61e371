//! Names and identities: what a loop, a node, a claim and a run are called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name of a loop, namespace or node, in bytes; the bound of a DNS label (RFC 1123), so
/// that names can be used in host names, file names and branch names without escaping.
pub const NAME_BYTES_MAX: usize = 63;

/// A name that breaks the rules of [`check_name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a valid name: use 1 to {NAME_BYTES_MAX} characters of a-z, 0-9 and '-', \
     starting and ending with a letter or digit"
)]
pub struct InvalidName {
    /// What was given.
    pub found: String,
}

/// Checks a name against the rules of an RFC 1123 label.
///
/// # Errors
/// [`InvalidName`] when it is empty, too long, or has a character outside `a-z0-9-`.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let valid = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if valid { Ok(()) } else { Err(InvalidName { found: name.to_owned() }) }
}

/// Namespace and name: how users address a loop. A deleted and re-created loop has the same key and
/// another [`LoopUid`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LoopKey {
    /// Namespace; `default` if the user named none.
    pub namespace: String,
    /// Name, unique in its namespace.
    pub name: String,
}

impl LoopKey {
    /// A key from its parts, unchecked; names are checked when a manifest is validated.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for LoopKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for LoopKey {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        check_name(namespace)?;
        check_name(name)?;
        Ok(Self::new(namespace, name))
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    };
}

text_id! {
    /// One life of a loop, from creation to deletion; random.
    LoopUid
}
text_id! {
    /// A worker node's name, stable over restarts.
    NodeName
}
text_id! {
    /// One life of a worker process; random, bound to one etcd lease, never reused.
    Incarnation
}
text_id! {
    /// One attempt at a transaction whose outcome may be unknown; it is read back by this id.
    AttemptId
}
text_id! {
    /// Random id made once with the store; part of every ref name, so that two installations can
    /// use one repository.
    InstallationId
}

/// Fencing token: the create revision of a claim key. It orders the owners of one resource; claims
/// of one batch share it, so it is never an identity.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Token(pub i64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
