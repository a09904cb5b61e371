//! The revoked certificates as the watch tells them. While the store cannot be read the last list counts.

use std::sync::{Arc, PoisonError, RwLock};

use flyball_core::revocation::Revocations;
use flyball_pki::Facts;
use flyball_store::{Change, Snapshot, revoked_by};

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct RevokedList(Arc<RwLock<Arc<Revocations>>>);

impl RevokedList {
    /// What is revoked now.
    pub(crate) fn now(&self) -> Arc<Revocations> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why a certificate is not taken, if it is revoked.
    pub(crate) fn objection(&self, facts: &Facts) -> Option<String> {
        self.now().objection(facts.identity.as_ref(), &facts.serial, facts.not_before)
    }

    /// The whole state. What cannot be read counts for all that it may be about.
    pub(crate) fn on_snapshot(&self, snapshot: &Snapshot) {
        let mut all = Revocations::default();
        for (revoked, stored) in &snapshot.revocations {
            all.put(revoked.clone(), stored.value.clone());
        }
        let unreadable = snapshot.undecodable.iter().filter_map(|one| revoked_by(&one.key));
        unreadable.for_each(|revoked| all.put_unreadable(revoked));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    /// One change.
    pub(crate) fn on_change(&self, change: &Change) {
        match change {
            Change::Revocation(revoked, Some(stored)) => {
                self.edit(|all| all.put(revoked.clone(), stored.value.clone()));
            }
            Change::Revocation(revoked, None) => self.edit(|all| all.remove(revoked)),
            Change::Undecodable { key, .. } => {
                if let Some(revoked) = revoked_by(key) {
                    self.edit(|all| all.put_unreadable(revoked));
                }
            }
            _ => {}
        }
    }

    fn edit(&self, edit: impl FnOnce(&mut Revocations)) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        edit(Arc::make_mut(&mut current));
    }
}
