//! One call, from the decision about it to the beginning of its answer: admission, tries, retries. Retries happen here
//! and nowhere else, and never once a byte of an answer went to the client.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flyball_core::model::{Asked, Limited, Plan, QuotaEnded, Refused, Step, Subtask};
use http::{HeaderMap, StatusCode, request};

use crate::gate::{Gate, Now};
use crate::health::Place;
use crate::log::CallLog;
use crate::quota::Waiting;
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
    /// How long it has waited for providers' accounts.
    pub(crate) quota_waited: Duration,
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
    let plan = match decide(&mut ask).await {
        Ok(plan) => plan,
        Err(refusal) => return ask.refuse(refusal),
    };
    ask.log.planned(&plan);
    let tries_max = plan.on_error.tries.clamp(1, 10);
    let mut round = Round::new(&plan);
    let mut last = None;
    while round.failures < tries_max {
        let step = match round.next(&mut ask).await {
            Ok(Some(step)) => step,
            Ok(None) => break,
            Err(ended) => return ask.refuse(Refusal::QuotaEnded(ended)),
        };
        match tries::attempt(&mut ask, &plan, &plan.steps[step]).await {
            Try::Answered(begun) => return Outcome::Answer(ask.answer(*begun)),
            Try::Refused(refusal) => return ask.refuse(refusal),
            Try::Failed(failure) => {
                round.failed(step, &failure);
                let terminal = failure.terminal;
                last = Some((step, failure));
                if terminal {
                    break;
                }
            }
        }
    }
    let Some((step, failure)) = last else {
        return ask.refuse(Refusal::UpstreamGone("every deployment is left alone".to_owned()));
    };
    let Step { provider, model, .. } = &plan.steps[step];
    let Failure { error, why, terminal, .. } = failure;
    match error {
        Some(error) => {
            match terminal {
                true => ask.log.to_blame(),
                false => ask.log.gone(&format!("{provider} {model}: {why}")),
            }
            ask.log.refused(&why);
            Outcome::Error(error)
        }
        None => ask.refuse(Refusal::UpstreamGone(format!("{provider} {model}: {why}"))),
    }
}

/// Which deployments to ask, in which order. Where all are left alone for a time that a call may wait, it waits for the
/// first.
async fn decide(ask: &mut Ask) -> Result<Plan, Refusal> {
    let mut waited = Duration::ZERO;
    let mut quota: Option<Waiting> = None;
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
            Ok(plan) => {
                quota.into_iter().for_each(Waiting::found);
                return Ok(plan);
            }
            Err(refused) => refused,
        };
        let Refused::Resting { route, left, limited, .. } = &refused else {
            quota.into_iter().for_each(Waiting::over);
            return Err(refusal(&refused));
        };
        if waited + *left <= tries::pause_max(ask, route) {
            tokio::time::sleep(*left).await;
            waited += *left;
        } else if let Some(limited) = limited.as_ref().filter(|one| one.left <= ask.quota_left()) {
            quota.get_or_insert_with(|| Waiting::begin_told(&ask.gate, &limited.provider));
            tokio::time::sleep(limited.left).await;
            ask.quota_waited += limited.left;
        } else {
            quota.into_iter().for_each(Waiting::over);
            return Err(refusal(&refused));
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
        Refused::Resting { limited: Some(Limited { provider, left }), .. } => {
            Refusal::QuotaEnded(QuotaEnded { provider: provider.clone(), left: *left })
        }
        Refused::Resting { .. } => Refusal::UpstreamGone(why),
        Refused::OtherProtocol { .. } | Refused::NoRoute { .. } | Refused::NoProvider { .. } => {
            Refusal::NoRoute(why)
        }
    }
}

/// When a step of a plan can be asked.
struct Pause {
    pause: Duration,
    step: usize,
    /// Whether it is its account's limit that it waits for.
    limited: bool,
}

/// Which deployments of a plan were tried.
struct Round<'a> {
    plan: &'a Plan,
    /// By step: how often it was tried; `None` if it is not to be tried again.
    tried: Vec<Option<Tried>>,
    /// Failures that count as tries: an account's limit is waited for as long as a call may wait for quota.
    failures: u32,
}

/// How a step of a plan was tried.
#[derive(Debug, Clone, Copy, Default)]
struct Tried {
    times: u32,
    /// Whether its account was at its limit the last time.
    limited: bool,
}

