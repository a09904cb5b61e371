//! Slices of the budgets of one run's loop and namespace, drawn and settled at the schedulers.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::{Incarnation, LoopKey, LoopUid, NodeName, Token};
use flyball_core::model::{Amount, BudgetEnded, Later, Money, SliceError, Slices};
use flyball_proto::v1::budgets_client::BudgetsClient;
use flyball_proto::v1::draw_budget_response::Answer;
use flyball_proto::v1::{DrawBudgetRequest, RunProof, SettleBudgetRequest, SpendAmount};
use tonic::{Code, Status};

use super::asking::Schedulers;

/// How long a slice is asked for: over the election of a leader and a restart of the store. A run that gets none
/// by then waits or ends; the deadline of its lease bounds it in any case.
const DRAW_MAX: Duration = Duration::from_secs(20);
/// How long the rest of a slice is offered: what is not taken back counts as spent.
const SETTLE_MAX: Duration = Duration::from_secs(15);

/// The slices of one run.
#[derive(Debug, Clone)]
pub struct RunSlices {
    schedulers: Arc<Schedulers>,
    run: RunProof,
}

impl RunSlices {
    /// For a run of this life of the node.
    pub fn new(
        schedulers: Arc<Schedulers>,
        node: &NodeName,
        incarnation: &Incarnation,
        (key, uid, token): (&LoopKey, &LoopUid, Token),
    ) -> Self {
        let run = RunProof {
            node: node.to_string(),
            incarnation: incarnation.to_string(),
            namespace: key.namespace.clone(),
            r#loop: key.name.clone(),
            uid: uid.to_string(),
            token: token.0,
        };
        Self { schedulers, run }
    }
}

impl Slices for RunSlices {
    fn draw(
        &self,
        id: String,
        least: Amount,
        want: Amount,
    ) -> Later<'_, Result<Amount, SliceError>> {
        let request = DrawBudgetRequest {
            run: Some(self.run.clone()),
            slice: id,
            least: Some(wire(least)),
            want: Some(wire(want)),
        };
        Box::pin(async move {
            let send = |connection| {
                let request = request.clone();
                async move { BudgetsClient::new(connection).draw(request).await }
            };
            let answer = self.schedulers.ask(DRAW_MAX, send).await.map_err(|s| refused(&s))?;
            match answer.answer {
                Some(Answer::Granted(granted)) => Ok(amount(granted)),
                Some(Answer::EndedJson(json)) => {
                    let ended: BudgetEnded = serde_json::from_slice(&json).map_err(|error| {
                        SliceError::Unavailable(format!("the refusal cannot be read: {error}"))
                    })?;
                    Err(ended.into())
                }
                None => Err(SliceError::Unavailable("the answer cannot be read".to_owned())),
            }
        })
    }

    fn settle(&self, id: String, used: Amount) -> Later<'_, Result<(), SliceError>> {
        let request =
            SettleBudgetRequest { run: Some(self.run.clone()), slice: id, used: Some(wire(used)) };
        Box::pin(async move {
            let send = |connection| {
                let request = request.clone();
                async move { BudgetsClient::new(connection).settle(request).await }
            };
            let settled = self.schedulers.ask(SETTLE_MAX, send).await;
            settled.map(drop).map_err(|status| refused(&status))
        })
    }
}

fn refused(status: &Status) -> SliceError {
    let message = status.message().to_owned();
    match status.code() {
        Code::PermissionDenied => SliceError::Fenced(message),
        _ => SliceError::Unavailable(message),
    }
}

fn wire(amount: Amount) -> SpendAmount {
    SpendAmount { tokens: amount.tokens, money_micros: amount.money.0, calls: amount.calls }
}

fn amount(wire: SpendAmount) -> Amount {
    Amount { tokens: wire.tokens, money: Money(wire.money_micros), calls: wire.calls }
}
