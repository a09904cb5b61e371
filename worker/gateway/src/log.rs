//! What became of one call, told once at its end: to the run's sums, and as a span and metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flyball_core::model::{Money, Plan, Protocol};
use flyball_telemetry::{ModelCall, record_model_call, record_rest};
use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::{Attempt, Used};
use crate::capture::Capture;
use crate::gate::{Gate, Now};
use crate::run::Gone;
use crate::wire::{Call, Seen};

/// A call under way. Dropped, it has ended, if nobody said how: because its client went away.
pub(crate) struct CallLog {
    gate: Arc<Gate>,
    now: Arc<Now>,
    pub(crate) id: String,
    traceparent: Option<String>,
    begun: Instant,
    first: Option<Duration>,
    call: Option<Facts>,
    plan: Option<Place>,
    tries: u32,
    chain: Vec<String>,
    used: Used,
    answer: Answer,
    end: Option<Result<(), String>>,
    /// A try whose answer has not begun.
    pub(crate) open: Option<Attempt>,
    pub(crate) capture: Option<Capture>,
    permit: Option<OwnedSemaphorePermit>,
}

/// What telemetry is still to be told of a call that has ended. Dropped, it is told.
struct Told {
    gate: Arc<Gate>,
    now: Arc<Now>,
    id: String,
    traceparent: Option<String>,
    duration: Duration,
    first: Option<Duration>,
    call: Facts,
    place: Place,
    tries: u32,
    chain: Vec<String>,
    used: Used,
    answer: Answer,
    end: Result<(), String>,
    capture: Option<Capture>,
    /// A run's end waits for its calls, and so for what is told of them.
    _permit: Option<OwnedSemaphorePermit>,
}

/// What was asked.
struct Facts {
    protocol: Protocol,
    model: String,
    stream: bool,
    max_output: Option<u64>,
    subtask: &'static str,
    session: Option<String>,
}

/// Who was asked.
#[derive(Default)]
struct Place {
    route: String,
    route_why: String,
    tier: String,
    tier_why: String,
    escalated: bool,
    provider: String,
    model: String,
    known: bool,
    address: Option<(String, u16)>,
}

/// What the answer says of itself.
#[derive(Default)]
struct Answer {
    model: Option<String>,
    id: Option<String>,
    finish: Option<String>,
}

impl CallLog {
    pub(crate) fn new(
        gate: Arc<Gate>,
        now: Arc<Now>,
        id: String,
        traceparent: Option<String>,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            gate,
            now,
            id,
            traceparent,
            begun: Instant::now(),
            first: None,
            call: None,
            plan: None,
            tries: 0,
            chain: Vec::new(),
            used: Used::default(),
            answer: Answer::default(),
            end: None,
            open: None,
            capture: None,
            permit: Some(permit),
        }
    }

    pub(crate) fn asked(&mut self, call: &Call, subtask: &'static str, session: Option<String>) {
        self.call = Some(Facts {
            protocol: call.protocol,
            model: call.model.clone(),
            stream: call.stream,
            max_output: call.max_output,
            subtask,
            session,
        });
    }

    pub(crate) fn planned(&mut self, plan: &Plan) {
        self.plan = Some(Place {
            route: plan.route.clone(),
            route_why: plan.route_why.clone(),
            tier: plan.tier.clone(),
            tier_why: plan.tier_why.clone(),
            escalated: plan.is_escalated(),
            ..Place::default()
        });
    }

    /// A try begins.
    pub(crate) fn tries(
        &mut self,
        tier: &str,
        provider: &str,
        model: &str,
        known: bool,
        uri: &http::Uri,
    ) {
        self.tries += 1;
        let place = self.plan.get_or_insert_default();
        tier.clone_into(&mut place.tier);
        provider.clone_into(&mut place.provider);
        model.clone_into(&mut place.model);
        place.known = known;
        let usual = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        place.address = uri.host().map(|host| (host.to_owned(), port));
    }

    /// A try has ended without an answer.
    pub(crate) fn failed(&mut self, used: Used, why: &str) {
        let place = self.plan.get_or_insert_default();
        self.chain.push(format!("{}/{}: {why}", place.provider, place.model));
        self.add(used);
    }

    /// Who was asked last is left alone from now on.
    pub(crate) fn rests(&self) {
        if let Some(Place { provider, model, known, .. }) = &self.plan {
            record_rest(provider, model, *known);
        }
    }

    /// The first byte of the answer is here.
    pub(crate) fn first_byte(&mut self) {
        self.first = self.first.or_else(|| Some(self.begun.elapsed()));
    }

    /// The answer has ended; `error`: not as it should.
    pub(crate) fn answered(&mut self, used: Used, seen: Seen, error: Option<String>) {
        self.add(used);
        self.answer = Answer { model: seen.model, id: seen.id, finish: seen.finish };
        let error = error.or(seen.error);
        self.end = Some(error.map_or(Ok(()), Err));
    }

    /// No provider answered it, or the one that did went away in the middle.
    pub(crate) fn gone(&self, why: &str) {
        self.gate.count(|spent| spent.gone = Some(Gone::Silent(why.to_owned())));
    }

    /// What it got was the client's own fault: an earlier silence does not count any more.
    pub(crate) fn to_blame(&self) {
        self.gate.count(|spent| spent.gone = None);
    }

    /// It was refused, or every provider failed.
    pub(crate) fn refused(&mut self, why: &str) {
        self.end = Some(Err(why.to_owned()));
        self.gate.count(|spent| spent.refused += 1);
    }

    fn add(&mut self, used: Used) {
        self.used.usage.add(&used.usage);
        self.used.money = Money(self.used.money.0.saturating_add(used.money.0));
        self.used.estimated |= used.estimated;
        if used.estimated {
            self.gate.count(|spent| spent.estimated += 1);
        }
    }
}

