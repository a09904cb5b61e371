//! A decision and its reason, in words for the caller.

use std::fmt;

use super::role::BindingKey;
use super::words::{Kind, Verb};
use crate::identity::Identity;
use crate::ids::NodeName;

/// Where a call acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// On nothing but what every caller may know.
    Open,
    /// On the installation as a whole.
    Installation,
    /// In one namespace.
    Namespace(String),
    /// In all namespaces at once.
    AllNamespaces,
    /// As this node.
    AsNode(NodeName),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open | Self::Installation => f.write_str("in this installation"),
            Self::Namespace(name) => write!(f, "in namespace {name}"),
            Self::AllNamespaces => f.write_str("in all namespaces"),
            Self::AsNode(name) => write!(f, "as node {name}"),
        }
    }
}

/// What allowed a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The installation's owner may do everything; nothing can take that away.
    Owner,
    /// Every known caller may.
    Everyone,
    /// It is the node itself.
    Itself,
    /// Whoever has no certificate yet may ask for one.
    Joining,
    /// A binding.
    Binding {
        /// Which one.
        binding: BindingKey,
        /// The role it gives.
        role: String,
    },
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("the owner may do everything"),
            Self::Everyone => f.write_str("every known caller may"),
            Self::Itself => f.write_str("a node may, for itself"),
            Self::Joining => f.write_str("whoever has no certificate may ask to join"),
            Self::Binding { binding, role } => {
                write!(f, "role {role}, given by rolebinding {binding}")
            }
        }
    }
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Denied {
    /// The caller.
    pub who: Identity,
    /// What it wanted to do.
    pub verb: Verb,
    /// To what.
    pub kind: Kind,
    /// Where.
    pub scope: Scope,
    /// Roles that would allow it, built-in ones first.
    pub roles: Vec<String>,
    /// Namespaces in which the caller may do it.
    pub elsewhere: Vec<String>,
    /// A binding would do it, but its role does not exist.
    pub dangling: Option<(BindingKey, String)>,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, verb, kind, scope, .. } = self;
        write!(f, "{who} may not {verb} {kind} {scope}")?;
        match who {
            Identity::Node(own) => match scope {
                Scope::AsNode(other) if other != own => {
                    return write!(f, ": it is another node");
                }
                _ => return f.write_str(": a node may only attach, heartbeat, report and fetch"),
            },
            Identity::Scheduler(_) => return f.write_str(": schedulers ask nothing of each other"),
            Identity::Stranger => {
                return f.write_str(": whoever shows no certificate may only join, with a token");
            }
            Identity::User(_) if verb.is_of_nodes() => {
                return f.write_str(": only a node may, with its own certificate");
            }
            Identity::User(_) | Identity::Owner => {}
        }
        if let Some((binding, role)) = &self.dangling {
            write!(f, ": rolebinding {binding} gives role {role}, which does not exist")?;
        } else {
            f.write_str(": no rolebinding gives it")?;
        }
        if !self.roles.is_empty() {
            write!(f, "; a role that would: {}", self.roles.join(", "))?;
        }
        if !self.elsewhere.is_empty() {
            write!(f, "; it may in: {}", self.elsewhere.join(", "))?;
        }
        Ok(())
    }
}

/// Whether, and why.
pub type Decision = Result<By, Box<Denied>>;
