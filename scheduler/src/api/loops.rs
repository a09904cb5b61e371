//! The service `Loops`: what users do with loops.

use std::sync::Arc;

use flyball_core::identity::Identity;
use flyball_core::ids::LoopKey;
use flyball_core::lease::deadline_left_max;
use flyball_core::status::Phase;
use flyball_proto::v1::loops_server::Loops;
use flyball_proto::v1::{
    AbandonSealRequest, ApplyRequest, ApplyResponse, CancelLoopRequest, ClaimInfo,
    DeleteLoopRequest, DeleteLoopResponse, ExplainResponse, GetLoopRequest, ListClaimsRequest,
    ListClaimsResponse, ListLoopsRequest, ListLoopsResponse, ListSealsRequest, ListSealsResponse,
    LoopChange, LoopObject, SealInfo, WatchLoopsRequest,
};
use flyball_store::LoopRecord;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::apply::key_of;
use super::documents::{loop_object, object};
use super::error::{contended, no_loop, of_store};
use super::leases::Left;
use super::watching::{self, Selector};
use crate::reactor::ClaimView;

/// Tries against others who write the same loop.
const TRIES_MAX: u32 = 8;

#[tonic::async_trait]
impl Loops for Api {
    type WatchStream = ReceiverStream<Result<LoopChange, Status>>;

    async fn apply(
        &self,
        request: Request<ApplyRequest>,
    ) -> Result<Response<ApplyResponse>, Status> {
        self.apply_manifest(request.into_inner()).await.map(Response::new)
    }

    async fn get(&self, request: Request<GetLoopRequest>) -> Result<Response<LoopObject>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.name)?;
        // From the store, so that everybody reads what they just wrote, whoever they ask; the view
        // adds why it waits.
        let found = self.store.get_loop(&key).await.map_err(|error| of_store(&error))?;
        let Some((record, status)) = found else { return Err(no_loop(&key)) };
        let status = status.map(|status| status.value).unwrap_or_default();
        if status.phase == Phase::Pending {
            let revision = record.mod_revision;
            let view = self.core.ask(move |reactor, _| reactor.loop_view(&key)).await?;
            let same = view.filter(|view| view.revision >= revision);
            if let Some(view) = same.filter(|view| view.status.phase == Phase::Pending) {
                return Ok(Response::new(loop_object(&view)));
            }
        }
        Ok(Response::new(object(&record.value, &status)))
    }

    async fn list(
        &self,
        request: Request<ListLoopsRequest>,
    ) -> Result<Response<ListLoopsResponse>, Status> {
        let request = request.into_inner();
        let labels = request.labels.into_iter().collect();
        let selector = Selector::new(request.namespace, String::new(), labels);
        let views = self.core.ask(move |reactor, _| selector.select(reactor)).await?;
        let loops = views.iter().map(loop_object).collect();
        Ok(Response::new(ListLoopsResponse { loops }))
    }

    async fn watch(
        &self,
        request: Request<WatchLoopsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let labels = request.labels.into_iter().collect();
        let selector = Selector::new(request.namespace, request.name, labels);
        Ok(Response::new(watching::start(self.core.clone(), selector)))
    }

    #[tracing::instrument(name = "loop.cancel", skip_all)]
    async fn cancel(
        &self,
        request: Request<CancelLoopRequest>,
    ) -> Result<Response<LoopObject>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.name)?;
        let reason =
            if request.reason.is_empty() { "cancelled".to_owned() } else { request.reason };
        let (object, _) = self
            .rewrite(&key, |record, phase| {
                let change = record.cancel.is_none() && !phase.is_terminal();
                if change {
                    record.cancel = Some(reason.clone());
                }
                change
            })
            .await?;
        Ok(Response::new(object))
    }

    #[tracing::instrument(name = "loop.delete", skip_all)]
    async fn delete(
        &self,
        request: Request<DeleteLoopRequest>,
    ) -> Result<Response<DeleteLoopResponse>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.name)?;
        let wish = |record: &mut LoopRecord, _| {
            let change = !record.delete;
            record.delete = true;
            change
        };
        let (_, phase) = match self.rewrite(&key, wish).await {
            // A full store takes no wishes, but it takes deletes.
            Err(full)
                if full.code() == Code::ResourceExhausted && self.delete_idle(&key).await? =>
            {
                return Ok(Response::new(DeleteLoopResponse { pending: false }));
            }
            rewritten => rewritten?,
        };
        Ok(Response::new(DeleteLoopResponse { pending: phase.is_owned() }))
    }

    async fn explain(
        &self,
        request: Request<GetLoopRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.name)?;
        let wanted = key.clone();
        let told = self.core.ask(move |reactor, now| reactor.explain(&wanted, now)).await?;
        let mut told = told.ok_or_else(|| no_loop(&key))?;
        // Who waits for a provider is in no view; an explanation without it is still one.
        if told.phase.is_owned() || told.phase == Phase::Parked {
            told.findings.extend(self.quota_findings(&key).await.unwrap_or_default());
        }
        Ok(Response::new(ExplainResponse {
            phase: told.phase.to_string(),
            headline: told.headline,
            findings: told.findings,
            next_steps: told.next_steps,
        }))
    }

    async fn list_claims(
        &self,
        request: Request<ListClaimsRequest>,
    ) -> Result<Response<ListClaimsResponse>, Status> {
        let namespace = request.into_inner().namespace;
        let views = self.core.ask(move |reactor, _| reactor.claim_views(&namespace)).await?;
        let left = self.leases_left(views.iter().map(|view| view.claim.lease)).await;
        let left = |view: &ClaimView| left.get(&view.claim.lease).copied();
        let claims = views.into_iter().map(|view| (left(&view), view));
        let claims = claims.map(|(left, view)| claim_info(view, left)).collect();
        Ok(Response::new(ListClaimsResponse { claims }))
    }

    async fn list_seals(
        &self,
        request: Request<ListSealsRequest>,
    ) -> Result<Response<ListSealsResponse>, Status> {
        self.seals(request.into_inner()).await.map(Response::new)
    }

    #[tracing::instrument(name = "seal.abandon", skip_all, fields(uid = request.get_ref().uid))]
    async fn abandon_seal(
        &self,
        request: Request<AbandonSealRequest>,
    ) -> Result<Response<SealInfo>, Status> {
        let who = request.extensions().get::<Identity>().cloned();
        Api::abandon_seal(self, request.into_inner(), who).await.map(Response::new)
    }
}