impl Drop for CallLog {
    fn drop(&mut self) {
        if let Some(attempt) = self.open.take() {
            self.add(attempt.cut());
        }
        self.gate.ended();
        let answered = matches!(self.end, Some(Ok(())));
        let end = self.end.take().unwrap_or_else(|| Err("client_gone".to_owned()));
        let (usage, escalated) =
            (self.used.usage, self.plan.as_ref().is_some_and(|place| place.escalated));
        self.gate.count(|spent| {
            spent.usage.add(&usage);
            spent.answered += u64::from(answered);
            if answered {
                spent.gone = None;
            }
            spent.escalated += u64::from(answered && escalated);
        });
        let Some(call) = self.call.take() else { return };
        let told = Told {
            gate: Arc::clone(&self.gate),
            now: Arc::clone(&self.now),
            id: std::mem::take(&mut self.id),
            traceparent: self.traceparent.take(),
            duration: self.begun.elapsed(),
            first: self.first,
            call,
            place: self.plan.take().unwrap_or_default(),
            tries: self.tries,
            chain: std::mem::take(&mut self.chain),
            used: self.used,
            answer: std::mem::take(&mut self.answer),
            end,
            capture: self.capture.take(),
            _permit: self.permit.take(),
        };
        // The last bytes of the answer are not written yet: this thread does that first, and then goes on here. What
        // the budgets need is settled already.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { drop(told) });
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let content = self.capture.take().map(Capture::finish);
        let (call, place, usage) = (&self.call, &self.place, &self.used.usage);
        record_model_call(&ModelCall {
            traceparent: self.traceparent.as_deref().or(self.now.traceparent.as_deref()),
            duration: self.duration,
            first_chunk: self.first,
            protocol: call.protocol.as_str(),
            requested_model: &call.model,
            stream: call.stream,
            max_output: call.max_output,
            subtask: call.subtask,
            session: call.session.as_deref(),
            route: &place.route,
            route_why: &place.route_why,
            tier: &place.tier,
            tier_why: &place.tier_why,
            escalated: place.escalated,
            provider: &place.provider,
            model: &place.model,
            model_known: place.known,
            address: place.address.as_ref().map(|(host, port)| (host.as_str(), *port)),
            tries: self.tries,
            chain: &self.chain,
            response_model: self.answer.model.as_deref(),
            response_id: self.answer.id.as_deref(),
            finish: self.answer.finish.as_deref(),
            input_tokens: usage.input_total,
            cache_read_tokens: usage.cache_read,
            cache_write_tokens: usage.cache_write_5m.saturating_add(usage.cache_write_1h),
            output_tokens: usage.output_total,
            reasoning_tokens: usage.reasoning,
            micro_dollars: self.used.money.0,
            estimated: self.used.estimated,
            error: self.end.as_ref().err().map(String::as_str),
            request_id: &self.id,
            namespace: &self.gate.run.namespace,
            loop_name: &self.gate.run.name,
            loop_uid: &self.gate.run.uid,
            token: self.gate.run.token,
            node: &self.gate.run.node,
            iteration: self.now.iteration,
            content: content.as_deref(),
        });
    }
}

impl std::fmt::Debug for CallLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallLog").field("id", &self.id).finish_non_exhaustive()
    }
}
