//! Signing certificates, by a scheduler that was given an authority for it.
//!
//! The authority is read anew for each certificate: its key is not kept in memory, and a rotation needs
//! no restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flyball_core::identity::Identity;
use flyball_pki::{
    Authority, Chain, Facts, Issued, KeyOf, LIFETIME_MAX, LiveIdentity, Order, PkiError, Subject,
    authorities_in, united,
};
use flyball_proto::renewal;
use flyball_proto::transport::Address;
use flyball_store::Store;
use jiff::Timestamp;

/// Usual life of a node's certificate that a scheduler signs: it is renewed by itself after two thirds, so
/// it may be short; a week lets a fleet get over a long weekend without anybody who could look after it.
pub const SIGNED_NODE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Shortest life that can be asked for; below, certificates end while they are handed over.
const LIFETIME_MIN: Duration = Duration::from_secs(10);

/// An authority that a scheduler may use.
#[derive(Debug, Clone)]
pub struct Signer {
    dir: PathBuf,
    node_lifetime: Duration,
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    /// What was asked for cannot be signed.
    #[error("{0}")]
    Refused(String),
    /// The authority cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// Whose certificate is to be signed, and for which key.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) identity: Identity,
    /// Of a scheduler.
    pub(crate) hosts: Vec<String>,
    /// Signing request, DER.
    pub(crate) request: Vec<u8>,
    /// It has to begin later than this.
    pub(crate) after: Option<Timestamp>,
}

/// A signed certificate.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) chain: String,
    pub(crate) authorities: String,
    pub(crate) facts: Facts,
}

impl Signer {
    /// An authority in a directory, which has to be usable now.
    ///
    /// # Errors
    /// [`PkiError`]: missing, unreadable or exposed files, or a life out of bounds.
    pub fn open(dir: &Path, node_lifetime: Duration) -> Result<Self, PkiError> {
        if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&node_lifetime) {
            let why = format!(
                "nodes' certificates of {} s; allowed are {} s to {} days",
                node_lifetime.as_secs(),
                LIFETIME_MIN.as_secs(),
                LIFETIME_MAX.as_secs() / flyball_pki::DAY.as_secs()
            );
            return Err(PkiError::Refused(why));
        }
        Authority::load(dir)?;
        Ok(Self { dir: dir.to_owned(), node_lifetime })
    }

    /// Signs, and makes sure that whoever trusts what `own` trusts takes it.
    pub(crate) async fn sign(
        &self,
        wish: Wish,
        own: Arc<LiveIdentity>,
        now: Timestamp,
    ) -> Result<Signed, SignError> {
        let signer = self.clone();
        // Files, and a signature.
        let signed = tokio::task::spawn_blocking(move || signer.sign_now(&wish, &own, now)).await;
        signed.unwrap_or_else(|error| Err(SignError::Unusable(error.to_string())))
    }

    fn sign_now(
        &self,
        wish: &Wish,
        own: &LiveIdentity,
        now: Timestamp,
    ) -> Result<Signed, SignError> {
        let authority = Authority::load(&self.dir).map_err(unusable)?;
        let subject = Subject::Caller(wish.identity.clone());
        let lifetime = match &wish.identity {
            Identity::Node(_) => self.node_lifetime,
            _ => subject.lifetime(),
        };
        let after = wish.after.and_then(|at| Timestamp::from_second(at.as_second() + 1).ok());
        let order = Order {
            subject,
            hosts: wish.hosts.clone(),
            lifetime,
            key: KeyOf::Request(&wish.request),
            not_before: after,
        };
        let issued = authority.issue(&order, now).map_err(|error| match error {
            PkiError::Refused(why) => SignError::Refused(why),
            other => unusable(other),
        })?;
        let Issued { chain, bundle, facts, .. } = issued;
        let shown = Chain::of_pem(&chain).map_err(unusable)?;
        if !own.current().trusts(&shown) {
            let why = format!(
                "what the authority in {} signs is not taken by this scheduler: it is not among those in {}, \
                 its clock is off, or the certificate begins in a second; try again",
                self.dir.display(),
                own.dir().join(flyball_pki::CA_CERTIFICATES).display()
            );
            return Err(SignError::Unusable(why));
        }
        let trusted = authorities_in(own.dir()).map_err(unusable)?;
        Ok(Signed { chain, authorities: united(&bundle, &trusted), facts })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unusable(error: PkiError) -> SignError {
    SignError::Unusable(error.to_string())
}

/// Renews a scheduler's own certificate: with the authority that it has, or through those that can.
pub(crate) async fn renew_own(
    signer: Option<Signer>,
    own: Arc<LiveIdentity>,
    store: Store,
) -> Result<Facts, String> {
    let Some(signer) = signer else {
        let signers = store.list_signers().await.map_err(|error| error.to_string())?;
        let addresses: Vec<Address> =
            signers.iter().filter_map(|one| one.address.parse().ok()).collect();
        return renewal::renew(&addresses, &own).await.map_err(|error| error.to_string());
    };
    let identity = own.identity().map_err(|error| error.to_string())?;
    let request = flyball_pki::request_for(own.dir()).map_err(|error| error.to_string())?;
    let hosts = own.current().facts.hosts.clone();
    let wish = Wish { identity, hosts, request, after: None };
    let signed = signer.sign(wish, own.clone(), Timestamp::now()).await;
    let signed = signed.map_err(|error| error.to_string())?;
    let installed = renewal::install(&own, &signed.authorities, &signed.chain);
    installed.map_err(|error| error.to_string())
}

/// SHA-256 of the public key of the authority behind an identity's own certificate: what a stranger has to
/// find behind its address.
pub(crate) fn pin_of(own: &LiveIdentity) -> String {
    let loaded = own.current();
    let issuer = loaded.authorities.iter().find(|facts| facts.name == loaded.facts.issuer);
    let issuer = issuer.or_else(|| loaded.authorities.first());
    issuer.map_or_else(String::new, |facts| facts.key.clone())
}
