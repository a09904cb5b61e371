//! All roles and bindings at one time, and what they allow.

use std::collections::{BTreeMap, BTreeSet};

use super::builtin::{BUILT_IN, built_in};
use super::decision::{By, Decision, Denied, Scope};
use super::role::{Binding, BindingKey, Permissions, Role};
use super::words::{Kind, Verb};
use crate::identity::Identity;

/// Most roles of one installation besides the built-in ones: far above what people can tell apart.
pub const ROLES_MAX: usize = 200;
/// Most bindings of one installation. All are looked through for a call, which takes microseconds.
pub const BINDINGS_MAX: usize = 2000;

/// The roles and bindings in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    roles: BTreeMap<String, Role>,
    bindings: BTreeMap<BindingKey, Binding>,
}

/// Somebody would give away what they do not have themselves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{who} may not give away `{verb} {kind}` {scope}, which it does not have itself there")]
pub struct Escalation {
    /// The caller.
    pub who: Identity,
    /// The verb that it lacks.
    pub verb: Verb,
    /// On what.
    pub kind: Kind,
    /// Where.
    pub scope: Scope,
}

impl Policy {
    /// Adds or replaces a role; a built-in one keeps its meaning.
    pub fn put_role(&mut self, role: Role) {
        self.roles.insert(role.name.clone(), role);
    }

    /// Takes a role away; what was bound to it is given nothing any more.
    pub fn remove_role(&mut self, name: &str) {
        self.roles.remove(name);
    }

    /// Adds or replaces a binding.
    pub fn put_binding(&mut self, binding: Binding) {
        self.bindings.insert(binding.key.clone(), binding);
    }

    /// Takes a binding away.
    pub fn remove_binding(&mut self, key: &BindingKey) {
        self.bindings.remove(key);
    }

    /// A role by its name.
    pub fn role(&self, name: &str) -> Option<Role> {
        built_in(name).or_else(|| self.roles.get(name).cloned())
    }

    /// Bindings that give a role.
    pub fn bindings_of(&self, role: &str) -> Vec<&BindingKey> {
        self.bindings.values().filter(|one| one.role == role).map(|one| &one.key).collect()
    }

    /// What is bound to a caller: which bindings, and the roles they give.
    pub fn roles_of(&self, who: &Identity) -> Vec<(BindingKey, String)> {
        self.of(who).map(|one| (one.key.clone(), one.role.clone())).collect()
    }

    /// How many roles there are besides the built-in ones, and how many bindings.
    pub fn counts(&self) -> (usize, usize) {
        (self.roles.len(), self.bindings.len())
    }

    /// Whether a caller may do something, and what says so.
    ///
    /// # Errors
    /// [`Denied`] with what is missing.
    pub fn decide(&self, who: &Identity, verb: Verb, kind: Kind, scope: &Scope) -> Decision {
        match (who, scope) {
            (Identity::Owner, _) => Ok(By::Owner),
            // Before all that everybody may: a stranger is nobody.
            (Identity::Stranger, scope) => match (verb, kind, scope) {
                (Verb::Join, Kind::Nodes, Scope::Open) => Ok(By::Joining),
                _ => Err(self.denied(who, verb, kind, scope, None)),
            },
            (_, Scope::Open) => Ok(By::Everyone),
            (Identity::Node(own), Scope::AsNode(node)) if own == node => {
                let node = built_in("node").is_some_and(|role| role.permissions.has(verb, kind));
                if node { Ok(By::Itself) } else { Err(self.denied(who, verb, kind, scope, None)) }
            }
            (Identity::User(_), _) => self.bound(who, verb, kind, scope),
            (Identity::Node(_) | Identity::Scheduler(_), _) => {
                Err(self.denied(who, verb, kind, scope, None))
            }
        }
    }

    fn bound(&self, who: &Identity, verb: Verb, kind: Kind, scope: &Scope) -> Decision {
        let mut dangling = None;
        // What only a node does is given by no binding, not even of a role that lists it.
        let mine = self.of(who).filter(|one| !verb.is_of_nodes() && holds(&one.key, scope));
        for binding in mine {
            match self.role(&binding.role) {
                Some(role) if role.permissions.has(verb, kind) => {
                    let (binding, role) = (binding.key.clone(), role.name);
                    return Ok(By::Binding { binding, role });
                }
                Some(_) => {}
                None => dangling = Some((binding.key.clone(), binding.role.clone())),
            }
        }
        Err(self.denied(who, verb, kind, scope, dangling))
    }

    fn of<'a>(&'a self, who: &'a Identity) -> impl Iterator<Item = &'a Binding> {
        self.bindings.values().filter(move |one| one.subjects.iter().any(|each| each.is(who)))
    }

    fn denied(
        &self,
        who: &Identity,
        verb: Verb,
        kind: Kind,
        scope: &Scope,
        dangling: Option<(BindingKey, String)>,
    ) -> Box<Denied> {
        let (mut roles, mut elsewhere) = (Vec::new(), Vec::new());
        if matches!(who, Identity::User(_)) && !verb.is_of_nodes() {
            let built_in = BUILT_IN.iter().filter_map(|(name, _)| built_in(name));
            let all = built_in.chain(self.roles.values().cloned());
            roles =
                all.filter(|role| role.permissions.has(verb, kind)).map(|one| one.name).collect();
            elsewhere = self.namespaces(who, verb, kind).into_iter().collect();
        }
        let (who, scope) = (who.clone(), scope.clone());
        Box::new(Denied { who, verb, kind, scope, roles, elsewhere, dangling })
    }

    /// Namespaces in which a binding gives a caller this.
    fn namespaces(&self, who: &Identity, verb: Verb, kind: Kind) -> BTreeSet<String> {
        let gives = |one: &&Binding| {
            self.role(&one.role).is_some_and(|role| role.permissions.has(verb, kind))
        };
        self.of(who).filter(gives).filter_map(|one| one.key.namespace.clone()).collect()
    }

    /// Whether a caller has everything itself that it would give away.
    ///
    /// # Errors
    /// [`Escalation`] with the first thing that it lacks.
    pub fn may_give(
        &self,
        who: &Identity,
        permissions: &Permissions,
        scope: &Scope,
    ) -> Result<(), Escalation> {
        for (verb, kind) in permissions.iter() {
            if self.decide(who, verb, kind, scope).is_err() {
                let (who, scope) = (who.clone(), scope.clone());
                return Err(Escalation { who, verb, kind, scope });
            }
        }
        Ok(())
    }
}

/// Whether a binding holds where a call acts: one of a namespace holds in that namespace only.
fn holds(binding: &BindingKey, scope: &Scope) -> bool {
    match (&binding.namespace, scope) {
        (None, _) => true,
        (Some(namespace), Scope::Namespace(wanted)) => namespace == wanted,
        (Some(_), _) => false,
    }
}
