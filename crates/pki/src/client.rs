//! The connecting side of TLS.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use flyball_core::identity::Identity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::facts::facts_of_der;
use crate::live::{LiveIdentity, client_builder, prepare_client};
use crate::provider;
use crate::token::PinnedRoot;

/// Longest wait for an encrypted connection: one round trip and two signatures.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Whom to expect behind an address, beside the name in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A scheduler: its certificate says so.
    Scheduler,
    /// Something of another program, e.g. etcd.
    Foreign,
}

/// Connects to `host:port` and shows this identity. The other side has to prove that it is `host`, by a
/// certificate of an authority that this identity trusts.
///
/// # Errors
/// Those of the network, and of what the other side shows.
pub async fn connect(
    (host, port): (&str, u16),
    identity: &LiveIdentity,
    expected: Peer,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = handshake((host, port), identity.current().client.clone()).await?;
    if expected == Peer::Scheduler {
        require_scheduler((host, port), &stream)?;
    }
    Ok(stream)
}

/// Whoever is of our authority may still be a node that plays a scheduler.
fn require_scheduler((host, port): (&str, u16), stream: &TlsStream<TcpStream>) -> io::Result<()> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let facts = shown.map(|der| facts_of_der(der)).transpose().map_err(io::Error::other)?;
    let who = facts.and_then(|facts| facts.identity);
    if matches!(who, Some(Identity::Scheduler(_))) {
        return Ok(());
    }
    let who = who.map_or_else(|| "nobody of ours".to_owned(), |who| who.to_string());
    let why = format!("{host}:{port} is {who} by its certificate, not a scheduler");
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Connects without an identity of one's own, to a scheduler of a pinned authority.
///
/// # Errors
/// Those of the network, and of what the other side shows.
pub async fn connect_trusting(
    address: (&str, u16),
    root: &PinnedRoot,
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.der.clone()).map_err(io::Error::other)?;
    let mut config = client_builder()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    prepare_client(&mut config);
    let stream = handshake(address, Arc::new(config)).await?;
    require_scheduler(address, &stream)?;
    Ok(stream)
}

/// Connects to whoever answers. Only for asking which authority it has, which is then compared with a pin;
/// nothing secret may be sent.
///
/// # Errors
/// Those of the network.
pub async fn connect_unverified(address: (&str, u16)) -> io::Result<TlsStream<TcpStream>> {
    let mut config = client_builder()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    prepare_client(&mut config);
    handshake(address, Arc::new(config)).await
}

async fn handshake(
    (host, port): (&str, u16),
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is no host name or address"))
    })?;
    let connecting = async {
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, tcp).await
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{host}:{port} is silent"));
    tokio::time::timeout(CONNECT_MAX, connecting).await.map_err(late)?
}

/// Takes every certificate.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