impl Api {
    /// Deletes a loop at once if nobody owns it and it leaves no journal to be sealed.
    async fn delete_idle(&self, key: &LoopKey) -> Result<bool, Status> {
        let found = self.store.get_loop(key).await.map_err(|error| of_store(&error))?;
        let Some((record, Some(status))) = found else { return Ok(false) };
        if status.value.phase.is_owned() || !status.value.unsealed.is_empty() {
            return Ok(false);
        }
        let (record, status) = (record.mod_revision, status.mod_revision);
        let deleted = self.store.delete_idle_loop(key, record, status).await;
        deleted.map_err(|error| of_store(&error))
    }

    /// Changes a loop's record by compare-and-swap; `change` says whether there is anything to
    /// write. Answers the object and its phase when it was read.
    async fn rewrite(
        &self,
        key: &LoopKey,
        change: impl Fn(&mut LoopRecord, Phase) -> bool,
    ) -> Result<(LoopObject, Phase), Status> {
        for _ in 0..TRIES_MAX {
            let found = self.store.get_loop(key).await.map_err(|error| of_store(&error))?;
            let Some((stored, status)) = found else { return Err(no_loop(key)) };
            let status = status.map_or_else(Arc::default, |status| status.value);
            let mut record = LoopRecord::clone(&stored.value);
            let changed = change(&mut record, status.phase);
            let object = object(&record, &status);
            if !changed || self.put_loop(record, &stored, None).await? {
                return Ok((object, status.phase));
            }
        }
        Err(contended(&format!("loop {key}")))
    }
}

fn claim_info(view: ClaimView, left: Option<Left>) -> ClaimInfo {
    let ClaimView { claim, token, margins } = view;
    let deadline = left.zip(margins).map(|(Left { left, granted }, margins)| {
        i64::try_from(deadline_left_max(left, granted, margins).as_millis()).unwrap_or(i64::MAX)
    });
    ClaimInfo {
        namespace: claim.key.namespace,
        r#loop: claim.key.name,
        uid: claim.uid.0,
        node: claim.node.0,
        incarnation: claim.incarnation.0,
        token: token.0,
        resources: claim.resources,
        since_unix_ms: claim.since.as_millisecond(),
        lease_id: claim.lease,
        lease_ttl_seconds: left.map_or(-1, Left::seconds),
        deadline_left_ms: deadline,
    }
}
