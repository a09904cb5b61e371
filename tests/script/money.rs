//! The stage's commands about budgets, and what the model of the store keeps of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_core::ids::LoopKey;
use flyball_core::model::{
    Amount, Limits, LoopAccount, LoopBudget, NamespaceAccount, NamespaceBudget,
};
use flyball_scheduler::reactor::Event;
use flyball_store::{Change, LoopRecord, Snapshot, Stored};

use crate::model::{Model, pairs, put};
use crate::parse::Command;
use crate::stage::{Stage, key};

/// Accounts and budgets.
#[derive(Debug, Default)]
pub(crate) struct Money {
    loops: BTreeMap<LoopKey, Stored<Arc<LoopAccount>>>,
    namespaces: BTreeMap<String, Stored<Arc<NamespaceAccount>>>,
    budgets: BTreeMap<String, Stored<NamespaceBudget>>,
}

impl Money {
    pub(crate) fn add_to(&self, snapshot: Snapshot) -> Snapshot {
        Snapshot {
            loop_accounts: pairs(&self.loops),
            namespace_accounts: pairs(&self.namespaces),
            budgets: pairs(&self.budgets),
            ..snapshot
        }
    }
}

fn tokens(command: &Command, name: &str) -> Amount {
    Amount { tokens: command.number(name).unwrap_or(0).unsigned_abs(), ..Amount::default() }
}

fn limits(command: &Command) -> Limits {
    let tokens = command.number("tokens").map(i64::unsigned_abs);
    Limits { tokens, ..Limits::default() }
}

impl Model {
    fn put_loop_account(&mut self, key: &LoopKey, account: LoopAccount) {
        let revision = self.next();
        let stored = put(&mut self.money.loops, key.clone(), Arc::new(account), revision, 0);
        self.log(vec![Change::LoopAccount(key.clone(), Some(stored))]);
    }

    fn put_budget(&mut self, namespace: &str, limits: Limits) {
        let revision = self.next();
        let made = self.money.budgets.get(namespace).map_or(revision, |old| old.create_revision);
        let budget = NamespaceBudget { made, limits };
        let stored = put(&mut self.money.budgets, namespace.to_owned(), budget, revision, 0);
        self.log(vec![Change::Budget(namespace.to_owned(), Some(stored))]);
    }

    fn put_namespace_account(&mut self, namespace: &str, spent: Amount) {
        let budget = self.money.budgets.get(namespace).map_or(0, |budget| budget.value.made);
        let account = NamespaceAccount { budget, spent, ..NamespaceAccount::default() };
        let revision = self.next();
        let accounts = &mut self.money.namespaces;
        let stored = put(accounts, namespace.to_owned(), Arc::new(account), revision, 0);
        self.log(vec![Change::NamespaceAccount(namespace.to_owned(), Some(stored))]);
    }
}

impl Stage {
    /// `budget NAME tokens=…`: a spec of which only the budget changes keeps its generation.
    pub(crate) fn budget(&mut self, command: &Command) {
        let mut record = LoopRecord::clone(&self.model.loops[&key(command.word(0))].value);
        record.spec.budget = LoopBudget { total: limits(command), ..LoopBudget::default() };
        let (revision, changes) = self.model.put_loop(record, None);
        self.written(command, Event::Written { revision, changes });
    }

    /// `account NAME spent=… [extended=…]`
    pub(crate) fn account(&mut self, command: &Command) {
        let key = key(command.word(0));
        let account = LoopAccount {
            uid: self.model.loops[&key].value.uid.clone(),
            spent: tokens(command, "spent"),
            extended: tokens(command, "extended"),
            ..LoopAccount::default()
        };
        self.model.put_loop_account(&key, account);
    }

    /// `namespace NAME [tokens=…] [spent=…]`: sets its bounds, or what is spent of it.
    pub(crate) fn namespace(&mut self, command: &Command) {
        if command.get("tokens").is_some() {
            self.model.put_budget(command.word(0), limits(command));
        }
        if command.get("spent").is_some() {
            self.model.put_namespace_account(command.word(0), tokens(command, "spent"));
        }
    }
}
