//! One run's side of the gateway: its budgets, what it spent, where its loop is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flyball_core::model::{
    Amount, BudgetEnded, Fence, Ledger, QuotaEnded, Quotas, Reservation, Settlement, Short,
    Situation, SliceError, Slices,
};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, Semaphore};

use crate::admit::Drawing;
use crate::config::{BODIES_MIB_MAX, CALLS_MAX};
use crate::gateway::Shared;
use crate::run::{Iteration, Models, Need, RunCalls, RunIdentity, Spent};

/// How often a settlement is repeated when no scheduler answers; after that the slice counts as spent.
const SETTLE_TRIES: u32 = 5;

/// Pause between these.
const SETTLE_PAUSE: Duration = Duration::from_millis(300);

/// What all calls of a run share.
pub(crate) struct Gate {
    pub(crate) shared: Arc<Shared>,
    pub(crate) run: RunIdentity,
    pub(crate) fence: Arc<dyn Fence>,
    pub(crate) quotas: Arc<dyn Quotas>,
    /// Room for calls under way.
    pub(crate) calls: Arc<Semaphore>,
    /// Room for the bodies of their requests, in MiB.
    pub(crate) bodies: Arc<Semaphore>,
    key: String,
    slices: Arc<dyn Slices>,
    state: Mutex<State>,
    settled: Notify,
    drawing: tokio::sync::Mutex<Drawing>,
    requests: AtomicU64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("run", &self.run).finish_non_exhaustive()
    }
}

struct State {
    /// Gone when the run's calls are over.
    ledger: Option<Ledger>,
    spent: Spent,
    now: Arc<Now>,
    /// Whether the loop has an iteration behind it, or a call of this run was ever forwarded.
    begun: bool,
    /// When the last call ended.
    last_call: Option<Instant>,
    /// Accounts that calls of this iteration have waited for in vain, by provider.
    ended: BTreeMap<String, QuotaEnded>,
    /// Calls that wait for a provider's account, since when one did, and for how long some did before.
    waiting: u32,
    waiting_since: Option<Instant>,
    waited: Duration,
}

/// Where the loop is, for the calls that begin now.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) models: Arc<Models>,
    pub(crate) situation: Situation,
    pub(crate) iteration: u64,
    pub(crate) traceparent: Option<String>,
}

impl Gate {
    pub(crate) fn new(shared: Arc<Shared>, calls: RunCalls) -> Self {
        let RunCalls { key, run, models, budget, begun, slices, quotas, fence, traceparent } =
            calls;
        let situation = Situation {
            namespace: run.namespace.clone(),
            labels: run.labels.clone(),
            ..Situation::default()
        };
        let now = Arc::new(Now { models, situation, iteration: 0, traceparent });
        let ledger = Some(Ledger::new(&budget));
        let state = State {
            ledger,
            spent: Spent::default(),
            now,
            begun,
            last_call: None,
            ended: BTreeMap::new(),
            waiting: 0,
            waiting_since: None,
            waited: Duration::ZERO,
        };
        Self {
            shared,
            run,
            fence,
            quotas,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            bodies: Arc::new(Semaphore::new(BODIES_MIB_MAX)),
            key,
            slices,
            state: Mutex::new(state),
            settled: Notify::new(),
            drawing: tokio::sync::Mutex::default(),
            requests: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the run's key. Takes the same time for every key of its length.
    pub(crate) fn is_key(&self, key: &[u8]) -> bool {
        let own = self.key.as_bytes();
        let differs = own.iter().zip(key).fold(0, |differs, (a, b)| differs | (a ^ b));
        own.len() == key.len() && std::hint::black_box(differs) == 0 && !own.is_empty()
    }

    /// An id for a request, unique in the installation: tokens are.
    pub(crate) fn request_id(&self) -> String {
        let number = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        format!("req_fly_{:x}_{number:x}", self.run.token)
    }

    pub(crate) fn slice_id(&self, number: u64) -> String {
        format!("{}-{}-{number}", self.run.uid, self.run.token)
    }

    /// Where the loop is.
    pub(crate) fn now(&self) -> Arc<Now> {
        Arc::clone(&self.state().now)
    }

    pub(crate) fn begin_iteration(&self, iteration: Iteration) {
        let mut state = self.state();
        if let Some(ledger) = &mut state.ledger {
            ledger.begin_iteration();
        }
        (state.spent.gone, state.spent.quota) = (None, None);
        state.ended.clear();
        let Iteration { number, distance, stall, models, traceparent } = iteration;
        let situation = Situation { distance, stall, ..state.now.situation.clone() };
        state.now = Arc::new(Now {
            models: models.unwrap_or_else(|| Arc::clone(&state.now.models)),
            situation,
            iteration: number,
            traceparent: traceparent.or_else(|| state.now.traceparent.clone()),
        });
    }

    /// Reserves a call's worst case.
    ///
    /// # Errors
    /// [`Short`]. When the run's calls are over, everything has ended.
    pub(crate) fn reserve(&self, worst: Amount) -> Result<Reservation, Short> {
        let mut state = self.state();
        let Some(ledger) = &mut state.ledger else {
            let scope = flyball_core::model::BudgetScope::Run;
            let (limits, used) = Default::default();
            return Err(BudgetEnded { scope, limits, used }.into());
        };
        ledger.reserve(worst)
    }

    pub(crate) fn settle(&self, reservation: Reservation, actual: Amount) {
        let mut state = self.state();
        if let Some(ledger) = &mut state.ledger {
            ledger.settle(reservation, actual);
            state.spent.amount = state.spent.amount.plus(actual);
        }
        drop(state);
        self.settled.notify_waiters();
    }

    /// What calls under way hold.
    pub(crate) fn reserved(&self) -> Amount {
        self.state().ledger.as_ref().map(Ledger::reserved).unwrap_or_default()
    }

    /// Resolves at the next settlement.
    pub(crate) fn settled(&self) -> Notified<'_> {
        self.settled.notified()
    }

    pub(crate) async fn drawing(&self) -> tokio::sync::MutexGuard<'_, Drawing> {
        self.drawing.lock().await
    }

