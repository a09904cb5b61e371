//! One call, from the decision about it to the beginning of its answer: admission, tries, retries. Retries happen here
//! and nowhere else, and never once a byte of an answer went to the client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flyball_core::model::{Asked, Plan, Refused, Step, Subtask};
use http::{HeaderMap, StatusCode, request};

use crate::gate::{Gate, Now};
use crate::health::Place;
use crate::log::CallLog;
use crate::relay::Relay;
use crate::request::Room;
use crate::tries::{self, Begun, Failure, Try};
use crate::wire::{self, Call, Client, Refusal};

/// First pause before the same deployment is asked again; doubled for each further try.
const BACKOFF: Duration = Duration::from_millis(250);

/// A call that is to be answered.
pub(crate) struct Ask {
    pub(crate) gate: Arc<Gate>,
    pub(crate) now: Arc<Now>,
    pub(crate) head: request::Parts,
    pub(crate) body: Bytes,
    pub(crate) _room: Room,
    pub(crate) call: Arc<Call>,
    pub(crate) client: Client,
    pub(crate) subtask: Subtask,
    pub(crate) sticky: String,
    pub(crate) log: CallLog,
}

/// What the client gets.
pub(crate) enum Outcome {
    /// An answer that has begun.
    Answer(Answer),
    /// A provider's error, in its own words.
    Error(UpstreamError),
    /// The gateway's own no.
    Refused(Refusal),
}

/// An answer that has begun.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) relay: Box<Relay>,
}

/// A provider's error.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamError {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Answers a call within the run's deadline.
pub(crate) async fn run(ask: Ask) -> Outcome {
    let fence = Arc::clone(&ask.gate.fence);
    let mut work = std::pin::pin!(go(ask));
    while let Some(left) = fence.left() {
        // The deadline may have moved meanwhile.
        if let Ok(outcome) = tokio::time::timeout(left, work.as_mut()).await {
            return outcome;
        }
    }
    Outcome::Refused(Refusal::Fenced)
}

async fn go(mut ask: Ask) -> Outcome {
    let plan = match decide(&ask).await {
        Ok(plan) => plan,
        Err(refusal) => return ask.refuse(refusal),
    };
    ask.log.planned(&plan);
    let tries_max = plan.on_error.tries.clamp(1, 10);
    let mut round = Round::new(&plan);
    let mut last = None;
    for number in 0..tries_max {
        let Some(step) = round.next(&ask, number).await else { break };
        match tries::attempt(&mut ask, &plan, &plan.steps[step]).await {
            Try::Answered(begun) => return Outcome::Answer(ask.answer(*begun)),
            Try::Refused(refusal) => return ask.refuse(refusal),
            Try::Failed(failure) => {
                round.failed(step, &failure);
                let terminal = failure.terminal;
                last = Some((failure.error, failure.why));
                if terminal {
                    break;
                }
            }
        }
    }
    match last {
        Some((Some(error), why)) => {
            ask.log.refused(&why);
            Outcome::Error(error)
        }
        Some((None, why)) => ask.refuse(Refusal::UpstreamGone(why)),
        None => ask.refuse(Refusal::UpstreamGone("every deployment is left alone".to_owned())),
    }
}

/// Which deployments to ask, in which order. Where all are left alone for a moment only, it waits for the first.
async fn decide(ask: &Ask) -> Result<Plan, Refusal> {
    let mut waited = Duration::ZERO;
    loop {
        let (gate, now) = (&ask.gate, Instant::now());
        let asked = Asked {
            model: &ask.call.model,
            protocol: ask.call.protocol,
            subtask: &ask.subtask,
            situation: &ask.now.situation,
            sticky: &ask.sticky,
        };
        let chosen =
            flyball_core::model::choose(&ask.now.models.routing, &asked, &|provider, model| {
                let place = Place { provider: provider.to_owned(), model: model.to_owned() };
                gate.shared.health().resting(&place, now)
            });
        let refused = match chosen {
            Ok(plan) => return Ok(plan),
            Err(refused) => refused,
        };
        let pause_max = tries::pause_max(&ask.now.models, &refused);
        match refused.retry_after() {
            Some(left) if waited + left <= pause_max => {
                tokio::time::sleep(left).await;
                waited += left;
            }
            _ => return Err(refusal(&refused)),
        }
    }
}

