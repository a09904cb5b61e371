//! The service `Quotas`: slices of providers' pools for nodes. How long facts of a pool have been so is what this
//! scheduler has seen itself, by its own monotonic clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flyball_core::ids::{LoopKey, NodeName};
use flyball_core::model::{
    Ages, EndedSlice, Pool, QUOTA_VALID, QuotaAmount, QuotaReport, TakeQuota, TakenQuota,
};
use flyball_proto::v1::quotas_server::Quotas;
use flyball_proto::v1::take_quota_response::Answer;
use flyball_proto::v1::{
    ListQuotasRequest, ListQuotasResponse, QuotaLimitedRequest, QuotaLimitedResponse, QuotaRoom,
    TakeQuotaRequest, TakeQuotaResponse,
};
use flyball_store::{PoolState, StoreError};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::budgets::id_of;
use super::error::{contended, invalid_field, of_store, status};

/// Tries against others who write the same pool.
const TRIES_MAX: u32 = 32;
/// Most slices that one request may tell of.
const TOLD_MAX: usize = 256;

/// Since when this scheduler has seen what. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<String, BTreeMap<String, Instant>>>>);

impl Seen {
    /// How long each fact of a pool has been seen. What is no fact any more is forgotten.
    fn ages(&self, provider: &str, facts: Vec<String>, now: Instant) -> Ages {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.remove(provider).unwrap_or_default();
        let since = |fact: &String| before.get(fact).copied().unwrap_or(now);
        let kept: BTreeMap<String, Instant> =
            facts.into_iter().map(|fact| (fact.clone(), since(&fact))).collect();
        let ages = kept.iter().map(|(fact, since)| (fact.clone(), now - *since)).collect();
        seen.insert(provider.to_owned(), kept);
        ages
    }
}

#[tonic::async_trait]
impl Quotas for Api {
    async fn take(
        &self,
        request: Request<TakeQuotaRequest>,
    ) -> Result<Response<TakeQuotaResponse>, Status> {
        let request = request.into_inner();
        let ask = ask_of(&request)?;
        let provider = &request.provider;
        let turn = self.about.turns.take(provider).await;
        for _ in 0..TRIES_MAX {
            let read = self.pool_of(provider, &ask.node, ask.incarnation.as_str()).await?;
            let ages = self.ages(provider, &read.pool).await?;
            let mut pool = read.pool.clone();
            let taken = pool.take(&read.quota, &ages, self.about.quota_window, &ask);
            if self.write_pool(provider, &pool, &read).await? {
                // What it says now is seen from now on.
                self.ages(provider, &pool).await?;
                drop(turn);
                return Ok(Response::new(answer(taken)));
            }
        }
        Err(contended(&format!("the quota of provider {provider}")))
    }

    async fn limited(
        &self,
        request: Request<QuotaLimitedRequest>,
    ) -> Result<Response<QuotaLimitedResponse>, Status> {
        let request = request.into_inner();
        let (provider, node) = (&request.provider, NodeName(request.node));
        let retry_after = request.retry_after_ms.map(Duration::from_millis);
        let turn = self.about.turns.take(provider).await;
        for _ in 0..TRIES_MAX {
            let read = self.pool_of(provider, &node, &request.incarnation).await?;
            let ages = self.ages(provider, &read.pool).await?;
            let mut pool = read.pool.clone();
            let changed = pool.refused(&ages, retry_after);
            if !changed || self.write_pool(provider, &pool, &read).await? {
                drop(turn);
                if changed {
                    tracing::info!(
                        provider,
                        ?retry_after,
                        share = pool.share,
                        "refused for its rate"
                    );
                }
                return Ok(Response::new(QuotaLimitedResponse {}));
            }
        }
        Err(contended(&format!("the quota of provider {provider}")))
    }

    async fn list(
        &self,
        _: Request<ListQuotasRequest>,
    ) -> Result<Response<ListQuotasResponse>, Status> {
        let reports = self.quota_reports().await?;
        let json = |report: &QuotaReport| serde_json::to_vec(report).unwrap_or_default().into();
        Ok(Response::new(ListQuotasResponse { quotas_json: reports.iter().map(json).collect() }))
    }
}

impl Api {
    async fn quota_reports(&self) -> Result<Vec<QuotaReport>, Status> {
        let pools = self.store.list_quota_pools().await.map_err(|error| of_store(&error))?;
        let mut reports = Vec::with_capacity(pools.len());
        for (provider, quota, pool) in pools {
            let ages = self.ages(&provider, &pool).await?;
            let shown = pool.shown(&quota, &ages, self.about.quota_window);
            reports.push(QuotaReport::of(&provider, quota, pool.limited, shown));
        }
        Ok(reports)
    }

