//! How machines get certificates from a scheduler that can sign: the service `Join`, for those that have
//! none, and the calls of `Certificates` that make join tokens and renew.

use flyball_core::identity::Identity;
use flyball_core::ids::{NodeName, check_name};
use flyball_core::joining::{JOIN_TOKENS_MAX, JoinRefused, JoinTokenRecord, Wanted};
use flyball_pki::{JOIN_TOKEN_SECONDS, JOIN_TOKEN_SECONDS_MAX, JoinToken, hash_of};
use flyball_proto::v1::join_server::Join;
use flyball_proto::v1::{
    AuthoritiesRequest, AuthoritiesResponse, CreateTokenRequest, CreateTokenResponse,
    DeleteTokenRequest, DeleteTokenResponse, IssuedCertificate, JoinRequest, ListTokensResponse,
    RenewRequest, RenewResponse, TokenInfo,
};
use flyball_store::{SignerRecord, StoreError, Update};
use jiff::SignedDuration;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::access::caller;
use super::error::{contended, invalid_field, of_store, status};
use crate::access::Told;
use crate::signing::{SignError, Signed, Signer, Wish, pin_of};
use crate::tls::TlsPeer;

/// Tries against others who write the same record.
const TRIES_MAX: u32 = 8;

#[tonic::async_trait]
impl Join for Api {
    async fn authorities(
        &self,
        _: Request<AuthoritiesRequest>,
    ) -> Result<Response<AuthoritiesResponse>, Status> {
        let Some(own) = &self.identity else { return Err(self.cannot_sign().await) };
        let read = flyball_pki::authorities_in(own.dir());
        let authorities_pem = read.map_err(|error| unusable(error.to_string()))?;
        Ok(Response::new(AuthoritiesResponse { authorities_pem }))
    }

    async fn join(
        &self,
        request: Request<JoinRequest>,
    ) -> Result<Response<IssuedCertificate>, Status> {
        let request = request.into_inner();
        let Some(signer) = self.signer.clone() else { return Err(self.cannot_sign().await) };
        let refused = |error: JoinRefused| refusal(&error);
        let found = self.store.get_join_token(&request.token_id).await;
        let found = found.map_err(|error| of_store(&error))?;
        let found = found.ok_or_else(|| refused(JoinRefused::Unknown))?;
        let wanted = Wanted { node: &request.node, suggested: &request.suggested };
        let now = self.about.ambient.now();
        let node = found.value.admit(&hash_of(&request.secret), wanted, now).map_err(refused)?;
        self.check_new(&node, &found.value).await?;
        // Signed first: what cannot be signed uses no token up.
        let wish = Wish {
            identity: Identity::Node(node.clone()),
            hosts: Vec::new(),
            request: request.request_der.to_vec(),
            after: self.revoked_until(&Identity::Node(node.clone()))?,
        };
        let signed = self.signed(&signer, wish).await?;
        // Whoever deletes it is the one who joins; a lost answer to that is nobody's.
        let used = self.store.delete_join_token(&request.token_id, found.mod_revision).await;
        if !used.map_err(|error| of_store(&error))? {
            return Err(refused(JoinRefused::Unknown));
        }
        let by = &found.value.created_by;
        tracing::info!(%node, serial = signed.facts.serial, until = %signed.facts.not_after, by, "a node has joined");
        let told = Told(format!("{node} by token {}", request.token_id));
        let mut answer = Response::new(issued(signed));
        answer.extensions_mut().insert(told);
        Ok(answer)
    }
}

impl Api {
    /// A token that names no node gives nobody the name of one that is known; one that is older than the
    /// revocation of its node gives nothing.
    async fn check_new(&self, node: &NodeName, token: &JoinTokenRecord) -> Result<(), Status> {
        check_name(node.as_str()).map_err(|error| invalid_field("node", error.to_string()))?;
        let revoked = self.revoked.now().of_identity(&Identity::Node(node.clone()));
        if revoked.is_some_and(|at| at.is_none_or(|at| token.created_at <= at)) {
            let message = format!("node {node} was revoked after the join token was made");
            return Err(status(Code::PermissionDenied, "REVOKED", message));
        }
        if token.node == node.as_str() {
            return Ok(());
        }
        let record = self.store.get_node(node).await.map_err(|error| of_store(&error))?;
        let session = self.store.session(node).await.map_err(|error| of_store(&error))?;
        if record.is_none() && session.is_none() {
            return Ok(());
        }
        let message = format!(
            "there is a node {node}, and the join token does not name it; for another certificate of it make a \
             token with --node {node}"
        );
        Err(status(Code::AlreadyExists, "NODE_EXISTS", message))
    }