    pub(crate) fn slices(&self) -> &dyn Slices {
        self.slices.as_ref()
    }

    /// A slice was granted.
    pub(crate) fn granted(self: &Arc<Self>, id: String, amount: Amount) {
        match &mut self.state().ledger {
            Some(ledger) => ledger.granted(id, amount),
            // Granted too late: nothing of it was used.
            None => self.return_later(vec![Settlement { id, used: Amount::default() }]),
        }
    }

    /// The call that drew has its room: slices that became superfluous are given back in the background. Not before,
    /// or they would take that room away again.
    pub(crate) fn tidy(self: &Arc<Self>) {
        let closed = self.state().ledger.as_mut().map(Ledger::tidy).unwrap_or_default();
        self.return_later(closed);
    }

    fn return_later(self: &Arc<Self>, closed: Vec<Settlement>) {
        if !closed.is_empty() {
            let gate = Arc::clone(self);
            tokio::spawn(async move { gate.give_back(closed).await });
        }
    }

    /// Settles slices in the store. What no scheduler takes counts as spent.
    pub(crate) async fn give_back(&self, closed: Vec<Settlement>) {
        for Settlement { id, used } in closed {
            for attempt in 1..=SETTLE_TRIES {
                match self.slices.settle(id.clone(), used).await {
                    Err(SliceError::Unavailable(_)) if attempt < SETTLE_TRIES => {
                        tokio::time::sleep(SETTLE_PAUSE).await;
                    }
                    Err(error) => {
                        let run = &self.run;
                        tracing::warn!(
                            namespace = run.namespace,
                            name = run.name,
                            slice = id,
                            "a budget's slice was not given back and counts as spent: {error}"
                        );
                        break;
                    }
                    Ok(()) => break,
                }
            }
        }
    }

    /// Gives back the slices that calls under way do not need.
    pub(crate) async fn settle_slices(&self) {
        let closed = self.state().ledger.as_mut().map(Ledger::give_back).unwrap_or_default();
        self.give_back(closed).await;
    }

    /// Waits until no call is under way, at most so long. What is not settled by then counts as spent.
    pub(crate) async fn idle(&self, most: Duration) {
        let all = u32::try_from(CALLS_MAX).unwrap_or(u32::MAX);
        let _ = tokio::time::timeout(most, self.calls.acquire_many(all)).await;
    }

    /// Ends the run's calls: nothing can be reserved any more, and every slice goes back.
    pub(crate) async fn end(&self) {
        let ledger = self.state().ledger.take();
        let unanswered = self.drawing.lock().await.unanswered();
        let mut closed = ledger.map(Ledger::end).unwrap_or_default();
        closed.extend(unanswered.map(|id| Settlement { id, used: Amount::default() }));
        self.give_back(closed).await;
    }

    pub(crate) fn budget_ended(&self, ended: BudgetEnded, amount: Amount) {
        self.state().spent.need = Some(Need { ended, amount });
    }

    /// Whether a call was forwarded before; from now on one was.
    pub(crate) fn begun(&self) -> bool {
        std::mem::replace(&mut self.state().begun, true)
    }

    pub(crate) fn quota_ended(&self, ended: QuotaEnded) {
        let mut state = self.state();
        state.ended.insert(ended.provider.clone(), ended.clone());
        state.spent.quota = Some(ended);
    }

    /// Whether a call of this run has waited in vain for room in a provider's account: others do not wait again.
    pub(crate) fn quota_of(&self, provider: &str) -> Option<QuotaEnded> {
        self.state().ended.get(provider).cloned()
    }

    /// A call begins to wait for a provider's account.
    pub(crate) fn wait_begins(&self) {
        let mut state = self.state();
        state.waiting += 1;
        state.waiting_since.get_or_insert_with(Instant::now);
    }

    /// A call's wait has ended.
    pub(crate) fn wait_ends(&self) {
        let mut state = self.state();
        state.waiting = state.waiting.saturating_sub(1);
        if state.waiting == 0
            && let Some(since) = state.waiting_since.take()
        {
            state.waited += since.elapsed();
        }
    }

    /// For how long calls have waited for providers' accounts.
    pub(crate) fn waited(&self) -> Duration {
        let state = self.state();
        state.waited + state.waiting_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(crate) fn spent(&self) -> Spent {
        self.state().spent.clone()
    }

    /// A call has ended.
    pub(crate) fn ended(&self) {
        self.state().last_call = Some(Instant::now());
    }

    /// When a call was under way last: now, if one is; `None` if there never was one.
    pub(crate) fn last_call(&self) -> Option<Instant> {
        let busy = self.calls.available_permits() < CALLS_MAX;
        if busy { Some(Instant::now()) } else { self.state().last_call }
    }

    /// Counts what became of a call.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Spent)) {
        change(&mut self.state().spent);
    }
}
