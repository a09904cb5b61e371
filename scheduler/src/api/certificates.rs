//! The service `Certificates`: which certificates are not taken any more. What gives out new ones is in
//! `joining`.

use std::sync::Arc;

use flyball_core::revocation::{REVOCATION_REASON_BYTES_MAX, REVOCATIONS_MAX, Revocation, Revoked};
use flyball_pki::LIFETIME_MAX;
use flyball_proto::v1::certificates_server::Certificates;
use flyball_proto::v1::{
    CreateTokenRequest, CreateTokenResponse, DeleteTokenRequest, DeleteTokenResponse,
    ListRevokedRequest, ListRevokedResponse, ListTokensRequest, ListTokensResponse, RenewRequest,
    RenewResponse, RevokeRequest, RevokeResponse, RevokedInfo,
};
use flyball_store::{StoreError, Stored, Update};
use jiff::{SignedDuration, Timestamp};
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::access::caller;
use super::error::{contended, invalid_field, of_store, status};

/// Tries against others who write the same record.
const TRIES_MAX: u32 = 8;
/// Records of certificates that have ended which one call removes at most.
const DROPPED_MAX: usize = 64;
/// How long a record stays beyond the end of what it concerns: clocks differ.
const KEPT_LONGER: SignedDuration = SignedDuration::from_hours(24);

type Found = Stored<Arc<Revocation>>;

#[tonic::async_trait]
impl Certificates for Api {
    async fn revoke(
        &self,
        request: Request<RevokeRequest>,
    ) -> Result<Response<RevokeResponse>, Status> {
        let who = caller(&request)?.to_string();
        let request = request.into_inner();
        let revoked = named(&request)?;
        let record = self.record(&request, &revoked, who)?;
        for _ in 0..TRIES_MAX {
            let old =
                self.store.get_revocation(&revoked).await.map_err(|error| of_store(&error))?;
            let revision = old.as_ref().map_or(0, |found| found.mod_revision);
            if let (Some(old), Revoked::Serial(_)) = (&old, &revoked) {
                let info = Some(info(&revoked, Some(&old.value)));
                let outcome = "unchanged".to_owned();
                return Ok(Response::new(RevokeResponse { revoked: info, outcome }));
            }
            if old.is_none() {
                self.revocation_room(record.at).await?;
            }
            match self.store.put_revocation(&revoked, &record, revision).await {
                Ok(Update::Done { .. }) => {
                    tracing::warn!(%revoked, by = record.by, reason = record.reason, "revoked");
                    let info = Some(info(&revoked, Some(&record)));
                    let outcome = "revoked".to_owned();
                    return Ok(Response::new(RevokeResponse { revoked: info, outcome }));
                }
                Ok(Update::Conflict(_)) | Err(StoreError::Unknown { .. }) => {}
                Err(error) => return Err(of_store(&error)),
            }
        }
        Err(contended(&format!("the revocation of {revoked}")))
    }

    async fn list_revoked(
        &self,
        _: Request<ListRevokedRequest>,
    ) -> Result<Response<ListRevokedResponse>, Status> {
        let kept = self.store.list_revocations().await.map_err(|error| of_store(&error))?;
        let revoked = kept.iter().map(|(revoked, found)| {
            info(revoked, found.as_ref().map(|found| found.value.as_ref()))
        });
        Ok(Response::new(ListRevokedResponse { revoked: revoked.collect() }))
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        self.renew_certificate(request).await
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        self.make_token(request).await
    }

