//! The accounts of loops and namespaces: what is spent of a budget, which slices of it are out, and the arithmetic
//! of drawing, settling and extending. The store keeps the accounts and changes both of a loop together; a slice
//! is debited before its worker has it, so a crash over-counts and never under-counts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::amount::{Amount, Limits};
use super::budget::AMOUNT_MAX;
use super::money::Money;
use super::ports::{BudgetEnded, BudgetScope};
use crate::ids::{LoopUid, Token};

#[cfg(test)]
mod tests;

/// Most open slices of a loop. A run keeps [`super::SLICES_OF_RUN_MAX`] at most, so more are of a worker that does
/// not settle; the oldest then count as spent.
pub const OPEN_SLICES_MAX: usize = 32;

/// Ids of slices that are remembered after they were closed, so that a request which was on its way for long
/// does not open one again.
pub const CLOSED_SLICES_MAX: usize = 64;

/// Extensions that are remembered: to show them, and to do each once.
pub const EXTENSIONS_MAX: usize = 16;

/// One slice of a namespace's budget is at most this part of what is left of it, unless one call needs more: its
/// other loops are to find something too.
const NAMESPACE_SHARE: u64 = 8;

/// A slice that a run has and has not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenSlice {
    /// Named by the worker; unique in its run.
    pub id: String,
    /// The run.
    pub token: Token,
    /// What was debited.
    pub granted: Amount,
    /// Which budget of the namespace was debited as well, see [`NamespaceAccount::budget`]; 0 for none.
    #[serde(default)]
    pub namespace: i64,
}

/// Somebody raised a budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Extension {
    /// Of the request, so that it is done once.
    pub id: String,
    /// Who.
    pub by: String,
    /// When; for display only.
    pub at: Timestamp,
    /// By how much.
    pub amount: Amount,
}

/// What a loop has spent, over all runs. Its bounds are in its spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoopAccount {
    /// The life of the loop.
    pub uid: LoopUid,
    /// Settled, or lost with a worker.
    pub spent: Amount,
    /// Slices that are out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<OpenSlice>,
    /// What was added to the bounds of the spec.
    #[serde(skip_serializing_if = "Amount::is_zero_ref")]
    pub extended: Amount,
    /// By whom, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<Extension>,
    /// Slices that were closed last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub closed: Vec<String>,
    /// Of what is spent, what telemetry was told when the loop converged.
    #[serde(skip_serializing_if = "Amount::is_zero_ref")]
    pub told: Amount,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// What the loops of a namespace have spent of its budget since that was made. Its bounds are in its manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespaceAccount {
    /// The revision at which the budget was made: one that is made anew counts anew.
    pub budget: i64,
    /// Settled, or lost with a worker.
    pub spent: Amount,
    /// Debited for slices that are out.
    pub held: Amount,
    /// What was added to its bounds.
    #[serde(skip_serializing_if = "Amount::is_zero_ref")]
    pub extended: Amount,
    /// By whom, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<Extension>,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// A namespace's budget as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceBudget {
    /// The revision at which it was made.
    pub made: i64,
    /// Its bounds.
    pub limits: Limits,
}

/// What a run asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrawSlice {
    /// The loop's life.
    pub uid: LoopUid,
    /// The run.
    pub token: Token,
    /// Name of the slice.
    pub id: String,
    /// Less is of no use.
    pub least: Amount,
    /// What would last for a while.
    pub want: Amount,
}

/// Why no slice is granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrawRefused {
    /// There is no room.
    #[error(transparent)]
    Ended(#[from] BudgetEnded),
    /// A slice of this name was granted and closed before.
    #[error("the slice was closed before")]
    Closed,
}

/// Both accounts of a loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accounts {
    /// The loop's.
    pub of_loop: LoopAccount,
    /// That of its namespace, and its bounds, if it has a budget.
    pub namespace: Option<(NamespaceAccount, Limits)>,
}

/// A slice, and the accounts with its debit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// What is granted.
    pub granted: Amount,
    /// To be written before it is handed out; `None` when it was debited before.
    pub accounts: Option<Accounts>,
}

impl LoopAccount {
    /// Spent, or out in slices.
    pub fn used(&self) -> Amount {
        self.open.iter().fold(self.spent, |sum, one| sum.plus(one.granted))
    }

    /// What is out in slices.
    pub fn held(&self) -> Amount {
        self.open.iter().fold(Amount::default(), |sum, one| sum.plus(one.granted))
    }

    /// The bounds that hold, given those of the spec.
    pub fn limits(&self, total: &Limits) -> Limits {
        total.extended_by(self.extended)
    }

    fn close(&mut self, at: usize, used: Amount) {
        let slice = self.open.remove(at);
        self.spent = self.spent.plus(used);
        self.closed.push(slice.id);
        let surplus = self.closed.len().saturating_sub(CLOSED_SLICES_MAX);
        self.closed.drain(..surplus);
    }
}

impl NamespaceAccount {
    /// Spent, or out in slices.
    pub fn used(&self) -> Amount {
        self.spent.plus(self.held)
    }

    /// The bounds that hold, given those of the manifest.
    pub fn limits(&self, spec: &Limits) -> Limits {
        spec.extended_by(self.extended)
    }

    /// The account of a budget: the one that was read, or a fresh one if that was of an earlier budget.
    pub fn of(budget: &NamespaceBudget, found: Option<&Self>) -> Self {
        let fresh = || Self { budget: budget.made, ..Self::default() };
        found.filter(|one| one.budget == budget.made).cloned().unwrap_or_else(fresh)
    }
}

