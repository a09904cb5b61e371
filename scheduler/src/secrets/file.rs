//! The file with the keys that seal secrets: one key a line, of this user alone, replaced as a whole.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hpke::kem::X25519HkdfSha256;
use hpke::{Kem, Serializable};
use zeroize::Zeroizing;

use super::{Key, Ring, from_hex, to_hex};

/// What a line with a key begins with; the number is the file's version.
pub(super) const LINE: &str = "flyball-secrets-key-1:";
/// Keys in one file: the present one and those that are being replaced.
const KEYS_MAX: usize = 16;

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
    /// It has as many keys as it can.
    #[error(
        "the secrets key {path} holds {KEYS_MAX} keys, which is the most; take out those that nothing is sealed \
         with: flyball secret rotate-key --drop-old"
    )]
    Full {
        /// The file.
        path: String,
    },
}

/// What tells one content of the file from another without reading it: time, size and file.
pub(super) type Stamp = (i64, i64, u64, u64);

pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let found = path.metadata().ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> KeyFileError {
    move |source| KeyFileError::Io { path: path.display().to_string(), source }
}

/// Makes the file with a key of its own if there is none. Answers what it looks like.
pub(super) fn ensure(path: &Path) -> Result<Stamp, KeyFileError> {
    if !path.exists() {
        write_new(path, &new_line()).map_err(io(path))?;
    }
    path.metadata().map_err(io(path))?;
    Ok(stamp(path).unwrap_or_default())
}

/// Reads the keys.
pub(super) fn read(path: &Path) -> Result<Ring, KeyFileError> {
    let text = text(path)?;
    let (mut keys, name) = (Vec::new(), path.display().to_string());
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let malformed = || KeyFileError::Malformed { path: name.clone(), line: index + 1 };
        keys.push(key(line).ok_or_else(malformed)?);
    }
    if keys.is_empty() || keys.len() > KEYS_MAX {
        return Err(KeyFileError::Malformed { path: name, line: 1 });
    }
    Ok(Ring(keys))
}

/// Puts a new key in front of those that are there.
pub(super) fn add(path: &Path) -> Result<(), KeyFileError> {
    if read(path)?.0.len() >= KEYS_MAX {
        return Err(KeyFileError::Full { path: path.display().to_string() });
    }
    let (line, old) = (new_line(), text(path)?);
    replace(path, &Zeroizing::new(format!("{}{}", *line, *old)))
}

/// Takes keys out, but never the one that seals.
pub(super) fn remove(path: &Path, ids: &BTreeSet<String>) -> Result<(), KeyFileError> {
    let sealing = read(path)?.sealing_id().to_owned();
    let goes = |id: &str| ids.contains(id) && id != sealing;
    let mut kept = Zeroizing::new(String::new());
    for line in text(path)?.lines() {
        if key(line).is_none_or(|key| !goes(&key.id)) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    replace(path, &kept)
}

/// The whole content, if it is this user's alone.
fn text(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let mode = path.metadata().map_err(io(path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.display().to_string(), mode });
    }
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(io(path))
}

fn key(line: &str) -> Option<Key> {
    let hex = line.trim().strip_prefix(LINE)?;
    Key::from_bytes(&Zeroizing::new(from_hex(hex)?))
}

fn new_line() -> Zeroizing<String> {
    let (private, _) = X25519HkdfSha256::gen_keypair();
    let bytes = Zeroizing::new(private.to_bytes().to_vec());
    Zeroizing::new(format!("{LINE}{}\n", *Zeroizing::new(to_hex(&bytes))))
}

/// Puts another content in its place, whole or not at all.
fn replace(path: &Path, content: &str) -> Result<(), KeyFileError> {
    // A link stays one, and what it leads to is replaced.
    let path = path.canonicalize().map_err(io(path))?;
    let mut beside = path.clone().into_os_string();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // Left behind by a scheduler that was killed here.
    let _ = std::fs::remove_file(&beside);
    write_new(&beside, content).map_err(io(&beside))?;
    std::fs::rename(&beside, &path).map_err(io(&path))?;
    let dir = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    std::fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(io(&dir))
}

fn write_new(path: &Path, content: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}
