//! Who may do what: verbs on kinds, roles that collect them, bindings that give a role to callers in
//! a namespace or everywhere, and the decision, which always says why.

mod audit;
mod builtin;
mod decision;
mod manifest;
mod policy;
mod role;
#[cfg(test)]
mod tests;
mod words;

pub use self::audit::{AuditEntry, BEFORE_ALL, Broken, ChainHead, ChainWalk, entry_hash};
pub use self::builtin::{BUILT_IN, built_in};
pub use self::decision::{By, Decision, Denied, Scope};
pub use self::manifest::{
    BindingManifest, BindingMetadata, BindingSpec, KIND_BINDING, KIND_ROLE, RoleManifest,
    RoleMetadata, RoleSpec, RuleSpec, parse_binding, parse_role,
};
pub use self::policy::{BINDINGS_MAX, Escalation, Policy, ROLES_MAX};
pub use self::role::{Binding, BindingKey, Permissions, Role, Subject};
pub use self::words::{Kind, UnknownWord, Verb};
