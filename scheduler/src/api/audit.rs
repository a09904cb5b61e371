//! The service `Audit`: reading the trail. There is none that writes it but the guard.

use flyball_core::access::AuditEntry;
use flyball_proto::v1::audit_server::Audit;
use flyball_proto::v1::{
    ListAuditRequest, ListAuditResponse, VerifyAuditRequest, VerifyAuditResponse,
};
use tonic::{Request, Response, Status};

use super::Api;
use super::error::{invalid_field, of_store};
use crate::shell::auditor::REFUSED;

/// Entries of one answer if nobody says, and at most: a page for people, some MB for programs.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 10_000;

#[tonic::async_trait]
impl Audit for Api {
    async fn list(
        &self,
        request: Request<ListAuditRequest>,
    ) -> Result<Response<ListAuditResponse>, Status> {
        let request = request.into_inner();
        if !["", "ok", "refused", "failed"].contains(&request.result.as_str()) {
            let message = format!("{:?} is not ok, refused or failed", request.result);
            return Err(invalid_field("result", message));
        }
        let limit = match usize::try_from(request.limit).unwrap_or(LIMIT_MAX) {
            0 => LIMIT,
            limit => limit.min(LIMIT_MAX),
        };
        let after = request.after;
        let takes = |entry: &AuditEntry| takes(&request, entry);
        let found = self.store.list_audit(after, limit, takes).await;
        let found = found.map_err(|error| of_store(&error))?;
        let json = |entry: &AuditEntry| serde_json::to_vec(entry).unwrap_or_default().into();
        Ok(Response::new(ListAuditResponse { entries_json: found.iter().map(json).collect() }))
    }

    async fn verify(
        &self,
        request: Request<VerifyAuditRequest>,
    ) -> Result<Response<VerifyAuditResponse>, Status> {
        let ask = request.into_inner().entry;
        let found = self.store.verify_audit(ask).await.map_err(|error| of_store(&error))?;
        let (holds, fault, entries) = match found.outcome {
            Ok(entries) => (true, String::new(), entries),
            Err(broken) => (false, broken.to_string(), 0),
        };
        Ok(Response::new(VerifyAuditResponse {
            holds,
            fault,
            entries,
            first: found.head.first,
            last: found.head.next.saturating_sub(1),
            hash: found.head.last,
            entry_hash: found.asked.unwrap_or_default(),
        }))
    }
}

/// `None`: neither this one nor any older one.
fn takes(request: &ListAuditRequest, entry: &AuditEntry) -> Option<bool> {
    // Entries of several schedulers may be a little out of order.
    const SLACK_MS: i64 = 60_000;
    let at = entry.at.as_millisecond();
    if at + SLACK_MS < request.since_unix_ms {
        return None;
    }
    let is = |wanted: &String, found: &String| wanted.is_empty() || wanted == found;
    let result = match request.result.as_str() {
        "ok" => entry.result == "Ok",
        "refused" => entry.result == REFUSED,
        "failed" => entry.result != "Ok" && entry.result != REFUSED,
        _ => true,
    };
    let fits = is(&request.namespace, &entry.namespace)
        && is(&request.who, &entry.who)
        && is(&request.verb, &entry.verb)
        && is(&request.kind, &entry.kind);
    Some(fits && result && at >= request.since_unix_ms)
}
