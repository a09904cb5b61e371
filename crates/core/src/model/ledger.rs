//! The budgets of one run as its gateway keeps them: each call's worst case is reserved before it is forwarded
//! and settled with what it really used. One ledger is changed by one call at a time, so concurrent calls can
//! never overspend together; what it may spend of loop and namespace was debited in the store before.

use std::collections::{BTreeMap, VecDeque};

use super::amount::{Amount, Limits};
use super::budget::LoopBudget;
use super::money::Money;
use super::ports::{BudgetEnded, BudgetScope};

/// A slice is asked for so many times the worst case of the call that needs it: calls mostly use a small part
/// of their worst case, so this lasts for dozens of them. A crash loses no more, or half of what is under way where
/// that is more.
const SLICE_CALLS: u64 = 8;

/// Most slices that a run keeps open. More would only come of amounts that run out one after the other.
pub const SLICES_OF_RUN_MAX: usize = 16;

/// What a run has spent, has promised and may still spend.
#[derive(Debug, Clone)]
pub struct Ledger {
    per_iteration: Limits,
    per_run: Limits,
    /// Counts [`Ledger::begin_iteration`].
    iteration: u64,
    of_iteration: Account,
    of_run: Account,
    /// Slices of loop and namespace that are open, oldest first.
    slices: VecDeque<(String, Amount)>,
    /// Spent and reserved of the open slices.
    of_slices: Account,
    reserved: BTreeMap<u64, Promise>,
    last: u64,
}

/// Spent, and reserved besides.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    spent: Amount,
    reserved: Amount,
}

impl Account {
    fn used(&self) -> Amount {
        self.spent.plus(self.reserved)
    }

    fn settle(&mut self, reserved: Amount, actual: Amount) {
        self.reserved = self.reserved.minus(reserved);
        self.spent = self.spent.plus(actual);
    }
}

/// The worst case of a call under way.
#[derive(Debug, Clone, Copy)]
struct Promise {
    iteration: u64,
    amount: Amount,
}

/// Room for the worst case of one call. It is used up by [`Ledger::settle`]; one that never is counts as spent.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reservation that is not settled counts as spent"]
pub struct Reservation(u64);

/// There is no room for a call yet, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Short {
    /// The budget of the iteration or the run has no room for it.
    #[error(transparent)]
    Ended(#[from] BudgetEnded),
    /// The slices have no room for it: at least so much more has to be drawn first.
    #[error("a further slice is needed")]
    Draw {
        /// What is missing for this call.
        least: Amount,
        /// What would last for a while.
        want: Amount,
    },
}

/// What was used of a slice. The rest of it goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The slice.
    pub id: String,
    /// What was used of it.
    pub used: Amount,
}

impl Ledger {
    /// The ledger of a run that begins.
    pub fn new(budget: &LoopBudget) -> Self {
        Self {
            per_iteration: budget.per_iteration,
            per_run: budget.per_run,
            iteration: 0,
            of_iteration: Account::default(),
            of_run: Account::default(),
            slices: VecDeque::new(),
            of_slices: Account::default(),
            reserved: BTreeMap::new(),
            last: 0,
        }
    }

    /// From now on calls belong to the next iteration. What the calls under way will have used counts for the
    /// iteration they began in, and for the run.
    pub fn begin_iteration(&mut self) {
        self.iteration += 1;
        self.of_iteration = Account::default();
    }

    /// Reserves the worst case of a call.
    ///
    /// # Errors
    /// [`Short::Ended`] when iteration or run have no room for it, whatever is drawn; [`Short::Draw`] when a
    /// slice has to be drawn first. Nothing is reserved then.
    pub fn reserve(&mut self, worst: Amount) -> Result<Reservation, Short> {
        let bounds = [
            (BudgetScope::Iteration, self.per_iteration, self.of_iteration),
            (BudgetScope::Run, self.per_run, self.of_run),
        ];
        for (scope, limits, account) in bounds {
            if !limits.allow(account.used().plus(worst)) {
                return Err(BudgetEnded { scope, limits, used: account.used() }.into());
            }
        }
        let free = self.free();
        if !worst.within(free) {
            let least = worst.minus(free);
            // Many calls at once: slices grow with what is under way, so that they stay few.
            let want = least.at_least(times(worst, SLICE_CALLS)).at_least(half(self.reserved()));
            return Err(Short::Draw { least, want });
        }
        for account in [&mut self.of_iteration, &mut self.of_run, &mut self.of_slices] {
            account.reserved = account.reserved.plus(worst);
        }
        self.last += 1;
        self.reserved.insert(self.last, Promise { iteration: self.iteration, amount: worst });
        Ok(Reservation(self.last))
    }

