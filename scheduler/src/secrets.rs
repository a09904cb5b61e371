//! Sealing secrets: HPKE (RFC 9180) with X25519, HKDF-SHA256 and ChaCha20-Poly1305, bound to the secret's
//! place, so that one that was moved to another name in the store does not open there. The keys are in a
//! file of their own, outside the store.

mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flyball_core::ids::LoopKey;
use flyball_core::secret::SecretValue;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use file::KeyFileError;
use file::Stamp;

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Capsule = <X25519HkdfSha256 as Kem>::EncappedKey;

/// Said into every seal, so that it is of use for nothing else.
const PURPOSE: &[u8] = b"flyball secret 1";
const CAPSULE_BYTES: usize = 32;

/// The keys of a file, as it is now: it is read again when it has changed. Clones share them.
#[derive(Clone)]
pub struct SecretKeys(Arc<Shared>);

struct Shared {
    path: PathBuf,
    known: Mutex<Known>,
    /// Held for reading by whoever seals and stores, for writing by whoever changes which key seals.
    sealing: RwLock<()>,
}

struct Known {
    ring: Arc<Ring>,
    /// What the file looked like when it was last read, or could last not be.
    stamp: Option<Stamp>,
}

/// Keys that belong together; the first seals, all open.
pub(crate) struct Ring(Vec<Key>);

struct Key {
    id: String,
    private: Private,
    public: Public,
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretKeys({})", self.ring().ids().join(", "))
    }
}

/// A sealed value does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// Its key is not in the file.
    #[error(
        "it was sealed with key {0}, which is not in this scheduler's key file; put that key back into the file, \
         behind the others, or set the secret anew"
    )]
    UnknownKey(String),
    /// It was changed, or moved from another name.
    #[error("it does not open: it was changed in the store, or moved there from another name")]
    Spoilt,
}

impl SecretKeys {
    /// Reads the keys of a file; one that does not exist is made, for this user alone, with a new key.
    ///
    /// # Errors
    /// [`KeyFileError`] when it cannot be read or made, is open to others, or holds no key.
    pub fn at(path: &Path) -> Result<Self, KeyFileError> {
        let stamp = file::ensure(path)?;
        let ring = Arc::new(file::read(path)?);
        let known = Mutex::new(Known { ring, stamp: Some(stamp) });
        Ok(Self(Arc::new(Shared { path: path.to_owned(), known, sealing: RwLock::new(()) })))
    }

    /// Puts a new key in front of a file, which is made if there is none; answers the key's id.
    ///
    /// # Errors
    /// [`KeyFileError`] when the file is not as [`SecretKeys::at`] wants it, cannot be replaced, or is full.
    pub fn add_to(path: &Path) -> Result<String, KeyFileError> {
        match path.exists() {
            true => file::add(path)?,
            false => drop(file::ensure(path)?),
        }
        let ring = file::read(path)?;
        Ok(ring.ids().first().cloned().unwrap_or_default())
    }

    /// The keys as they are in the file now. One that cannot be read any more leaves those that were known.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        // A panic while it was held leaves it whole: every change is one assignment.
        let mut known = self.0.known.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = file::stamp(&self.0.path);
        if stamp != known.stamp {
            match file::read(&self.0.path) {
                Ok(ring) => known.ring = Arc::new(ring),
                Err(error) => tracing::warn!("the secrets keys known before stay in use: {error}"),
            }
            known.stamp = stamp;
        }
        known.ring.clone()
    }

    /// To be held from before a value is sealed until it is stored: no other key becomes the first meanwhile.
    pub(crate) async fn sealing(&self) -> RwLockReadGuard<'_, ()> {
        self.0.sealing.read().await
    }

    /// To be held while the file is changed.
    pub(crate) async fn changing(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.sealing.write().await
    }

    /// Puts a new key in front.
    pub(crate) fn add(&self) -> Result<(), KeyFileError> {
        file::add(&self.0.path)
    }

    /// Takes keys out of the file; never the first.
    pub(crate) fn remove(&self, ids: &BTreeSet<String>) -> Result<(), KeyFileError> {
        file::remove(&self.0.path, ids)
    }
}

impl Ring {
    /// Ids of the keys, that which seals first.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.0.iter().map(|key| key.id.clone()).collect()
    }

    /// The id of the key that seals.
    pub(crate) fn sealing_id(&self) -> &str {
        self.0.first().map(|key| key.id.as_str()).unwrap_or_default()
    }

    /// Whether a key of this id is there.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    /// Seals a value: the id of the key, and the seal in hexadecimal.
    pub(crate) fn seal(&self, place: &LoopKey, value: &SecretValue) -> Option<(String, String)> {
        let key = self.0.first()?;
        let sealed = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeS::Base,
            &key.public,
            PURPOSE,
            value.expose(),
            place.to_string().as_bytes(),
        );
        let (capsule, sealed) = sealed.ok()?;
        let bytes: Vec<u8> = capsule.to_bytes().iter().copied().chain(sealed).collect();
        Some((key.id.clone(), to_hex(&bytes)))
    }

    /// Opens a seal.
    pub(crate) fn open(
        &self,
        place: &LoopKey,
        sealed_with: &str,
        sealed: &str,
    ) -> Result<SecretValue, OpenError> {
        let key = self.0.iter().find(|key| key.id == sealed_with);
        let key = key.ok_or_else(|| OpenError::UnknownKey(sealed_with.to_owned()))?;
        let bytes = from_hex(sealed).ok_or(OpenError::Spoilt)?;
        let (capsule, sealed) = bytes.split_at_checked(CAPSULE_BYTES).ok_or(OpenError::Spoilt)?;
        let capsule = Capsule::from_bytes(capsule).map_err(|_| OpenError::Spoilt)?;
        let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &key.private,
            &capsule,
            PURPOSE,
            sealed,
            place.to_string().as_bytes(),
        );
        let opened = opened.map_err(|_| OpenError::Spoilt)?;
        SecretValue::new(opened).map_err(|_| OpenError::Spoilt)
    }
}

impl Key {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let private = Private::from_bytes(bytes).ok()?;
        let public = X25519HkdfSha256::sk_to_pk(&private);
        // Enough of the public key to tell a few keys apart.
        let id = to_hex(public.to_bytes().get(..8)?);
        Some(Self { id, private, public })
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
