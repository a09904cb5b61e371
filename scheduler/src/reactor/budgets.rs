//! Budgets as the view knows them: a loop that was parked for its budget goes on as soon as there is room for the
//! call that found none, whoever made it: an extension, a larger spec, or what other loops gave back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flyball_core::ids::LoopKey;
use flyball_core::model::{
    Accounts, Amount, BudgetScope, Limits, LoopAccount, NamespaceAccount, NamespaceBudget,
};
use flyball_core::status::{LoopStatus, Phase, Reason};
use flyball_store::{Change, LoopRecord, Snapshot};

use super::Reactor;
use super::slot::Slot;
use super::view::LoopEntry;

/// What is known of budgets.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    loops: BTreeMap<LoopKey, Slot<Arc<LoopAccount>>>,
    namespaces: BTreeMap<String, Namespace>,
    /// Loops that wait for room.
    parked: BTreeSet<LoopKey>,
}

#[derive(Debug, Default)]
struct Namespace {
    budget: Slot<NamespaceBudget>,
    account: Slot<Arc<NamespaceAccount>>,
}

impl Budgets {
    /// News of an account or a budget; the loops that wait for it.
    pub(super) fn on_change(&mut self, change: Change, revision: i64) -> Vec<LoopKey> {
        match change {
            Change::LoopAccount(key, value) => {
                match value {
                    // Only the watch tells of ends, and nothing older comes after it.
                    None => drop(self.loops.remove(&key)),
                    value => {
                        self.loops.entry(key.clone()).or_default().apply(value, revision);
                    }
                }
                self.parked.get(&key).cloned().into_iter().collect()
            }
            Change::NamespaceAccount(namespace, value) => {
                self.namespaces
                    .entry(namespace.clone())
                    .or_default()
                    .account
                    .apply(value, revision);
                self.waiting_in(&namespace)
            }
            Change::Budget(namespace, value) => {
                self.namespaces.entry(namespace.clone()).or_default().budget.apply(value, revision);
                self.waiting_in(&namespace)
            }
            _ => Vec::new(),
        }
    }

    /// The whole state.
    pub(super) fn reset(&mut self, snapshot: &mut Snapshot) {
        let revision = snapshot.revision;
        let mut accounts: BTreeMap<_, _> = snapshot.loop_accounts.drain(..).collect();
        for key in accounts.keys() {
            self.loops.entry(key.clone()).or_default();
        }
        for (key, slot) in &mut self.loops {
            slot.reset(accounts.remove(key), revision);
        }
        self.loops.retain(|_, slot| !slot.is_forgettable(revision));
        let mut budgets: BTreeMap<_, _> = snapshot.budgets.drain(..).collect();
        let mut accounts: BTreeMap<_, _> = snapshot.namespace_accounts.drain(..).collect();
        for namespace in budgets.keys().chain(accounts.keys()) {
            self.namespaces.entry(namespace.clone()).or_default();
        }
        for (name, namespace) in &mut self.namespaces {
            namespace.budget.reset(budgets.remove(name), revision);
            namespace.account.reset(accounts.remove(name), revision);
        }
    }

    /// Keeps track of who waits.
    pub(super) fn note(&mut self, key: &LoopKey, status: Option<&LoopStatus>) {
        let waits =
            |status: &LoopStatus| status.phase == Phase::Parked && status.reason == Reason::Budget;
        if status.is_some_and(waits) {
            self.parked.insert(key.clone());
        } else {
            self.parked.remove(key);
        }
    }

    fn waiting_in(&self, namespace: &str) -> Vec<LoopKey> {
        let first = LoopKey::new(namespace, "");
        let waiting = self.parked.range(first..);
        waiting.take_while(|key| key.namespace == namespace).cloned().collect()
    }

    /// Both accounts of a loop.
    fn accounts(&self, key: &LoopKey, record: &LoopRecord) -> Accounts {
        let account = self.loops.get(key).and_then(Slot::get);
        let namespace = self.namespaces.get(&key.namespace);
        let budget = namespace.and_then(|one| one.budget.get());
        let of_namespace = namespace.and_then(|one| one.account.get());
        Accounts::of(
            &record.uid,
            account.map(AsRef::as_ref),
            budget,
            of_namespace.map(AsRef::as_ref),
        )
    }
}

/// What a loop that was parked for its budget waits for.
fn need(status: &LoopStatus) -> Amount {
    status.budget_need.unwrap_or_default()
}

impl Reactor {
    /// True if a loop is parked for its budget, and there is room now.
    pub(super) fn has_room_again(&self, key: &LoopKey, entry: &LoopEntry) -> bool {
        let (Some(record), Some(status)) = (entry.record.get(), entry.status.get()) else {
            return false;
        };
        let waits = status.phase == Phase::Parked && status.reason == Reason::Budget;
        waits && {
            let accounts = self.view.budgets.accounts(key, record);
            accounts.have_room(&record.spec.budget.total, need(status))
        }
    }

    /// The numbers behind `Parked: Budget`, and the command that ends it.
    pub(super) fn explain_budget(
        &self,
        key: &LoopKey,
        record: &LoopRecord,
        status: &LoopStatus,
    ) -> (Vec<String>, Vec<String>) {
        let accounts = self.view.budgets.accounts(key, record);
        let need = need(status);
        let mut findings = vec![format!("the call that found no room may need {need}")];
        let own = (accounts.of_loop.limits(&record.spec.budget.total), accounts.of_loop.used());
        findings.extend(line(BudgetScope::Loop, own));
        let namespace = accounts.namespace.as_ref();
        let namespace = namespace.map(|(account, spec)| (account.limits(spec), account.used()));
        findings.extend(namespace.and_then(|one| line(BudgetScope::Namespace, one)));
        let short = |(limits, used): (Limits, Amount)| !limits.allow(used.plus(need));
        let mut steps = Vec::new();
        if short(own) {
            steps.push(super::next_steps::extend(&key.name, &key.namespace, own.0, own.1, need));
        }
        if let Some(one) = namespace.filter(|one| short(*one)) {
            let name = format!("namespace/{}", key.namespace);
            steps.push(super::next_steps::extend(&name, "", one.0, one.1, need));
        }
        (findings, steps)
    }
}

fn line(scope: BudgetScope, (limits, used): (Limits, Amount)) -> Option<String> {
    (!limits.is_none()).then(|| format!("the {scope}'s budget: {used} used of {limits}"))
}
