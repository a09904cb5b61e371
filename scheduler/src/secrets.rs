//! Sealing secrets: HPKE (RFC 9180) with X25519, HKDF-SHA256 and ChaCha20-Poly1305, bound to the secret's
//! place, so that one that was moved to another name in the store does not open there. The keys are in a
//! file of their own, outside the store.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use flyball_core::ids::LoopKey;
use flyball_core::secret::SecretValue;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

type Private = <X25519HkdfSha256 as Kem>::PrivateKey;
type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Capsule = <X25519HkdfSha256 as Kem>::EncappedKey;

/// What a line with a key begins with; the number is the file's version.
const LINE: &str = "flyball-secrets-key-1:";
/// Said into every seal, so that it is of use for nothing else.
const PURPOSE: &[u8] = b"flyball secret 1";
/// Keys in one file: the present one and those that are being replaced.
const KEYS_MAX: usize = 16;
const CAPSULE_BYTES: usize = 32;

/// The keys; the first seals, all open. Clones share them.
#[derive(Clone)]
pub struct SecretKeys(Arc<Vec<Key>>);

struct Key {
    id: String,
    private: Private,
    public: Public,
}

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids: Vec<_> = self.0.iter().map(|key| key.id.as_str()).collect();
        write!(f, "SecretKeys({})", ids.join(", "))
    }
}

/// The key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or made.
    #[error("the secrets key {path} cannot be used: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others may read it.
    #[error("the secrets key {path} can be read by others (mode {mode:o}); chmod 600 {path}")]
    Open {
        /// The file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Its content is no key.
    #[error(
        "line {line} of the secrets key {path} is no key: each is {LINE}… as made by --secrets-key"
    )]
    Malformed {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
    },
}

/// A sealed value does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// Its key is not in the file.
    #[error("it was sealed with key {0}, which is not in this scheduler's key file")]
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
        let name = path.display().to_string();
        let io = |source| KeyFileError::Io { path: name.clone(), source };
        if !path.exists() {
            make(path).map_err(io)?;
        }
        let mode = path.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Open { path: name, mode });
        }
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(io)?);
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let malformed = || KeyFileError::Malformed { path: name.clone(), line: index + 1 };
            let hex = line.trim().strip_prefix(LINE).ok_or_else(malformed)?;
            let bytes = Zeroizing::new(from_hex(hex).ok_or_else(malformed)?);
            keys.push(Key::from_bytes(&bytes).ok_or_else(malformed)?);
        }
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(KeyFileError::Malformed { path: name, line: 1 });
        }
        Ok(Self(Arc::new(keys)))
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

fn make(path: &Path) -> std::io::Result<()> {
    let (private, _) = X25519HkdfSha256::gen_keypair();
    let bytes = Zeroizing::new(private.to_bytes().to_vec());
    let line = Zeroizing::new(format!("{LINE}{}\n", *Zeroizing::new(to_hex(&bytes))));
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    std::io::Write::write_all(&mut file, line.as_bytes())?;
    file.sync_all()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> SecretValue {
        SecretValue::new(b"hunter2-hunter2".to_vec()).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let keys = SecretKeys::at(&file).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let place = LoopKey::new("a", "token");
        let (id, sealed) = keys.seal(&place, &value()).unwrap();
        assert_ne!(keys.seal(&place, &value()).unwrap().1, sealed, "never the same twice");
        let again = SecretKeys::at(&file).unwrap();
        assert_eq!(again.open(&place, &id, &sealed), Ok(value()));
        let elsewhere = LoopKey::new("b", "token");
        assert_eq!(again.open(&elsewhere, &id, &sealed), Err(OpenError::Spoilt));
        let mut spoilt = sealed.clone();
        let last = if spoilt.ends_with('0') { "1" } else { "0" };
        spoilt.replace_range(spoilt.len() - 1.., last);
        assert_eq!(again.open(&place, &id, &spoilt), Err(OpenError::Spoilt));
        for bad in ["", "00", "zz", &sealed[..64]] {
            assert_eq!(again.open(&place, &id, bad), Err(OpenError::Spoilt), "{bad}");
        }
        let other = SecretKeys::at(&dir.path().join("other")).unwrap();
        assert!(matches!(other.open(&place, &id, &sealed), Err(OpenError::UnknownKey(_))));
        assert!(!format!("{keys:?}").contains(std::fs::read_to_string(&file).unwrap().trim()));
    }

    #[test]
    fn a_new_key_in_front_seals_and_the_old_one_still_opens() {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (dir.path().join("old"), dir.path().join("new"));
        let place = LoopKey::new("a", "token");
        let (id, sealed) = SecretKeys::at(&old).unwrap().seal(&place, &value()).unwrap();
        SecretKeys::at(&new).unwrap();
        let both = [std::fs::read_to_string(&new).unwrap(), std::fs::read_to_string(&old).unwrap()];
        std::fs::write(&new, both.concat()).unwrap();
        let keys = SecretKeys::at(&new).unwrap();
        assert_eq!(keys.open(&place, &id, &sealed), Ok(value()));
        assert_ne!(keys.seal(&place, &value()).unwrap().0, id);
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        SecretKeys::at(&file).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(SecretKeys::at(&file), Err(KeyFileError::Open { .. })));
        let junk = dir.path().join("junk");
        std::fs::write(&junk, "hello").unwrap();
        std::fs::set_permissions(&junk, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(SecretKeys::at(&junk), Err(KeyFileError::Malformed { line: 1, .. })));
    }
}
