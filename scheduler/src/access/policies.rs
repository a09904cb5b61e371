//! The roles and bindings in force, as the watch tells them: a change counts on every scheduler as soon
//! as it has heard of it.

use std::sync::{Arc, PoisonError, RwLock};

use flyball_core::access::{
    BindingKey, BindingManifest, Policy, RoleManifest, parse_binding, parse_role,
};
use flyball_core::manifest::FieldError;
use flyball_store::{AccessRecord, Change, Snapshot, Stored};
use serde::Serialize;

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies(Arc<RwLock<Arc<Policy>>>);

impl Policies {
    /// What is in force now.
    pub(crate) fn now(&self) -> Arc<Policy> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The whole state.
    pub(crate) fn on_snapshot(&self, snapshot: &Snapshot) {
        let mut policy = Policy::default();
        snapshot.roles.iter().for_each(|(name, role)| put_role(&mut policy, name, role));
        snapshot.bindings.iter().for_each(|(key, one)| put_binding(&mut policy, key, one));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// One change.
    pub(crate) fn on_change(&self, change: &Change) {
        match change {
            Change::Role(name, Some(stored)) => self.edit(|policy| put_role(policy, name, stored)),
            Change::Role(name, None) => self.edit(|policy| policy.remove_role(name)),
            Change::Binding(key, Some(stored)) => {
                self.edit(|policy| put_binding(policy, key, stored));
            }
            Change::Binding(key, None) => self.edit(|policy| policy.remove_binding(key)),
            _ => {}
        }
    }

    fn edit(&self, edit: impl FnOnce(&mut Policy)) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        edit(Arc::make_mut(&mut current));
    }
}

/// One that this version cannot read gives nothing.
fn put_role(policy: &mut Policy, name: &str, stored: &Stored<Arc<AccessRecord<RoleManifest>>>) {
    match json(&stored.value.manifest).and_then(|json| parse_role(&json)) {
        Ok((_, role)) if role.name == name => policy.put_role(role),
        Ok(_) => unreadable("role", name, &[]),
        Err(errors) => {
            unreadable("role", name, &errors);
            policy.remove_role(name);
        }
    }
}

fn put_binding(
    policy: &mut Policy,
    key: &BindingKey,
    stored: &Stored<Arc<AccessRecord<BindingManifest>>>,
) {
    match json(&stored.value.manifest).and_then(|json| parse_binding(&json)) {
        Ok((_, binding)) if binding.key == *key => policy.put_binding(binding),
        Ok(_) => unreadable("role binding", &key.to_string(), &[]),
        Err(errors) => {
            unreadable("role binding", &key.to_string(), &errors);
            policy.remove_binding(key);
        }
    }
}

fn json(manifest: &impl Serialize) -> Result<serde_json::Value, Vec<FieldError>> {
    serde_json::to_value(manifest).map_err(|error| vec![FieldError::new("", error.to_string())])
}

fn unreadable(what: &str, name: &str, errors: &[FieldError]) {
    let first = errors.first().map(ToString::to_string).unwrap_or_default();
    tracing::warn!(what, name, error = first, "cannot be read and gives nothing");
}
