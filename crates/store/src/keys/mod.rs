//! The keys, all under one prefix, one file per family. Every family encodes injectively and
//! decodes strictly: a key that no version of this code would write is [`Key::Foreign`].

mod access;
mod accounts;
mod audit;
mod claims;
mod definitions;
mod duties;
mod events;
mod joining;
mod loops;
mod nodes;
mod owners;
mod path;
mod probes;
mod quotas;
mod revoked;
mod secrets;
mod sessions;
mod singletons;
#[cfg(test)]
mod tests;

use flyball_core::access::BindingKey;
use flyball_core::ids::{LoopKey, LoopUid, NodeName};
use flyball_core::model::DefinitionKey;
use flyball_core::revocation::Revoked;

pub(crate) use access::{BINDINGS, ROLES, binding, role};
pub(crate) use accounts::{budget, loop_account, loop_accounts_of, namespace_account};
pub(crate) use audit::{AUDIT, AUDIT_HEAD, audit};
pub(crate) use claims::claim;
pub(crate) use definitions::{definition, definitions_of};
pub(crate) use duties::duty;
pub use events::EventKey;
pub(crate) use events::{event, events_of};
pub(crate) use joining::{JOIN_TOKENS, SIGNERS, join_token, signer};
pub(crate) use loops::{spec, status};
pub(crate) use nodes::node;
pub use owners::OwnerKey;
pub(crate) use owners::owner;
pub(crate) use probes::probe;
pub(crate) use quotas::{QUOTAS, quota};
pub(crate) use revoked::{REVOKED, revoked};
pub(crate) use secrets::{secret, secrets_of};
pub(crate) use sessions::session;
pub(crate) use singletons::{INSTALLATION, LEADER};

/// Everything of one installation is under this prefix; the number is the layout's version.
pub(crate) const PREFIX: &str = "/flyball/v1/";

/// Where the events are; a snapshot leaves them out.
pub(crate) const EVENTS: &str = "/flyball/v1/events/";

/// The first key behind `prefix`, for prefixes that end in '/'.
pub(crate) fn behind(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1; // '/' becomes '0'
    }
    end
}

/// A key read back from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Installation,
    Leader,
    Node(NodeName),
    Session(NodeName),
    Probe(NodeName),
    Spec(LoopKey),
    Status(LoopKey),
    Claim(LoopKey),
    Owner(OwnerKey),
    Duty(LoopUid),
    Event(EventKey),
    Role(String),
    Binding(BindingKey),
    Audit(u64),
    AuditHead,
    Secret(LoopKey),
    Definition(DefinitionKey),
    LoopAccount(LoopKey),
    NamespaceAccount(String),
    Quota(String),
    Revoked(Revoked),
    JoinToken(String),
    Signer(String),
    /// Not ours, or of a newer version: left alone.
    Foreign,
}

/// The keys that make up a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoopPart {
    /// What is wanted.
    Spec,
    /// What was observed.
    Status,
    /// Who owns it.
    Claim,
}

/// The loop that a key belongs to, and which of its keys it is; `None` for every other key.
pub fn loop_part(key: &str) -> Option<(LoopKey, LoopPart)> {
    match Key::decode(key.as_bytes()) {
        Key::Spec(key) => Some((key, LoopPart::Spec)),
        Key::Status(key) => Some((key, LoopPart::Status)),
        Key::Claim(key) => Some((key, LoopPart::Claim)),
        _ => None,
    }
}

impl Key {
    /// Reads a key.
    pub(crate) fn decode(key: &[u8]) -> Self {
        Self::decode_known(key).unwrap_or(Self::Foreign)
    }

    fn decode_known(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        let rest = text.strip_prefix(PREFIX)?;
        match rest.split_once('/') {
            None => singletons::decode(rest),
            Some(("nodes", rest)) => nodes::decode(rest),
            Some(("sessions", rest)) => sessions::decode(rest),
            Some(("probes", rest)) => probes::decode(rest),
            Some(("loops", rest)) => loops::decode(rest),
            Some(("claims", rest)) => claims::decode(rest),
            Some(("owners", rest)) => owners::decode(rest).map(Self::Owner),
            Some(("audit", rest)) => audit::decode(rest),
            Some(("secrets", rest)) => secrets::decode(rest),
            Some(("definitions", rest)) => definitions::decode(rest),
            Some(("accounts", rest)) => accounts::decode(rest),
            Some(("quotas", rest)) => quotas::decode(rest),
            Some(("revoked", rest)) => revoked::decode(rest),
            Some(("jointokens", rest)) => joining::decode_token(rest),
            Some(("signers", rest)) => joining::decode_signer(rest),
            Some(("roles", rest)) => access::decode_role(rest).map(Self::Role),
            Some(("bindings", rest)) => access::decode_binding(rest).map(Self::Binding),
            Some(("unsealed", rest)) => duties::decode(rest),
            Some(("events", rest)) => events::decode(rest).map(Self::Event),
            Some(_) => None,
        }
    }
}