    /// Since when this identity is revoked, if it is: what it gets has to begin later.
    fn revoked_until(&self, identity: &Identity) -> Result<Option<jiff::Timestamp>, Status> {
        match self.revoked.now().of_identity(identity) {
            None => Ok(None),
            Some(Some(at)) => Ok(Some(at)),
            Some(None) => {
                let message = format!("{identity} is revoked by a record that cannot be read");
                Err(status(Code::FailedPrecondition, "REVOKED", message))
            }
        }
    }

    async fn signed(&self, signer: &Signer, wish: Wish) -> Result<Signed, Status> {
        let Some(own) = self.identity.clone() else { return Err(self.cannot_sign().await) };
        let signed = signer.sign(wish, own, self.about.ambient.now()).await;
        signed.map_err(|error| match error {
            SignError::Refused(why) => invalid_field("request_der", why),
            SignError::Unusable(why) => unusable(why),
        })
    }

    /// The schedulers that can sign: this one, if it can, and those that say so in the store.
    pub(super) async fn signers(&self) -> Result<Vec<SignerRecord>, StoreError> {
        let mut signers = self.store.list_signers().await?;
        if let (Some(_), Some(own)) = (&self.signer, &self.identity) {
            signers.retain(|other| other.address != self.about.address);
            let own = SignerRecord { address: self.about.address.clone(), pin: pin_of(own) };
            signers.insert(0, own);
        }
        Ok(signers)
    }

    /// Says who can.
    async fn cannot_sign(&self) -> Status {
        let signers = self.signers().await.unwrap_or_default();
        let addresses: Vec<String> = signers.into_iter().map(|one| one.address).collect();
        let message = match addresses.is_empty() {
            true => "no scheduler can sign certificates: start one with --sign-with DIR".to_owned(),
            false => {
                format!("this scheduler cannot sign certificates; {} can", addresses.join(", "))
            }
        };
        status(Code::FailedPrecondition, "NO_SIGNER", message)
    }

    pub(super) async fn renew_certificate(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let identity = caller(&request)?;
        let shown = request.extensions().get::<TlsPeer>().and_then(TlsPeer::facts).cloned();
        let Some(shown) = shown else {
            let message = "only whoever shows a certificate has one to renew";
            return Err(status(Code::Unauthenticated, "NO_CERTIFICATE", message));
        };
        let Some(signer) = self.signer.clone() else {
            let signers = self.signers().await.map_err(|error| of_store(&error))?;
            let ask: Vec<String> = signers.into_iter().map(|one| one.address).collect();
            if ask.is_empty() {
                return Err(self.cannot_sign().await);
            }
            return Ok(Response::new(RenewResponse { issued: None, ask }));
        };
        if !self.renewing.admits(identity.clone(), Instant::now()) {
            let message = format!("{identity} renews too often; try again in some seconds");
            return Err(status(Code::ResourceExhausted, "TOO_OFTEN", message));
        }
        let wish = Wish {
            hosts: if matches!(identity, Identity::Scheduler(_)) {
                shown.hosts.clone()
            } else {
                Vec::new()
            },
            after: self.revoked_until(&identity)?,
            request: request.into_inner().request_der.to_vec(),
            identity,
        };
        let signed = self.signed(&signer, wish).await?;
        let (was, is) = (&shown.serial, &signed.facts.serial);
        tracing::info!(whose = %signed.facts.name, was, is, until = %signed.facts.not_after, "renewed");
        Ok(Response::new(RenewResponse { issued: Some(issued(signed)), ask: Vec::new() }))
    }

