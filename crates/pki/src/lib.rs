//! Certificates: who a peer is, the identity that a process shows, and the authority that issues both.
//!
//! One place for keys and TLS. Everything else sees an [`Identity`], a stream, or a PEM text. Only TLS
//! 1.3 is spoken, with ring as the only provider, named wherever a configuration is made: there is no
//! default one that could be another. Sessions are not resumed, so every connection is judged anew.
//!
//! [`Identity`]: flyball_core::identity::Identity
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod authority;
mod client;
mod error;
mod facts;
mod files;
mod live;
mod server;
mod subject;
mod token;

pub use authority::{Authority, Issued, KeyOf, Order};
pub use client::{Peer, connect, connect_trusting, connect_unverified};
pub use error::PkiError;
pub use facts::{Facts, facts_of_der, facts_of_pem, uri_of};
pub use files::{
    CA_CERTIFICATES, CA_KEY, CERTIFICATE, KEY, authorities_in, request_for, united,
    write_certificates, write_identity, write_private,
};
pub use live::{LiveIdentity, Loaded};
pub use server::{Accepted, Chain, ServerStream, accept};
pub use subject::{
    CA_DAYS, ETCD_DAYS, JOIN_TOKEN_SECONDS, JOIN_TOKEN_SECONDS_MAX, LIFETIME_MAX, NODE_DAYS,
    SCHEDULER_DAYS, Subject, USER_DAYS,
};
pub use token::{InvalidToken, JoinToken, PinnedRoot, hash_of, pin_of_pem};

/// One day.
pub const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);

pub(crate) fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> {
    std::sync::Arc::new(rustls::crypto::ring::default_provider())
}