impl<'a> Round<'a> {
    fn new(plan: &'a Plan) -> Self {
        let tried = vec![Some(Tried::default()); plan.steps.len()];
        Self { plan, tried, failures: 0 }
    }

    fn failed(&mut self, step: usize, failure: &Failure) {
        let limited = failure.limited;
        self.failures += u32::from(!limited);
        self.tried[step] = self.tried[step]
            .filter(|_| failure.same_again)
            .map(|tried| Tried { times: tried.times + 1, limited });
    }

    /// The next to be asked: the first that was not tried and is not left alone; else the one that can be asked
    /// soonest, after that pause, of those whose pause is short enough.
    ///
    /// # Errors
    /// An account that one of them waits for, if there is none and that takes longer than a call may wait for quota.
    async fn next(&mut self, ask: &mut Ask) -> Result<Option<usize>, QuotaEnded> {
        let pauses = self.pauses(ask);
        let (quota_left, pause_max) = (ask.quota_left(), self.plan.on_error.pause_max.0);
        let in_time = |one: &&Pause| one.pause <= if one.limited { quota_left } else { pause_max };
        let Some(&Pause { pause, step, limited }) =
            pauses.iter().filter(in_time).min_by_key(|one| one.pause)
        else {
            let limited = pauses.iter().filter(|one| one.limited).min_by_key(|one| one.pause);
            let ended = limited.map(|one| QuotaEnded {
                provider: self.plan.steps[one.step].provider.clone(),
                left: one.pause,
            });
            let earlier = || self.plan.steps.iter().find_map(|s| ask.gate.quota_of(&s.provider));
            return ended.or_else(earlier).map_or(Ok(None), Err);
        };
        if limited {
            let waits = Waiting::begin_told(&ask.gate, &self.plan.steps[step].provider);
            tokio::time::sleep(pause).await;
            waits.found();
            ask.quota_waited += pause;
        } else if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Ok(Some(step))
    }

    /// When each step can be asked that is not given up, and whose account was not waited for in vain.
    fn pauses(&self, ask: &Ask) -> Vec<Pause> {
        let now = Instant::now();
        let steps = self.plan.steps.iter().zip(&self.tried).enumerate();
        let pauses = steps.filter_map(|(at, (step, tried))| {
            let tried = (*tried)?;
            if ask.gate.quota_of(&step.provider).is_some() {
                return None;
            }
            let backoff = backoff(tried.times, &ask.log.id);
            let place = Place { provider: step.provider.clone(), model: step.model.clone() };
            let rest = ask.gate.shared.health().resting(&place, now);
            let limited = rest.as_ref().map_or(tried.limited, |rest| rest.limited);
            let pause = rest.map_or(backoff, |rest| rest.left.max(backoff));
            Some(Pause { pause, step: at, limited })
        });
        pauses.collect()
    }
}

/// Doubled each time, and spread by a quarter, so that calls that failed together do not return together.
fn backoff(times: u32, id: &str) -> Duration {
    if times == 0 {
        return Duration::ZERO;
    }
    let base = BACKOFF.saturating_mul(1 << (times - 1).min(6));
    let seed = id.bytes().fold(times, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    base.mul_f64(0.75 + f64::from(seed % 256) / 512.0)
}

impl Ask {
    /// How long it may wait for providers' accounts yet.
    pub(crate) fn quota_left(&self) -> Duration {
        self.gate.shared.config.quota_wait.saturating_sub(self.quota_waited)
    }

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
        match &refusal {
            Refusal::QuotaEnded(ended) => self.gate.quota_ended(ended.clone()),
            Refusal::UpstreamGone(why) => self.log.gone(why),
            Refusal::BudgetEnded(_) | Refusal::Fenced => {}
            _ => self.log.to_blame(),
        }
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
        Refusal::QuotaEnded(_) => "quota",
        Refusal::BadCall(_) => "bad_call",
        Refusal::Unauthorized => "unauthorized",
        Refusal::ProtocolMismatch { .. } => "protocol_mismatch",
        Refusal::UpstreamGone(_) => "upstream_gone",
        Refusal::TooLarge { .. } => "too_large",
        Refusal::Encoded(_) => "encoded",
        Refusal::NotFound(_) => "not_found",
    }
}