    pub(super) async fn make_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let who = caller(&request)?;
        let CreateTokenRequest { node, ttl_seconds } = request.into_inner();
        if !node.is_empty() {
            check_name(&node).map_err(|error| invalid_field("node", error.to_string()))?;
        }
        let ttl = match u64::from(ttl_seconds) {
            0 => JOIN_TOKEN_SECONDS,
            seconds @ 1..=JOIN_TOKEN_SECONDS_MAX => seconds,
            seconds => {
                let message =
                    format!("{seconds} s; a join token counts for 1 to {JOIN_TOKEN_SECONDS_MAX} s");
                return Err(invalid_field("ttl_seconds", message));
            }
        };
        let signers = self.signers().await.map_err(|error| of_store(&error))?;
        let Some(SignerRecord { pin, .. }) = signers.first().cloned() else {
            return Err(self.cannot_sign().await);
        };
        self.token_room().await?;
        let now = self.about.ambient.now();
        let ttl = SignedDuration::from_secs(i64::try_from(ttl).unwrap_or(i64::MAX));
        // Behind the address there has to be somebody of the authority that the token names.
        let join_at = signers.iter().filter(|one| one.pin == pin).map(|one| one.address.clone());
        let join_at = join_at.collect();
        let token = JoinToken::generate(pin).map_err(|error| unusable(error.to_string()))?;
        let record = JoinTokenRecord {
            secret_sha256: hash_of(&token.secret),
            node,
            created_at: now,
            created_by: who.to_string(),
            expires_at: now.saturating_add(ttl).unwrap_or(now),
            ..JoinTokenRecord::default()
        };
        for _ in 0..TRIES_MAX {
            match self.store.create_join_token(&token.id, &record).await {
                Ok(Update::Done { .. }) => {
                    let info = Some(info(&token.id, &record));
                    let (token_id, token) = (token.id.clone(), token.to_string());
                    let told = Told(format!("{} for {}", token_id, for_whom(&record.node)));
                    let answer = CreateTokenResponse { info, token, join_at };
                    let mut answer = Response::new(answer);
                    answer.extensions_mut().insert(told);
                    return Ok(answer);
                }
                Ok(Update::Conflict(_)) | Err(StoreError::Unknown { .. }) => {}
                Err(error) => return Err(of_store(&error)),
            }
        }
        Err(contended("the join token"))
    }

    /// Drops what is over, and looks whether one more fits.
    async fn token_room(&self) -> Result<(), Status> {
        let kept = self.store.list_join_tokens().await.map_err(|error| of_store(&error))?;
        let now = self.about.ambient.now();
        let mut count = kept.len();
        for (id, found) in kept.iter().filter(|(_, found)| found.value.is_over(now)) {
            let deleted = self.store.delete_join_token(id, found.mod_revision).await;
            count -= usize::from(deleted.map_err(|error| of_store(&error))?);
        }
        if count >= JOIN_TOKENS_MAX {
            let message =
                format!("there are {count} join tokens that count; at most {JOIN_TOKENS_MAX} may");
            return Err(status(Code::ResourceExhausted, "TOO_MANY", message));
        }
        Ok(())
    }

    pub(super) async fn tokens(&self) -> Result<Response<ListTokensResponse>, Status> {
        let kept = self.store.list_join_tokens().await.map_err(|error| of_store(&error))?;
        let now = self.about.ambient.now();
        let count = kept.iter().filter(|(_, found)| !found.value.is_over(now));
        let tokens = count.map(|(id, found)| info(id, &found.value)).collect();
        Ok(Response::new(ListTokensResponse { tokens }))
    }

    pub(super) async fn drop_token(
        &self,
        request: Request<DeleteTokenRequest>,
    ) -> Result<Response<DeleteTokenResponse>, Status> {
        let id = request.into_inner().id;
        for _ in 0..TRIES_MAX {
            let found = self.store.get_join_token(&id).await.map_err(|error| of_store(&error))?;
            let Some(found) = found else {
                let message = format!("there is no join token {id}: it was used, or has expired");
                return Err(status(Code::NotFound, "TOKEN_NOT_FOUND", message));
            };
            let deleted = self.store.delete_join_token(&id, found.mod_revision).await;
            if deleted.map_err(|error| of_store(&error))? {
                return Ok(Response::new(DeleteTokenResponse {}));
            }
        }
        Err(contended(&format!("join token {id}")))
    }
}

fn issued(signed: Signed) -> IssuedCertificate {
    let identity = signed.facts.identity.as_ref().map(ToString::to_string).unwrap_or_default();
    IssuedCertificate { chain_pem: signed.chain, authorities_pem: signed.authorities, identity }
}

/// For the trail.
fn for_whom(node: &str) -> String {
    if node.is_empty() { "any new node".to_owned() } else { format!("node {node}") }
}

fn info(id: &str, record: &JoinTokenRecord) -> TokenInfo {
    TokenInfo {
        id: id.to_owned(),
        node: record.node.clone(),
        created_unix_ms: record.created_at.as_millisecond(),
        created_by: record.created_by.clone(),
        expires_unix_ms: record.expires_at.as_millisecond(),
    }
}

fn refusal(error: &JoinRefused) -> Status {
    match error {
        JoinRefused::Unknown | JoinRefused::OtherNode { .. } => {
            status(Code::PermissionDenied, "TOKEN_REFUSED", error.to_string())
        }
        JoinRefused::NoNode => invalid_field("node", error.to_string()),
    }
}

fn unusable(why: String) -> Status {
    status(Code::FailedPrecondition, "SIGNER_UNUSABLE", why)
}
