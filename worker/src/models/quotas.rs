//! This node's slices of providers' quota pools. Calls of all runs take from the same slices; what a slice was not
//! used for is told when it ends.

mod local;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use flyball_core::ids::{Incarnation, LoopKey, NodeName};
use flyball_core::model::{Later, QuotaAmount, QuotaAnswer, Quotas};
use flyball_proto::v1::quotas_client::QuotasClient;
use flyball_proto::v1::take_quota_response::Answer;
use flyball_proto::v1::{
    EndedQuota, QuotaLimitedRequest, QuotaRoom, TakeQuotaRequest, TakeQuotaResponse,
};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tonic::Status;

use self::local::{Local, Took};
use super::asking::Schedulers;

/// How long one question is repeated; the call asks again after a pause.
const ASK_MAX: Duration = Duration::from_secs(8);
/// For how many calls a slice is to last, if there is room.
const SLICE_CALLS: u64 = 4;
/// Nobody takes notice of what a node has not told for so long after its slice's end.
const TELL_AFTER: Duration = Duration::from_millis(200);
/// Pause before the end of slices is told again when no scheduler took it.
const TELL_PAUSE: Duration = Duration::from_secs(1);

/// The slices of this life of a node.
#[derive(Debug)]
pub struct NodeQuotas {
    schedulers: Arc<Schedulers>,
    node: String,
    incarnation: String,
    providers: Mutex<BTreeMap<String, Local>>,
    itself: Weak<Self>,
}

/// The quotas as one run asks for them.
#[derive(Debug, Clone)]
pub struct RunQuotas {
    shared: Arc<NodeQuotas>,
    key: LoopKey,
}