    async fn list_tokens(
        &self,
        _: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensResponse>, Status> {
        self.tokens().await
    }

    async fn delete_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Result<Response<DeleteTokenResponse>, Status> {
        self.drop_token(request).await
    }
}

impl Api {
    fn record(
        &self,
        request: &RevokeRequest,
        revoked: &Revoked,
        by: String,
    ) -> Result<Revocation, Status> {
        let reason = request.reason.trim();
        if reason.is_empty() || reason.len() > REVOCATION_REASON_BYTES_MAX {
            let message = format!(
                "has {} bytes; say why, in 1 to {REVOCATION_REASON_BYTES_MAX}",
                reason.len()
            );
            return Err(invalid_field("reason", message));
        }
        let at = self.about.ambient.now();
        let known = match (revoked, request.not_after_unix_ms) {
            (Revoked::Serial(_), millis @ 1..) => Timestamp::from_millisecond(millis).ok(),
            _ => None,
        };
        Ok(Revocation {
            reason: reason.to_owned(),
            by,
            at,
            until: known.unwrap_or_else(|| self.last_end(at)),
            whose: request.whose.chars().take(flyball_core::ids::NAME_BYTES_MAX * 2).collect(),
            ..Revocation::default()
        })
    }

    /// When the last certificate that is valid now has ended: ours live for a bounded time, and no
    /// authority's outlive the authority.
    fn last_end(&self, now: Timestamp) -> Timestamp {
        let longest = SignedDuration::try_from(LIFETIME_MAX).unwrap_or(SignedDuration::MAX);
        let ours = now.saturating_add(longest).unwrap_or(Timestamp::MAX);
        let loaded = self.identity.as_ref().map(|identity| identity.current());
        let theirs = loaded.iter().flat_map(|loaded| &loaded.authorities);
        theirs.map(|facts| facts.not_after).fold(ours, Timestamp::max)
    }

    /// Drops what is over, and looks whether one more fits.
    async fn revocation_room(&self, now: Timestamp) -> Result<(), Status> {
        let kept = self.store.list_revocations().await.map_err(|error| of_store(&error))?;
        let is_over = |found: &&(Revoked, Option<Found>)| {
            let until = found.1.as_ref().map(|found| found.value.until);
            until.and_then(|until| until.checked_add(KEPT_LONGER).ok()).is_some_and(|end| end < now)
        };
        let mut count = kept.len();
        for (revoked, found) in kept.iter().filter(is_over).take(DROPPED_MAX) {
            let revision = found.as_ref().map_or(0, |found| found.mod_revision);
            let deleted = self.store.delete_revocation(revoked, revision).await;
            count -= usize::from(deleted.map_err(|error| of_store(&error))?);
        }
        if count >= REVOCATIONS_MAX {
            let message = format!(
                "{count} certificates and identities are revoked; at most {REVOCATIONS_MAX} can be. Replace \
                 the authority: flyball pki rotate"
            );
            return Err(status(Code::ResourceExhausted, "TOO_MANY", message));
        }
        Ok(())
    }
}

/// What a request names.
fn named(request: &RevokeRequest) -> Result<Revoked, Status> {
    match (request.serial.as_str(), request.identity.as_str()) {
        ("", "") => Err(invalid_field("serial", "give a serial number or an identity")),
        (serial, "") => {
            Revoked::serial(serial).map_err(|error| invalid_field("serial", error.to_string()))
        }
        ("", identity) => {
            let parsed =
                identity.parse().map_err(|error: flyball_core::identity::InvalidIdentity| {
                    invalid_field("identity", error.to_string())
                })?;
            Revoked::identity(parsed).map_err(|error| invalid_field("identity", error.to_string()))
        }
        _ => Err(invalid_field("identity", "give a serial number or an identity, not both")),
    }
}

fn info(revoked: &Revoked, record: Option<&Revocation>) -> RevokedInfo {
    let (serial, identity) = match revoked {
        Revoked::Serial(serial) => (serial.clone(), String::new()),
        Revoked::Identity(identity) => (String::new(), identity.to_string()),
    };
    let info = RevokedInfo { serial, identity, ..RevokedInfo::default() };
    let Some(record) = record else { return info };
    RevokedInfo {
        reason: record.reason.clone(),
        by: record.by.clone(),
        at_unix_ms: record.at.as_millisecond(),
        until_unix_ms: record.until.as_millisecond(),
        whose: record.whose.clone(),
        readable: true,
        ..info
    }
}
