//! Renewing a certificate: whoever has one that counts gets another for the same key, in the running
//! process. Connections carry on with the old one until they are made anew.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use flyball_pki::{Facts, LiveIdentity, PkiError, facts_of_pem, request_for, write_certificates};
use jiff::Timestamp;

use crate::transport::{self, Address, Credential};
use crate::v1::certificates_client::CertificatesClient;
use crate::v1::{IssuedCertificate, RenewRequest};

/// Schedulers that are asked at most: those that are known, and those that they name.
const ASKED_MAX: usize = 16;
/// Longest wait for one of them.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longest sleep before another look: files may be replaced by hand, and clocks be set.
const LOOK_EVERY: Duration = Duration::from_secs(10 * 60);
/// Shortest and longest pause after a failure; in between a twentieth of what is left.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60 * 60));
/// Pause after a success, until the new files have been read.
const SETTLE: Duration = Duration::from_secs(2);

/// Why a certificate was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Its files cannot be read or written.
    #[error("{0}")]
    Files(#[from] PkiError),
    /// Nobody signed it.
    #[error("{0}")]
    Unsigned(String),
    /// What came back is not for this identity and key.
    #[error("the answer is a certificate of {found} for another key or identity; it is not used")]
    Wrong {
        /// Whose it is.
        found: String,
    },
}

/// Has the certificate of an identity renewed by the first of these schedulers that can sign, or one that
/// they name, and writes it into the identity's directory. The key stays.
///
/// # Errors
/// [`RenewError`]; the old certificate is left as it was.
pub async fn renew(
    addresses: &[Address],
    identity: &Arc<LiveIdentity>,
) -> Result<Facts, RenewError> {
    let request_der = request_for(identity.dir())?;
    let mut todo: Vec<Address> =
        addresses.iter().filter(|one| matches!(one, Address::Https(_))).cloned().collect();
    let (mut asked, mut failures) = (Vec::<Address>::new(), Vec::new());
    while let Some(address) = (!todo.is_empty()).then(|| todo.remove(0)) {
        if asked.contains(&address) || asked.len() >= ASKED_MAX {
            continue;
        }
        asked.push(address.clone());
        let call = ask(&address, identity, request_der.clone());
        let answer = tokio::time::timeout(ANSWER_MAX, call).await;
        match answer.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Ok(Answer::Issued(issued)) => return take(identity, &issued),
            Ok(Answer::Ask(others)) => todo.extend(others),
            Err(why) => failures.push(format!("{address}: {why}")),
        }
    }
    let why = match failures.is_empty() {
        true => "no scheduler that signs is known".to_owned(),
        false => failures.join("; "),
    };
    Err(RenewError::Unsigned(why))
}

enum Answer {
    Issued(IssuedCertificate),
    Ask(Vec<Address>),
}

async fn ask(
    address: &Address,
    identity: &Arc<LiveIdentity>,
    request_der: Vec<u8>,
) -> Result<Answer, String> {
    let credential = Credential::none().with_identity(Some(identity.clone()));
    let connection =
        transport::connect(address, credential).await.map_err(|error| cause(&error))?;
    let request = RenewRequest { request_der: request_der.into() };
    let answer = CertificatesClient::new(connection).renew(request).await;
    let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
    Ok(match answer.issued {
        Some(issued) => Answer::Issued(issued),
        None => Answer::Ask(answer.ask.iter().filter_map(|text| text.parse().ok()).collect()),
    })
}

/// The innermost error: the transport's own text says nothing.
fn cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Writes what was issued, if it is what was asked for.
fn take(identity: &LiveIdentity, issued: &IssuedCertificate) -> Result<Facts, RenewError> {
    install(identity, &issued.authorities_pem, &issued.chain_pem)
}

/// Replaces an identity's certificate and authorities by new ones of the same identity and key.
///
/// # Errors
/// [`RenewError::Wrong`], or files that cannot be written.
pub fn install(
    identity: &LiveIdentity,
    authorities_pem: &str,
    chain_pem: &str,
) -> Result<Facts, RenewError> {
    let own = &identity.current().facts;
    let new = facts_of_pem(chain_pem)?.into_iter().next();
    let fits = |new: &Facts| new.key == own.key && new.identity == own.identity;
    match new {
        Some(new) if fits(&new) => {
            write_certificates(identity.dir(), authorities_pem, chain_pem)?;
            Ok(new)
        }
        other => {
            let found = other.map_or_else(|| "nobody".to_owned(), |facts| facts.name);
            Err(RenewError::Wrong { found })
        }
    }
}

/// Renews an identity's certificate by `renew` once two thirds of its life are over, for as long as this is
/// polled. What fails is tried again and said, with the time at which it gets serious.
pub async fn keep<F, E>(identity: Arc<LiveIdentity>, mut renew: impl FnMut() -> F)
where
    F: Future<Output = Result<Facts, E>>,
    E: fmt::Display,
{
    loop {
        let (now, facts) = (Timestamp::now(), identity.current().facts.clone());
        if now < facts.renewal_due() {
            tokio::time::sleep(until(now, facts.renewal_due()).clamp(PAUSE.0, LOOK_EVERY)).await;
            continue;
        }
        match renew().await {
            Ok(new) => {
                let (until, next) = (new.not_after, new.renewal_due());
                tracing::info!(whose = new.name, serial = new.serial, %until, %next, "the certificate was renewed");
                tokio::time::sleep(SETTLE).await;
            }
            Err(error) => {
                let (whose, end) = (&facts.name, facts.not_after);
                tracing::warn!(
                    "the certificate of {whose} cannot be renewed, and ends at {end}: {error}; trying again \
                     (flyball doctor shows it; by hand: flyball pki issue --force)"
                );
                let pause = (until(now, end) / 20).clamp(PAUSE.0, PAUSE.1);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Zero if it is over.
fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}
