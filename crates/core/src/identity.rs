//! Who calls: the identity that the transport has proven of a caller, before anything is decided.

use std::fmt;
use std::str::FromStr;

use crate::ids::{NodeName, check_name};

/// A caller. Only whoever ends the connection makes one: from the permissions of a Unix socket, from a
/// bearer token, or from the certificate that was verified. Nothing in a request can name another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identity {
    /// Whoever may open this installation's own socket or holds its own token: its owner.
    Owner,
    /// A person or program with a certificate of its own.
    User(String),
    /// A worker node with a certificate of its own.
    Node(NodeName),
    /// Another scheduler of this installation.
    Scheduler(String),
    /// Somebody without a certificate, where those may join; nothing else is open to them.
    Stranger,
}

/// A text that is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not an identity: use `owner`, `user:NAME`, `node:NAME` or `scheduler:NAME`, with names of a-z, 0-9 \
     and '-'"
)]
pub struct InvalidIdentity {
    /// What was given.
    pub found: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("owner"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Scheduler(name) => write!(f, "scheduler:{name}"),
            Self::Stranger => f.write_str("stranger"),
        }
    }
}

impl FromStr for Identity {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidIdentity { found: text.to_owned() };
        if text == "owner" {
            return Ok(Self::Owner);
        }
        let (kind, name) = text.split_once(':').ok_or_else(invalid)?;
        check_name(name).map_err(|_| invalid())?;
        match kind {
            "user" => Ok(Self::User(name.to_owned())),
            "node" => Ok(Self::Node(NodeName::from(name))),
            "scheduler" => Ok(Self::Scheduler(name.to_owned())),
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_round_trip() {
        for text in ["owner", "user:ada", "node:n-1", "scheduler:s1"] {
            assert_eq!(text.parse::<Identity>().map(|one| one.to_string()), Ok(text.to_owned()));
        }
        for text in
            ["", "user", "user:", "user:A", "root:x", "owner:x", "stranger", "user:a:b", "node:a/b"]
        {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