impl Accounts {
    /// Both accounts of a life of a loop as they were read. An account that an earlier life left behind is begun
    /// anew; what it had out is spent.
    pub fn of(
        uid: &LoopUid,
        of_loop: Option<&LoopAccount>,
        budget: Option<&NamespaceBudget>,
        namespace: Option<&NamespaceAccount>,
    ) -> Self {
        let account = |budget: &NamespaceBudget| NamespaceAccount::of(budget, namespace);
        let namespace = budget.map(|budget| (account(budget), budget.limits));
        let fresh = LoopAccount { uid: uid.clone(), ..LoopAccount::default() };
        match of_loop {
            None => Self { of_loop: fresh, namespace },
            Some(of_loop) if of_loop.uid == *uid => Self { of_loop: of_loop.clone(), namespace },
            Some(earlier) => {
                let mut left = Self { of_loop: earlier.clone(), namespace };
                while !left.of_loop.open.is_empty() {
                    left.lose(0);
                }
                Self { of_loop: fresh, namespace: left.namespace }
            }
        }
    }

    /// Grants a slice: at least `least` of every part or nothing. Slices of earlier runs are lost, and count as
    /// spent.
    ///
    /// # Errors
    /// [`DrawRefused`]: nothing is to be written then.
    pub fn draw(mut self, total: &Limits, wish: &DrawSlice) -> Result<Drawn, DrawRefused> {
        let own = |one: &&OpenSlice| one.id == wish.id && one.token == wish.token;
        if let Some(open) = self.of_loop.open.iter().find(own) {
            return Ok(Drawn { granted: open.granted, accounts: None });
        }
        if self.of_loop.closed.contains(&wish.id) {
            return Err(DrawRefused::Closed);
        }
        while let Some(lost) = self.of_loop.open.iter().position(|one| one.token != wish.token) {
            self.lose(lost);
        }
        while self.of_loop.open.len() >= OPEN_SLICES_MAX {
            self.lose(0);
        }
        let least = capped(wish.least);
        let limits = self.of_loop.limits(total);
        let mut most = room(BudgetScope::Loop, limits, self.of_loop.used(), least)?;
        if let Some((namespace, spec)) = &self.namespace {
            let limits = namespace.limits(spec);
            let left = room(BudgetScope::Namespace, limits, namespace.used(), least)?;
            most = most.at_most(share(left));
        }
        let granted = capped(wish.want).at_most(most).at_least(least);
        let namespace = self.namespace.as_mut().map(|(namespace, _)| {
            namespace.held = namespace.held.plus(granted);
            namespace.budget
        });
        self.of_loop.open.push(OpenSlice {
            id: wish.id.clone(),
            token: wish.token,
            granted,
            namespace: namespace.unwrap_or_default(),
        });
        Ok(Drawn { granted, accounts: Some(self) })
    }

    /// Closes a slice: what was used of it is spent, the rest is free again. `None` if it is not open: it was
    /// settled or lost before, and nothing is to be written.
    #[must_use]
    pub fn settle(mut self, token: Token, id: &str, used: Amount) -> Option<Self> {
        let at = self.of_loop.open.iter().position(|one| one.id == id && one.token == token)?;
        self.spend(at, capped(used));
        Some(self)
    }

    /// What the slice was granted counts as spent.
    fn lose(&mut self, at: usize) {
        let granted = self.of_loop.open.get(at).map(|one| one.granted).unwrap_or_default();
        self.spend(at, granted);
    }

    fn spend(&mut self, at: usize, used: Amount) {
        let Some(slice) = self.of_loop.open.get(at).cloned() else { return };
        self.of_loop.close(at, used);
        // A budget that was made or made anew after the slice was drawn was not debited for it.
        if let Some((namespace, _)) = &mut self.namespace
            && namespace.budget == slice.namespace
        {
            namespace.held = namespace.held.minus(slice.granted);
            namespace.spent = namespace.spent.plus(used);
        }
    }

    /// Whether a call with this worst case has room in both.
    pub fn have_room(&self, total: &Limits, need: Amount) -> bool {
        let own = self.of_loop.limits(total).allow(self.of_loop.used().plus(need));
        let fits = |(account, spec): &(NamespaceAccount, Limits)| {
            account.limits(spec).allow(account.used().plus(need))
        };
        own && self.namespace.as_ref().is_none_or(fits)
    }
}

/// Adds an extension to those that are remembered; false if it is among them already.
pub fn remember(extensions: &mut Vec<Extension>, extended: &mut Amount, one: Extension) -> bool {
    if extensions.iter().any(|known| known.id == one.id) {
        return false;
    }
    *extended = extended.plus(one.amount);
    extensions.push(one);
    let surplus = extensions.len().saturating_sub(EXTENSIONS_MAX);
    extensions.drain(..surplus);
    true
}

/// What is left of a budget, if `least` of it is.
fn room(
    scope: BudgetScope,
    limits: Limits,
    used: Amount,
    least: Amount,
) -> Result<Amount, BudgetEnded> {
    if limits.allow(used.plus(least)) {
        Ok(limits.left(used))
    } else {
        Err(BudgetEnded { scope, limits, used })
    }
}

fn share(left: Amount) -> Amount {
    Amount {
        tokens: left.tokens / NAMESPACE_SHARE,
        money: Money(left.money.0 / NAMESPACE_SHARE),
        calls: left.calls / NAMESPACE_SHARE,
    }
}

fn capped(amount: Amount) -> Amount {
    amount.at_most(Amount { tokens: AMOUNT_MAX, money: Money(AMOUNT_MAX), calls: AMOUNT_MAX })
}
