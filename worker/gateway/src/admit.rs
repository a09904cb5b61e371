//! Room for a call's worst case in every budget, before it is forwarded.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::model::{Amount, BudgetEnded, Reservation, Short, SliceError};
use tokio::time::Instant;

use crate::gate::Gate;
use crate::wire::Refusal;

/// Pause before the scheduler is asked for a slice again when none answered.
const UNAVAILABLE_PAUSE: Duration = Duration::from_millis(500);

/// So long a refusal of the scheduler's holds for other calls that need as much: dozens may be waiting.
const REFUSAL_HOLDS: Duration = Duration::from_millis(250);

/// Drawing of slices: one call at a time.
#[derive(Debug, Default)]
pub(crate) struct Drawing {
    /// How many ids were given out.
    count: u64,
    /// A question whose answer is not known. It is put again before any other, with the same words.
    pending: Option<(String, Amount, Amount)>,
    /// The last refusal: when, and for how much.
    refused: Option<(Instant, Amount, BudgetEnded)>,
}

impl Drawing {
    /// The slice whose answer nobody has seen, if there is one: it may have been granted.
    pub(crate) fn unanswered(&mut self) -> Option<String> {
        self.pending.take().map(|(id, _, _)| id)
    }

    fn refused_lately(&self, least: Amount) -> Option<BudgetEnded> {
        let (when, amount, ended) = self.refused.as_ref()?;
        (when.elapsed() < REFUSAL_HOLDS && amount.within(least)).then(|| ended.clone())
    }
}

/// Room for one try of a call. Dropped before the try was sent, it is given back; dropped later, the worst case counts
/// as used.
#[derive(Debug)]
pub(crate) struct Held {
    gate: Arc<Gate>,
    reservation: Option<Reservation>,
    worst: Amount,
    sent: bool,
}

impl Held {
    /// From now on a provider may have seen the call.
    pub(crate) fn sent(&mut self) {
        self.sent = true;
    }

    /// The try has ended and used this much.
    pub(crate) fn settle(mut self, actual: Amount) {
        self.close(actual);
    }

    fn close(&mut self, actual: Amount) {
        if let Some(reservation) = self.reservation.take() {
            self.gate.settle(reservation, actual);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let actual = if self.sent { self.worst } else { Amount::default() };
        self.close(actual);
    }
}

/// Reserves the worst case of a call. Where a budget has no room only because of calls under way, it waits for them,
/// at most `wait_max`: mostly they use a small part of what they hold.
///
/// # Errors
/// The refusal for the client.
pub(crate) async fn reserve(
    gate: &Arc<Gate>,
    worst: Amount,
    wait_max: Duration,
) -> Result<Held, Refusal> {
    let last = Instant::now() + wait_max;
    loop {
        let mut settled = std::pin::pin!(gate.settled());
        // Listens from before the look on, so that no settlement falls in between.
        settled.as_mut().enable();
        let ended = match attempt(gate, worst).await {
            Ok(reservation) => {
                let (gate, reservation) = (Arc::clone(gate), Some(reservation));
                return Ok(Held { gate, reservation, worst, sent: false });
            }
            Err(SliceError::Ended(ended)) => ended,
            Err(SliceError::Fenced(_)) => return Err(Refusal::Fenced),
            Err(SliceError::Unavailable(why)) if Instant::now() + UNAVAILABLE_PAUSE > last => {
                return Err(Refusal::UpstreamGone(format!(
                    "no scheduler answered for budget: {why}"
                )));
            }
            Err(SliceError::Unavailable(_)) => {
                tokio::time::sleep(UNAVAILABLE_PAUSE).await;
                continue;
            }
        };
        // Where nothing is under way nothing will come back.
        if gate.reserved().is_zero() || tokio::time::timeout_at(last, settled).await.is_err() {
            gate.budget_ended(ended.clone(), worst);
            return Err(Refusal::BudgetEnded(ended));
        }
    }
}

/// Reserves now, with a further slice if one is needed.
async fn attempt(gate: &Arc<Gate>, worst: Amount) -> Result<Reservation, SliceError> {
    match gate.reserve(worst) {
        Ok(reservation) => return Ok(reservation),
        Err(Short::Ended(ended)) => return Err(ended.into()),
        Err(Short::Draw { .. }) => {}
    }
    let mut drawing = gate.drawing().await;
    loop {
        // Whoever drew before may have brought enough for this call too.
        let (least, want) = match gate.reserve(worst) {
            Ok(reservation) => {
                gate.tidy();
                return Ok(reservation);
            }
            Err(Short::Ended(ended)) => return Err(ended.into()),
            Err(Short::Draw { least, want }) => (least, want),
        };
        if let Some(ended) = drawing.refused_lately(least) {
            return Err(ended.into());
        }
        let own = drawing.pending.is_none();
        let (id, least, want) = drawing.pending.clone().unwrap_or_else(|| {
            drawing.count += 1;
            (gate.slice_id(drawing.count), least, want)
        });
        drawing.pending = Some((id.clone(), least, want));
        let answer = gate.slices().draw(id.clone(), least, want).await;
        if !matches!(answer, Err(SliceError::Unavailable(_))) {
            drawing.pending = None;
        }
        match answer {
            Ok(amount) => gate.granted(id, amount),
            // That was the answer to another call's question, which may have been a larger one.
            Err(SliceError::Ended(_)) if !own => {}
            Err(SliceError::Ended(ended)) => {
                drawing.refused = Some((Instant::now(), least, ended.clone()));
                return Err(ended.into());
            }
            Err(error) => return Err(error),
        }
    }
}