    /// Who waits for what, for the explanation of a loop.
    pub(super) async fn quota_findings(&self, key: &LoopKey) -> Result<Vec<String>, Status> {
        let name = key.to_string();
        let mut findings = Vec::new();
        for report in self.quota_reports().await? {
            let Some(at) = report.waiting.iter().position(|one| one.of == name) else { continue };
            let own = &report.waiting[at];
            let mut line = format!(
                "a call waits for the quota of provider {}: {at} runs wait before it; {} of {} requests a \
                 minute are out",
                report.provider,
                report.requests_out,
                report.requests.map_or_else(|| "any".to_owned(), |most| most.to_string()),
            );
            if let Some(most) = report.tokens {
                let (out, needs) = (report.tokens_out, own.needs.tokens);
                line.push_str(&format!(", and {out} of {most} tokens (it needs {needs})"));
            }
            if report.pause_ms > 0 {
                let seconds = report.pause_ms.div_ceil(1000);
                line.push_str(&format!(
                    "; the provider wants to be left alone for {seconds} s yet"
                ));
            }
            findings.push(line);
        }
        Ok(findings)
    }

    async fn pool_of(
        &self,
        provider: &str,
        node: &NodeName,
        incarnation: &str,
    ) -> Result<PoolState, Status> {
        let read = self.store.quota_pool(provider, node).await.map_err(|error| of_store(&error))?;
        let read = read.ok_or_else(|| {
            let message = format!("there is no provider {provider}");
            status(Code::NotFound, "PROVIDER_NOT_FOUND", message)
        })?;
        let session = read.session.as_ref().map(|session| &session.value);
        if session.is_none_or(|session| session.incarnation.as_str() != incarnation) {
            let message = format!("node {node} has no session of incarnation {incarnation}");
            return Err(status(Code::PermissionDenied, "NOT_ITS_SESSION", message));
        }
        Ok(read)
    }

    /// What the watch takes for gone the store is asked about: it may be older than the node.
    async fn ages(&self, provider: &str, pool: &Pool) -> Result<Ages, Status> {
        let mut gone = Vec::new();
        for slice in &pool.slices {
            let (node, incarnation) = (&slice.node, &slice.incarnation);
            if self.sessions.is_alive(node, incarnation) || gone.contains(incarnation) {
                continue;
            }
            let session = self.store.session(node).await.map_err(|error| of_store(&error))?;
            if session.is_none_or(|session| session.value.incarnation != *incarnation) {
                gone.push(incarnation.clone());
            }
        }
        let facts = pool.facts(|_, incarnation| !gone.contains(incarnation));
        Ok(self.about.seen.ages(provider, facts, Instant::now()))
    }

    /// False: somebody was faster, or nobody knows; look again.
    async fn write_pool(
        &self,
        provider: &str,
        pool: &Pool,
        read: &PoolState,
    ) -> Result<bool, Status> {
        if *pool == read.pool {
            return Ok(true);
        }
        match self.store.put_quota_pool(provider, pool, read).await {
            Ok(written) => Ok(written),
            Err(StoreError::Unknown { .. }) => Ok(false),
            Err(error) => Err(of_store(&error)),
        }
    }
}

fn ask_of(request: &TakeQuotaRequest) -> Result<TakeQuota, Status> {
    if request.held.len() + request.ended.len() > TOLD_MAX {
        return Err(invalid_field("held", format!("at most {TOLD_MAX} slices may be told of")));
    }
    let ended = request.ended.iter();
    Ok(TakeQuota {
        node: request.node.as_str().into(),
        incarnation: request.incarnation.as_str().into(),
        of: LoopKey::new(request.namespace.clone(), request.r#loop.clone()).to_string(),
        id: id_of("slice", request.slice.clone())?,
        needs: room(request.needs.as_ref()),
        want: room(request.want.as_ref()),
        begun: request.begun,
        held: request.held.clone(),
        ended: ended
            .map(|one| EndedSlice { id: one.slice.clone(), used: room(one.used.as_ref()) })
            .collect(),
    })
}

fn room(wire: Option<&QuotaRoom>) -> QuotaAmount {
    wire.map_or_else(QuotaAmount::default, |wire| QuotaAmount {
        requests: wire.requests,
        tokens: wire.tokens,
    })
}

fn answer(taken: TakenQuota) -> TakeQuotaResponse {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let answer = match taken {
        TakenQuota::Granted(QuotaAmount { requests, tokens }) => {
            Answer::Granted(QuotaRoom { requests, tokens })
        }
        TakenQuota::Unbounded => Answer::Unbounded(true),
        TakenQuota::Wait(pause) => Answer::WaitMs(millis(pause)),
    };
    TakeQuotaResponse { answer: Some(answer), valid_ms: millis(QUOTA_VALID) }
}