    /// A slice was granted. One that is known is not counted twice.
    pub fn granted(&mut self, id: String, amount: Amount) {
        if self.slices.iter().all(|(known, _)| *known != id) {
            self.slices.push_back((id, amount));
        }
    }

    /// A call has ended: what it really used takes the place of its worst case. More than that is counted too,
    /// and leaves less for the next calls.
    pub fn settle(&mut self, reservation: Reservation, actual: Amount) {
        let Some(promise) = self.reserved.remove(&reservation.0) else { return };
        if promise.iteration == self.iteration {
            self.of_iteration.settle(promise.amount, actual);
        }
        self.of_run.settle(promise.amount, actual);
        self.of_slices.settle(promise.amount, actual);
    }

    /// What the present iteration has spent.
    pub fn iteration_spent(&self) -> Amount {
        self.of_iteration.spent
    }

    /// What the run has spent.
    pub fn run_spent(&self) -> Amount {
        self.of_run.spent
    }

    /// What calls under way may still spend.
    pub fn reserved(&self) -> Amount {
        self.of_run.reserved
    }

    /// What is left of the open slices.
    pub fn free(&self) -> Amount {
        self.granted_in_all().minus(self.of_slices.used())
    }

    /// Closes the slices that the calls under way do not need, oldest first; each has to be settled in the
    /// store. For an iteration's edge: what is given back others can use, and a crash does not lose it.
    pub fn give_back(&mut self) -> Vec<Settlement> {
        self.close(Amount::default())
    }

    /// Closes slices, oldest first, as long as so much stays free.
    fn close(&mut self, keep: Amount) -> Vec<Settlement> {
        let mut closed = Vec::new();
        while let Some((id, granted)) = self.slices.front().cloned() {
            let used = granted.at_most(self.of_slices.spent);
            if !granted.minus(used).within(self.free().minus(keep)) {
                break;
            }
            let last = self.slices.len() == 1;
            if last && !self.reserved.is_empty() {
                break;
            }
            // What was used beyond all slices is told with the last one.
            let used = if last { self.of_slices.spent } else { used };
            self.slices.pop_front();
            self.of_slices.spent = self.of_slices.spent.minus(used);
            closed.push(Settlement { id, used });
        }
        closed
    }

    /// Closes what need not stay open once there are many slices: for after a call that had to draw has its room.
    /// Half of what is free stays, or the next call would draw again what has just gone back.
    pub fn tidy(&mut self) -> Vec<Settlement> {
        if self.slices.len() < SLICES_OF_RUN_MAX / 2 {
            Vec::new()
        } else {
            self.close(half(self.free()))
        }
    }

    /// The run is over: closes every slice. Calls that were never settled have used their worst case.
    pub fn end(mut self) -> Vec<Settlement> {
        let open: Vec<u64> = self.reserved.keys().copied().collect();
        for id in open {
            let amount = self.reserved.get(&id).map_or_else(Amount::default, |one| one.amount);
            self.settle(Reservation(id), amount);
        }
        self.give_back()
    }

    fn granted_in_all(&self) -> Amount {
        self.slices.iter().fold(Amount::default(), |all, (_, one)| all.plus(*one))
    }
}

fn times(amount: Amount, by: u64) -> Amount {
    (1..by).fold(amount, |sum, _| sum.plus(amount))
}

fn half(amount: Amount) -> Amount {
    let Amount { tokens, money: Money(money), calls } = amount;
    Amount { tokens: tokens / 2, money: Money(money / 2), calls: calls / 2 }
}

#[cfg(test)]
mod tests;
