//! Key-value pairs and watch events as typed changes.

use std::sync::Arc;

use etcd_client::proto::{PbEvent, PbKeyValue};
use flyball_core::access::{BindingKey, BindingManifest, RoleManifest};
use flyball_core::ids::{LoopKey, LoopUid, NodeName};
use flyball_core::model::{
    DefinitionKey, DefinitionKind, LoopAccount, NamespaceAccount, NamespaceBudget,
};
use flyball_core::node::NodeRecord;
use flyball_core::revocation::{Revocation, Revoked};
use flyball_core::seal::SealDuty;
use flyball_core::status::LoopStatus;

use crate::accounts::budget_of;
use crate::keys::{self, EventKey, Key, OwnerKey};
use crate::loops::stored;
use crate::values::{
    self, AccessRecord, ClaimRecord, DecodeError, EventRecord, LeaderRecord, LoopRecord,
    OwnerRecord, SessionRecord, Stored,
};

/// One key's change; `None` means that it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A loop's desired state.
    Loop(LoopKey, Option<Stored<Arc<LoopRecord>>>),
    /// A loop's observed state.
    Status(LoopKey, Option<Stored<Arc<LoopStatus>>>),
    /// A node's record.
    Node(NodeName, Option<Stored<Arc<NodeRecord>>>),
    /// A node's session.
    Session(NodeName, Option<Stored<SessionRecord>>),
    /// The leader's question whether any scheduler hears from a node.
    Probe(NodeName, Option<Stored<SessionRecord>>),
    /// A loop's claim.
    Claim(LoopKey, Option<Stored<ClaimRecord>>),
    /// An owner key.
    Owner(OwnerKey, Option<Stored<OwnerRecord>>),
    /// What a loop that is gone leaves to be sealed.
    Duty(LoopUid, Option<Stored<Arc<SealDuty>>>),
    /// The leader's key.
    Leader(Option<Stored<LeaderRecord>>),
    /// A role.
    Role(String, Option<Stored<Arc<AccessRecord<RoleManifest>>>>),
    /// What is spent of a loop's budget.
    LoopAccount(LoopKey, Option<Stored<Arc<LoopAccount>>>),
    /// What is spent of a namespace's budget.
    NamespaceAccount(String, Option<Stored<Arc<NamespaceAccount>>>),
    /// A namespace's budget.
    Budget(String, Option<Stored<NamespaceBudget>>),
    /// A binding.
    Binding(BindingKey, Option<Stored<Arc<AccessRecord<BindingManifest>>>>),
    /// A revocation.
    Revocation(Revoked, Option<Stored<Arc<Revocation>>>),
    /// An event; its end is not reported.
    Event(Stored<EventRecord>),
    /// A value that cannot be read: what it names must be left alone.
    Undecodable {
        /// The key, as text.
        key: String,
        /// What is wrong with its value.
        why: String,
        /// It is bound to a lease, or was put over something: what it is about may be alive. Junk that somebody
        /// leaves where nothing was is neither.
        held: bool,
    },
    /// A key that no version this program knows of would write was deleted.
    ForeignGone {
        /// The key, as text.
        key: String,
    },
}

impl Change {
    /// The key, as text; `None` for events, which are nobody's state.
    pub fn key(&self) -> Option<String> {
        let key = match self {
            Self::Loop(key, _) => keys::spec(key),
            Self::Status(key, _) => keys::status(key),
            Self::Node(name, _) => keys::node(name),
            Self::Session(name, _) => keys::session(name),
            Self::Probe(name, _) => keys::probe(name),
            Self::Claim(key, _) => keys::claim(key),
            Self::Owner(key, _) => key.encode(),
            Self::Duty(uid, _) => keys::duty(uid),
            Self::Leader(_) => keys::LEADER.into(),
            Self::LoopAccount(key, _) => keys::loop_account(key),
            Self::NamespaceAccount(namespace, _) => keys::namespace_account(namespace),
            Self::Budget(namespace, _) => keys::budget(namespace),
            Self::Role(name, _) => keys::role(name),
            Self::Binding(key, _) => keys::binding(key),
            Self::Revocation(revoked, _) => keys::revoked(revoked),
            Self::Event(_) => return None,
            Self::Undecodable { key, .. } | Self::ForeignGone { key } => return Some(key.clone()),
        };
        Some(text(&key))
    }
}

/// The change of a watch event; `None` for what is not a change of state.
pub(crate) fn decode_event(event: PbEvent) -> Option<Change> {
    const DELETE: i32 = 1; // mvccpb.Event.EventType
    let kv = event.kv?;
    if event.r#type == DELETE { decode_delete(&kv.key) } else { decode_put(kv) }
}