fn refusal(refused: &Refused) -> Refusal {
    let mut why = refused.to_string();
    let reasons = refused.reasons();
    if !reasons.is_empty() {
        why = format!("{why} ({})", reasons.join("; "));
    }
    match refused {
        Refused::Resting { .. } => Refusal::UpstreamGone(why),
        Refused::OtherProtocol { .. } | Refused::NoRoute { .. } | Refused::NoProvider { .. } => {
            Refusal::NoRoute(why)
        }
    }
}

/// Which deployments of a plan were tried.
struct Round<'a> {
    plan: &'a Plan,
    /// By step: how often it was tried; `None` if it is not to be tried again.
    tried: Vec<Option<u32>>,
}

impl<'a> Round<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { plan, tried: vec![Some(0); plan.steps.len()] }
    }

    fn failed(&mut self, step: usize, failure: &Failure) {
        self.tried[step] = match self.tried[step] {
            Some(count) if failure.same_again => Some(count + 1),
            _ => None,
        };
    }

    /// The next to be asked: the first that was not tried and is not left alone; else the one that can be asked
    /// soonest, after that pause, if it is short enough.
    async fn next(&self, ask: &Ask, number: u32) -> Option<usize> {
        let rest = |step: &Step| {
            let place = Place { provider: step.provider.clone(), model: step.model.clone() };
            ask.gate.shared.health().rest(&place, Instant::now()).unwrap_or_default()
        };
        let steps = self.plan.steps.iter().zip(&self.tried).enumerate();
        let mut soonest: Option<(Duration, usize)> = None;
        for (at, (step, tried)) in steps {
            let Some(tried) = *tried else { continue };
            let backoff =
                if tried == 0 { Duration::ZERO } else { backoff(tried, &ask.log.id, number) };
            let pause = rest(step).max(backoff);
            if soonest.is_none_or(|(least, _)| pause < least) {
                soonest = Some((pause, at));
            }
        }
        let (pause, at) = soonest?;
        if pause > self.plan.on_error.pause_max.0 {
            return None;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Some(at)
    }
}

/// Doubled each time, and spread by a quarter, so that calls that failed together do not return together.
fn backoff(tried: u32, id: &str, number: u32) -> Duration {
    let base = BACKOFF.saturating_mul(1 << (tried - 1).min(6));
    let seed = id.bytes().fold(number, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    base.mul_f64(0.75 + f64::from(seed % 256) / 512.0)
}

impl Ask {
    /// The answer has begun: from here on it passes by itself.
    fn answer(mut self, begun: Begun) -> Answer {
        self.log.first_byte();
        let Begun { status, headers, upstream, first, reading, attempt, place, on_error } = begun;
        let ping = wire::ping(self.call.protocol, self.client);
        let (reading, attempt) = (Some(reading), Some(attempt));
        let relay = Relay {
            gate: self.gate,
            call: self.call,
            place,
            on_error,
            upstream,
            first: Some(first),
            reading,
            attempt,
            log: self.log,
            ping,
            quiet_since: tokio::time::Instant::now(),
            alarm: None,
            cut: None,
            flushed: false,
        };
        Answer { status, headers, relay: Box::new(relay) }
    }

    /// Ends it with a refusal.
    pub(crate) fn refuse(mut self, refusal: Refusal) -> Outcome {
        self.log.refused(label(&refusal));
        Outcome::Refused(refusal)
    }
}

/// A refusal in one word, for metrics.
pub(crate) fn label(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::BudgetEnded(_) => "budget_ended",
        Refusal::Fenced => "fenced",
        Refusal::NoRoute(_) => "no_route",
        Refusal::QuotaWait(_) => "quota",
        Refusal::BadCall(_) => "bad_call",
        Refusal::Unauthorized => "unauthorized",
        Refusal::ProtocolMismatch { .. } => "protocol_mismatch",
        Refusal::UpstreamGone(_) => "upstream_gone",
        Refusal::TooLarge { .. } => "too_large",
        Refusal::Encoded(_) => "encoded",
        Refusal::NotFound(_) => "not_found",
    }
}
