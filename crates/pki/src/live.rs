//! An identity in a directory, read again when its files change: nothing has to be restarted for a new
//! certificate or another authority.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flyball_core::identity::Identity;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::error::PkiError;
use crate::facts::{Facts, certificates, facts_of_der};
use crate::files::{CA_CERTIFICATES, CERTIFICATE, KEY, read, read_key};
use crate::provider;
use crate::server::Chain;

/// Shortest time between two looks at the files: a look is three system calls, and seconds are soon
/// enough for anything that people or renewals change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An identity's directory: `ca.pem`, `cert.pem`, `key.pem`. Looked at whenever it is used.
#[derive(Debug)]
pub struct LiveIdentity {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    loaded: Arc<Loaded>,
    stamp: Vec<Stamp>,
    looked: Instant,
    problem: Option<String>,
}

/// One reading of the files.
#[derive(Debug)]
pub struct Loaded {
    /// What its certificate says.
    pub facts: Facts,
    /// What the certificates of the trusted authorities say.
    pub authorities: Vec<Facts>,
    /// One more with every change.
    pub generation: u64,
    pub(crate) client: Arc<ClientConfig>,
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) server_for_strangers: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl Loaded {
    /// Whether the certificates that a peer once showed would be accepted now: the authority that they lead
    /// to may have been retired since.
    pub fn trusts(&self, chain: &Chain) -> bool {
        let Some((first, rest)) = chain.0.split_first() else { return false };
        self.verifier.verify_client_cert(first, rest, UnixTime::now()).is_ok()
    }
}

/// What tells a changed file from the one that was read.
type Stamp = Option<(u64, i64, i64, u64)>;

impl LiveIdentity {
    /// Reads an identity.
    ///
    /// # Errors
    /// A file that is missing, unreadable or exposed, or files that do not belong together.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let stamp = stamp(dir);
        let loaded = Arc::new(load(dir, 1)?);
        let state = State { loaded, stamp, looked: Instant::now(), problem: None };
        Ok(Self { dir: dir.to_owned(), state: Mutex::new(state) })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The newest reading that can be used. Files that were changed to something unusable are reported
    /// by [`LiveIdentity::problem`], and what was read before stays in use.
    pub fn current(&self) -> Arc<Loaded> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() < LOOK_EVERY {
            return state.loaded.clone();
        }
        state.looked = Instant::now();
        let found = stamp(&self.dir);
        if found == state.stamp {
            return state.loaded.clone();
        }
        match load(&self.dir, state.loaded.generation + 1) {
            Ok(loaded) => {
                state.loaded = Arc::new(loaded);
                state.problem = None;
                state.stamp = found;
            }
            // Perhaps half of a change; the stamp stays, so that the next look tries again.
            Err(error) => state.problem = Some(error.to_string()),
        }
        state.loaded.clone()
    }

    /// Whose it is.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] if its certificate does not say.
    pub fn identity(&self) -> Result<Identity, PkiError> {
        self.current().facts.require_identity().cloned()
    }

    /// What is wrong with the files as they are now, if anything.
    pub fn problem(&self) -> Option<String> {
        self.current();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }
}

fn stamp(dir: &Path) -> Vec<Stamp> {
    let stamp = |name: &str| {
        let meta = std::fs::metadata(dir.join(name)).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
    };
    [CA_CERTIFICATES, CERTIFICATE, KEY].map(stamp).to_vec()
}

fn load(dir: &Path, generation: u64) -> Result<Loaded, PkiError> {
    let (ca, cert, key) = (dir.join(CA_CERTIFICATES), dir.join(CERTIFICATE), dir.join(KEY));
    let in_file = |path: &Path, error: PkiError| PkiError::content(path, error.to_string());
    let key_pem = read_key(&key)?;
    let key_der = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(|error| PkiError::content(&key, format!("not a private key in PEM: {error}")))?;
    let chain = certificates(&read(&cert)?).map_err(|error| in_file(&cert, error))?;
    let facts = match chain.first() {
        Some(first) => facts_of_der(first).map_err(|error| in_file(&cert, error))?,
        None => return Err(PkiError::content(&cert, "there is no certificate in it")),
    };
    let trusted = certificates(&read(&ca)?).map_err(|error| in_file(&ca, error))?;
    let authorities: Result<Vec<_>, _> = trusted.iter().map(|der| facts_of_der(der)).collect();
    let authorities = authorities.map_err(|error| in_file(&ca, error))?;
    let mut roots = RootCertStore::empty();
    for der in trusted {
        roots.add(der).map_err(|error| PkiError::content(&ca, error.to_string()))?;
    }
    let roots = Arc::new(roots);
    let mismatch = |error: rustls::Error| match error {
        rustls::Error::InconsistentKeys(_) => {
            PkiError::content(&key, format!("is not the key of {}", cert.display()))
        }
        other => PkiError::content(&cert, other.to_string()),
    };
    let mut client = client_builder()?
        .with_root_certificates(roots.clone())
        .with_client_auth_cert(chain.clone(), key_der.clone_key())
        .map_err(mismatch)?;
    prepare_client(&mut client);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
        .build()
        .map_err(|error| PkiError::content(&ca, error.to_string()))?;
    let server = |strangers: bool| -> Result<Arc<ServerConfig>, PkiError> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
        let verifier = if strangers { verifier.allow_unauthenticated() } else { verifier };
        let verifier =
            verifier.build().map_err(|error| PkiError::content(&ca, error.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| PkiError::Refused(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key_der.clone_key())
            .map_err(mismatch)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would skip the look at certificates that may have been replaced.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Arc::new(server))
    };
    Ok(Loaded {
        facts,
        authorities,
        generation,
        client: Arc::new(client),
        server: server(false)?,
        server_for_strangers: server(true)?,
        verifier,
    })
}

/// The beginning of every client configuration.
pub(crate) fn client_builder()
-> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, PkiError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| PkiError::Refused(error.to_string()))
}

/// The end of every client configuration.
pub(crate) fn prepare_client(client: &mut ClientConfig) {
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = rustls::client::Resumption::disabled();
}