fn decode_delete(key: &[u8]) -> Option<Change> {
    Some(match Key::decode(key) {
        Key::Spec(key) => Change::Loop(key, None),
        Key::Status(key) => Change::Status(key, None),
        Key::Node(name) => Change::Node(name, None),
        Key::Session(name) => Change::Session(name, None),
        Key::Probe(name) => Change::Probe(name, None),
        Key::Claim(key) => Change::Claim(key, None),
        Key::Owner(key) => Change::Owner(key, None),
        Key::Duty(uid) => Change::Duty(uid, None),
        Key::Leader => Change::Leader(None),
        Key::LoopAccount(key) => Change::LoopAccount(key, None),
        Key::NamespaceAccount(namespace) => Change::NamespaceAccount(namespace, None),
        Key::Definition(DefinitionKey { kind: DefinitionKind::Budget, name }) => {
            Change::Budget(name, None)
        }
        Key::Role(name) => Change::Role(name, None),
        Key::Binding(key) => Change::Binding(key, None),
        Key::Revoked(revoked) => Change::Revocation(revoked, None),
        Key::Foreign => Change::ForeignGone { key: text(key) },
        Key::Installation
        | Key::Event(_)
        | Key::Audit(_)
        | Key::AuditHead
        | Key::Secret(_)
        | Key::JoinToken(_)
        | Key::Signer(_)
        | Key::Quota(_)
        | Key::Definition(_) => return None,
    })
}

/// The audit trail is nobody's state, and secrets, join tokens, signers and definitions are read when they are used.
/// For a budget a loop may be waiting.
const fn is_no_state(key: &Key) -> bool {
    if let Key::Definition(one) = key {
        return !matches!(one.kind, DefinitionKind::Budget);
    }
    matches!(
        key,
        Key::Installation
            | Key::Audit(_)
            | Key::AuditHead
            | Key::Secret(_)
            | Key::JoinToken(_)
            | Key::Signer(_)
            | Key::Quota(_)
    )
}

/// The change of a put; `None` for keys that are no state.
pub(crate) fn decode_put(kv: PbKeyValue) -> Option<Change> {
    let key = Key::decode(&kv.key);
    let is_event = matches!(key, Key::Event(_));
    if is_no_state(&key) {
        return None;
    }
    match decode_value(key, &kv) {
        Ok(change) => Some(change),
        Err(error) if is_event => {
            tracing::warn!(key = text(&kv.key), %error, "an event cannot be read");
            None
        }
        Err(error) => Some(Change::Undecodable {
            key: text(&kv.key),
            why: error.to_string(),
            held: kv.lease != 0 || kv.create_revision != kv.mod_revision,
        }),
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn decode_value(key: Key, kv: &PbKeyValue) -> Result<Change, DecodeError> {
    let value = kv.value.as_slice();
    Ok(match key {
        Key::Spec(key) => {
            let record = Arc::new(LoopRecord::decode(key.clone(), value)?);
            Change::Loop(key, Some(stored(kv, record)))
        }
        Key::Status(key) => {
            Change::Status(key, Some(stored(kv, Arc::new(values::decode_status(value)?))))
        }
        Key::Node(name) => {
            Change::Node(name, Some(stored(kv, Arc::new(values::decode_node(value)?))))
        }
        Key::Session(name) => {
            let record = SessionRecord::decode(name.clone(), value)?;
            Change::Session(name, Some(stored(kv, record)))
        }
        Key::Probe(name) => {
            let record = SessionRecord::decode(name.clone(), value)?;
            Change::Probe(name, Some(stored(kv, record)))
        }
        Key::Claim(key) => {
            let record = ClaimRecord::decode(key.clone(), value)?;
            Change::Claim(key, Some(stored(kv, record)))
        }
        Key::Owner(key) => Change::Owner(key, Some(stored(kv, OwnerRecord::decode(value)?))),
        Key::Duty(uid) => {
            Change::Duty(uid, Some(stored(kv, Arc::new(values::decode_duty(value)?))))
        }
        Key::Leader => Change::Leader(Some(stored(kv, LeaderRecord::decode(value)?))),
        Key::LoopAccount(key) => {
            let account = Arc::new(values::decode_document(value)?);
            Change::LoopAccount(key, Some(stored(kv, account)))
        }
        Key::NamespaceAccount(namespace) => {
            let account = Arc::new(values::decode_document(value)?);
            Change::NamespaceAccount(namespace, Some(stored(kv, account)))
        }
        Key::Definition(DefinitionKey { kind: DefinitionKind::Budget, name }) => {
            Change::Budget(name, Some(stored(kv, budget_of(kv)?)))
        }
        Key::Role(name) => {
            Change::Role(name, Some(stored(kv, Arc::new(values::decode_access(value)?))))
        }
        Key::Binding(key) => {
            Change::Binding(key, Some(stored(kv, Arc::new(values::decode_access(value)?))))
        }
        Key::Revoked(revoked) => {
            let record: Revocation = values::decode_document(value)?;
            Change::Revocation(revoked, Some(stored(kv, Arc::new(record))))
        }
        Key::Event(key) => decode_event_value(key, kv)?,
        Key::Installation
        | Key::Audit(_)
        | Key::AuditHead
        | Key::Secret(_)
        | Key::Quota(_)
        | Key::Definition(_)
        | Key::JoinToken(_)
        | Key::Signer(_)
        | Key::Foreign => {
            return Err(DecodeError::Malformed("no key that this version writes".to_owned()));
        }
    })
}

fn decode_event_value(key: EventKey, kv: &PbKeyValue) -> Result<Change, DecodeError> {
    Ok(Change::Event(stored(kv, EventRecord::decode(key, &kv.value)?)))
}
