//! Roles and bindings as values.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::words::{Kind, Verb};
use crate::identity::Identity;
use crate::ids::check_name;

/// A set of verbs on kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions(BTreeSet<(Verb, Kind)>);

impl Permissions {
    /// Every one of these verbs on every one of these kinds.
    pub fn of(verbs: &[Verb], kinds: &[Kind]) -> Self {
        Self(verbs.iter().flat_map(|verb| kinds.iter().map(|kind| (*verb, *kind))).collect())
    }

    /// Adds all of another set.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether this is in it.
    pub fn has(&self, verb: Verb, kind: Kind) -> bool {
        self.0.contains(&(verb, kind))
    }

    /// All of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Verb, Kind)> {
        self.0.iter().copied()
    }
}

/// A named set of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// What it allows.
    pub permissions: Permissions,
}

/// Who is given a role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// One user.
    User(String),
    /// Every user: written out as `users`, never meant by leaving something away.
    Users,
}

/// A text that is no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be user:NAME for one user, or users for all of them{hint}")]
pub struct InvalidSubject {
    /// What was probably meant, with its own sentence.
    hint: &'static str,
}

impl Subject {
    /// Whether a caller is meant. Nodes and schedulers never are: what they may do is fixed.
    pub fn is(&self, who: &Identity) -> bool {
        match (self, who) {
            (Self::User(name), Identity::User(caller)) => name == caller,
            (Self::Users, Identity::User(_)) => true,
            _ => false,
        }
    }
}

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let invalid = |hint| InvalidSubject { hint };
        match text.split_once(':') {
            None if text == "users" => Ok(Self::Users),
            None if text == "owner" => Err(invalid("; the owner may do everything anyway")),
            Some(("user", name)) if check_name(name).is_ok() => Ok(Self::User(name.to_owned())),
            Some(("node" | "scheduler", _)) => {
                Err(invalid("; what nodes and schedulers may do is fixed"))
            }
            _ => Err(invalid("")),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::Users => f.write_str("users"),
        }
    }
}

/// Which binding: its name is unique in its namespace, or among those of all namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BindingKey {
    /// Where it holds; `None`: in all namespaces, and for what is in none.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl fmt::Display for BindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => write!(f, "{} (all namespaces)", self.name),
        }
    }
}

/// Gives a role to subjects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Which one, and where it holds.
    pub key: BindingKey,
    /// Name of the role.
    pub role: String,
    /// To whom.
    pub subjects: Vec<Subject>,
}
