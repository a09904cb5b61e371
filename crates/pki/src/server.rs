//! The accepting side of TLS.

use std::io;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::PkiError;
use crate::facts::{Facts, certificates, facts_of_der};
use crate::live::LiveIdentity;

/// Longest time that a peer may take to prove who it is.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// The accepting side of an encrypted connection.
pub type ServerStream = TlsStream<TcpStream>;

/// An encrypted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The stream.
    pub stream: ServerStream,
    /// The peer's certificate, of an authority that we trust; `None` for a stranger.
    pub peer: Option<Facts>,
    /// All certificates that the peer showed.
    pub chain: Chain,
    /// Under which reading of our files they were accepted.
    pub generation: u64,
}

/// Certificates that a peer showed, its own first; see [`crate::Loaded::trusts`].
#[derive(Debug, Clone, Default)]
pub struct Chain(pub(crate) Vec<CertificateDer<'static>>);

impl Chain {
    /// The certificates of a PEM text, as if they had been shown.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] if there is none.
    pub fn of_pem(pem: &str) -> Result<Self, PkiError> {
        certificates(pem).map(Self)
    }
}

/// Accepts a connection. A peer without a certificate is let in only where strangers may ask something,
/// e.g. to join; one with a certificate of another authority never.
///
/// # Errors
/// Whatever the peer does wrong; it concerns nobody else.
pub async fn accept(
    tcp: TcpStream,
    identity: &LiveIdentity,
    strangers: bool,
) -> io::Result<Accepted> {
    let loaded = identity.current();
    let config =
        if strangers { loaded.server_for_strangers.clone() } else { loaded.server.clone() };
    let handshake = TlsAcceptor::from(config).accept(tcp);
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no handshake in time");
    let stream = tokio::time::timeout(HANDSHAKE_MAX, handshake).await.map_err(late)??;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
    let peer = shown.first().map(|der| facts_of_der(der)).transpose().map_err(io::Error::other)?;
    Ok(Accepted { stream, peer, chain: Chain(shown), generation: loaded.generation })
}