impl NodeQuotas {
    /// None yet.
    pub fn new(
        schedulers: Arc<Schedulers>,
        node: &NodeName,
        incarnation: &Incarnation,
    ) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            schedulers,
            node: node.to_string(),
            incarnation: incarnation.to_string(),
            providers: Mutex::default(),
            itself: itself.clone(),
        })
    }

    /// For the runs of a loop.
    pub fn of_run(self: &Arc<Self>, key: &LoopKey) -> RunQuotas {
        RunQuotas { shared: self.clone(), key: key.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Local>> {
        self.providers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, provider: &str, look: impl FnOnce(&mut Local, Instant) -> T) -> T {
        let mut providers = self.lock();
        look(providers.entry(provider.to_owned()).or_default(), Instant::now())
    }

    /// Asks for a slice, and takes what this call wants of it.
    async fn ask(
        &self,
        key: &LoopKey,
        provider: &str,
        want: QuotaAmount,
        begun: bool,
    ) -> QuotaAnswer {
        let lasting = QuotaAmount {
            requests: want.requests.saturating_mul(SLICE_CALLS),
            tokens: want.tokens.saturating_mul(SLICE_CALLS),
        };
        let request = TakeQuotaRequest {
            namespace: key.namespace.clone(),
            r#loop: key.name.clone(),
            needs: Some(room(want)),
            want: Some(room(lasting)),
            begun,
            ..self.request(provider)
        };
        let sent = Instant::now();
        let answer = self.send(provider, request.clone()).await;
        let number = request.slice.as_str();
        match answer {
            Err(status) => {
                // It may have been granted: the next request ends it.
                self.with(provider, |local, _| local.unseen(number));
                self.tell_later(provider, Instant::now());
                QuotaAnswer::Unavailable(status.message().to_owned())
            }
            Ok(answer) => {
                let until = sent + Duration::from_millis(answer.valid_ms);
                let granted = self.with(provider, |local, now| match answer.answer {
                    Some(Answer::Granted(granted)) => {
                        Some(local.granted(number, amount(granted), want, until, now))
                    }
                    Some(Answer::Unbounded(_)) => {
                        local.forget(number);
                        Some(local.unbounded(until, now))
                    }
                    Some(Answer::WaitMs(pause)) => {
                        local.forget(number);
                        Some(QuotaAnswer::Wait(Duration::from_millis(pause)))
                    }
                    None => {
                        local.unseen(number);
                        None
                    }
                });
                self.tell_later(provider, until);
                granted.unwrap_or_else(|| {
                    QuotaAnswer::Unavailable("the answer cannot be read".to_owned())
                })
            }
        }
    }

    /// A request with what is held and what has ended, under a number of its own.
    fn request(&self, provider: &str) -> TakeQuotaRequest {
        let (slice, held, ended) = self.with(provider, Local::begin);
        let ended = ended.into_iter();
        TakeQuotaRequest {
            node: self.node.clone(),
            incarnation: self.incarnation.clone(),
            provider: provider.to_owned(),
            slice,
            held,
            ended: ended
                .map(|(slice, used)| EndedQuota { slice, used: Some(room(used)) })
                .collect(),
            ..TakeQuotaRequest::default()
        }
    }

    async fn send(
        &self,
        provider: &str,
        request: TakeQuotaRequest,
    ) -> Result<TakeQuotaResponse, Status> {
        let send = |connection| {
            let request = request.clone();
            async move { QuotasClient::new(connection).take(request).await }
        };
        let answer = self.schedulers.ask(ASK_MAX, send).await;
        if answer.is_ok() {
            self.with(provider, |local, _| local.told(&request.slice, &request.ended));
        }
        answer
    }

    /// Once the newest slice has ended that is told, also if nobody calls any more.
    fn tell_later(&self, provider: &str, until: Instant) {
        if !self.with(provider, |local, _| local.begin_telling()) {
            return;
        }
        let (shared, provider) = (self.itself.clone(), provider.to_owned());
        tokio::spawn(async move {
            let mut until = until;
            loop {
                tokio::time::sleep_until(until + TELL_AFTER).await;
                let Some(shared) = shared.upgrade() else { return };
                if let Some(later) = shared.with(&provider, Local::next_end) {
                    until = later;
                    continue;
                }
                let request = shared.request(&provider);
                let number = request.slice.clone();
                let to_tell = shared.with(&provider, |local, _| local.has_to_tell());
                let told = !to_tell || shared.send(&provider, request).await.is_ok();
                let next = shared.with(&provider, |local, now| {
                    local.forget(&number);
                    local.end_telling(now)
                });
                let Some(next) = next else { return };
                until = if told { next } else { next.max(Instant::now() + TELL_PAUSE) };
            }
        });
    }
}

impl Quotas for RunQuotas {
    fn take(&self, provider: String, want: QuotaAmount, begun: bool) -> Later<'_, QuotaAnswer> {
        if let Some(took) = self.shared.with(&provider, |local, now| local.take(want, now)) {
            let answer = match took {
                Took::Granted(amount, valid, grant) => {
                    QuotaAnswer::Granted { amount, valid, grant }
                }
                Took::Wait(pause) => QuotaAnswer::Wait(pause),
            };
            return Box::pin(std::future::ready(answer));
        }
        // In a task of its own: a client that goes away must not leave a question of which nobody reads the answer.
        let (shared, key) = (self.shared.clone(), self.key.clone());
        let (tell, answer) = oneshot::channel();
        tokio::spawn(async move {
            let answer = shared.ask(&key, &provider, want, begun).await;
            if let Err(QuotaAnswer::Granted { grant, .. }) = tell.send(answer) {
                let nothing = QuotaAmount::default();
                shared.with(&provider, |local, now| local.used(grant, nothing, now));
            }
        });
        Box::pin(async move {
            let gone = |_| QuotaAnswer::Unavailable("the worker ends".to_owned());
            answer.await.unwrap_or_else(gone)
        })
    }

    fn used(&self, provider: &str, grant: u64, used: QuotaAmount) {
        self.shared.with(provider, |local, now| local.used(grant, used, now));
    }

    fn limited(&self, provider: String, retry_after: Option<Duration>) -> Later<'_, ()> {
        self.shared.with(&provider, |local, now| local.pause(retry_after, now));
        let request = QuotaLimitedRequest {
            node: self.shared.node.clone(),
            incarnation: self.shared.incarnation.clone(),
            provider,
            retry_after_ms: retry_after
                .map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)),
        };
        Box::pin(async move {
            let send = |connection| {
                let request = request.clone();
                async move { QuotasClient::new(connection).limited(request).await }
            };
            if let Err(status) = self.shared.schedulers.ask(ASK_MAX, send).await {
                let (provider, why) = (&request.provider, status.message());
                tracing::warn!(provider, why, "nobody was told that the provider refuses calls");
            }
        })
    }
}

fn room(amount: QuotaAmount) -> QuotaRoom {
    QuotaRoom { requests: amount.requests, tokens: amount.tokens }
}

fn amount(wire: QuotaRoom) -> QuotaAmount {
    QuotaAmount { requests: wire.requests, tokens: wire.tokens }
}
