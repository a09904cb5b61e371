//! The words of permissions: verbs and kinds, as people write them.

use std::fmt;
use std::str::FromStr;

/// What is done. Every call of the API is exactly one verb on one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read one.
    Get,
    /// Read all.
    List,
    /// Read all, then every change.
    Watch,
    /// Create or update: one request does both. Also for setting a secret.
    Apply,
    /// Remove.
    Delete,
    /// End a loop.
    Cancel,
    /// Cordon, uncordon and drain: one request does all three.
    Mark,
    /// Measure and look for what is wrong.
    Diagnose,
    /// Check that nothing was changed.
    Verify,
    /// Be a worker: register a node, and report its runs.
    Attach,
    /// Renew a node's lease.
    Heartbeat,
    /// Say that nothing of a node's incarnation is left.
    Report,
    /// Be handed a secret's value, for a run.
    Fetch,
    /// Draw and settle slices of budgets and quotas, for a run.
    Spend,
    /// Refuse a certificate before its end.
    Revoke,
    /// Get a new certificate for the one that is shown.
    Renew,
    /// Get a first certificate for a join token.
    Join,
}

/// What it is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Loops, with their status and iterations.
    Loops,
    /// Claims on resources.
    Claims,
    /// What happened.
    Events,
    /// What agents and checks wrote.
    Logs,
    /// Names of secrets, and their values as far as they can be set or fetched.
    Secrets,
    /// Who has which role.
    RoleBindings,
    /// Who did what.
    Audit,
    /// Worker nodes.
    Nodes,
    /// A node's connection and lease.
    Sessions,
    /// Schedulers and their store.
    Schedulers,
    /// Named sets of permissions.
    Roles,
    /// Provider accounts, without their keys.
    Providers,
    /// Which model serves a call.
    ModelRoutes,
    /// Definitions of agents.
    Agents,
    /// What namespaces and loops may spend.
    Budgets,
    /// Certificates, and which of them are revoked.
    Certificates,
    /// What a new node gets its first certificate for.
    JoinTokens,
}

const VERBS: [(Verb, &str); 17] = [
    (Verb::Get, "get"),
    (Verb::List, "list"),
    (Verb::Watch, "watch"),
    (Verb::Apply, "apply"),
    (Verb::Delete, "delete"),
    (Verb::Cancel, "cancel"),
    (Verb::Mark, "mark"),
    (Verb::Diagnose, "diagnose"),
    (Verb::Verify, "verify"),
    (Verb::Attach, "attach"),
    (Verb::Heartbeat, "heartbeat"),
    (Verb::Report, "report"),
    (Verb::Fetch, "fetch"),
    (Verb::Spend, "spend"),
    (Verb::Revoke, "revoke"),
    (Verb::Renew, "renew"),
    (Verb::Join, "join"),
];

/// Other words for verbs, from other tools and from our own command line.
const VERB_ALIASES: [(&str, Verb); 7] = [
    ("create", Verb::Apply),
    ("update", Verb::Apply),
    ("set", Verb::Apply),
    ("cordon", Verb::Mark),
    ("uncordon", Verb::Mark),
    ("drain", Verb::Mark),
    ("describe", Verb::Get),
];

const KINDS: [(Kind, &str); 17] = [
    (Kind::Loops, "loops"),
    (Kind::Claims, "claims"),
    (Kind::Events, "events"),
    (Kind::Logs, "logs"),
    (Kind::Secrets, "secrets"),
    (Kind::RoleBindings, "rolebindings"),
    (Kind::Audit, "audit"),
    (Kind::Nodes, "nodes"),
    (Kind::Sessions, "sessions"),
    (Kind::Schedulers, "schedulers"),
    (Kind::Roles, "roles"),
    (Kind::Providers, "providers"),
    (Kind::ModelRoutes, "modelroutes"),
    (Kind::Agents, "agents"),
    (Kind::Budgets, "budgets"),
    (Kind::Certificates, "certificates"),
    (Kind::JoinTokens, "jointokens"),
];

/// A word that is no verb or no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no {what}; there are: {}", .allowed.join(", "))]
pub struct UnknownWord {
    /// `verb` or `kind`.
    pub what: &'static str,
    /// What was given.
    pub found: String,
    /// What there is.
    pub allowed: Vec<&'static str>,
}

impl Verb {
    /// All verbs.
    pub fn all() -> impl Iterator<Item = Self> {
        VERBS.iter().map(|(verb, _)| *verb)
    }

    /// True for what only a node does, as itself: no role that people can have gives it.
    pub const fn is_of_nodes(self) -> bool {
        matches!(self, Self::Attach | Self::Heartbeat | Self::Report | Self::Fetch | Self::Spend)
    }

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        VERBS.iter().find(|(verb, _)| *verb == self).map_or("", |(_, word)| word)
    }
}

impl Kind {
    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, _)| *kind)
    }

    /// True for what is in a namespace; the rest is the whole installation's.
    pub const fn is_namespaced(self) -> bool {
        match self {
            Self::Loops
            | Self::Claims
            | Self::Events
            | Self::Logs
            | Self::Secrets
            | Self::RoleBindings
            | Self::Audit
            | Self::Budgets => true,
            Self::Nodes
            | Self::Sessions
            | Self::Schedulers
            | Self::Roles
            | Self::Providers
            | Self::ModelRoutes
            | Self::Agents
            | Self::Certificates
            | Self::JoinTokens => false,
        }
    }

    /// True where a verb acts on the whole installation: on what is in no namespace, and where a namespace is bounded
    /// from outside. Who is admin of a namespace sees its budget and does not set it.
    pub const fn is_of_installation(self, verb: Verb) -> bool {
        let bounds = matches!(self, Self::Budgets) && matches!(verb, Verb::Apply | Verb::Delete);
        bounds || !self.is_namespaced()
    }

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, word)| word)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let known = VERBS.iter().find(|(_, word)| *word == text).map(|(verb, _)| *verb);
        let alias = || VERB_ALIASES.iter().find(|(word, _)| *word == text).map(|(_, verb)| *verb);
        known.or_else(alias).ok_or_else(|| UnknownWord {
            what: "verb",
            found: text.to_owned(),
            allowed: VERBS.iter().map(|(_, word)| *word).collect(),
        })
    }
}

impl FromStr for Kind {
    type Err = UnknownWord;

    /// Plural or singular.
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let is = |word: &str| word == text || word.strip_suffix('s') == Some(text);
        let known = KINDS.iter().find(|(_, word)| is(word)).map(|(kind, _)| *kind);
        known.ok_or_else(|| UnknownWord {
            what: "kind",
            found: text.to_owned(),
            allowed: KINDS.iter().map(|(_, word)| *word).collect(),
        })
    }
}
