//! Files of an identity: what they are called, who may read them, and how they are replaced.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};

use crate::error::PkiError;

/// The authorities that a process trusts, in its identity's directory.
pub const CA_CERTIFICATES: &str = "ca.pem";
/// An authority's signing key, in the authority's directory.
pub const CA_KEY: &str = "ca-key.pem";
/// The certificate, with what leads from it to an authority.
pub const CERTIFICATE: &str = "cert.pem";
/// Its private key.
pub const KEY: &str = "key.pem";

/// Most bytes of one of these files: a bundle of a hundred certificates takes a tenth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file of certificates.
pub(crate) fn read(path: &Path) -> Result<String, PkiError> {
    let meta = std::fs::metadata(path).map_err(PkiError::file(path))?;
    if meta.len() > FILE_BYTES_MAX {
        let why = format!("{} bytes, at most {FILE_BYTES_MAX} are allowed", meta.len());
        return Err(PkiError::content(path, why));
    }
    std::fs::read_to_string(path).map_err(PkiError::file(path))
}

/// Reads a private key, which nobody else may be able to read.
pub(crate) fn read_key(path: &Path) -> Result<String, PkiError> {
    let meta = std::fs::metadata(path).map_err(PkiError::file(path))?;
    let mode = meta.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(PkiError::Exposed { path: path.to_owned(), mode });
    }
    read(path)
}

/// The authorities that an identity trusts, PEM.
///
/// # Errors
/// [`PkiError`] if the file cannot be read or is too large.
pub fn authorities_in(dir: &Path) -> Result<String, PkiError> {
    read(&dir.join(CA_CERTIFICATES))
}

/// The certificates of both PEM texts, those of the first in front, none twice.
pub fn united(first: &str, second: &str) -> String {
    let mut all = blocks(first);
    for block in blocks(second) {
        if !all.contains(&block) {
            all.push(block);
        }
    }
    all.concat()
}

/// The certificates of a PEM text, each as a text.
pub(crate) fn blocks(pem: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = pem.split_inclusive(END).filter(|part| part.contains("-----BEGIN"));
    parts.map(|part| format!("{}\n", part.trim())).collect()
}

/// Makes a directory of this user alone.
pub(crate) fn private_dir(dir: &Path) -> Result<(), PkiError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(PkiError::file(dir))
}

/// Replaces a file as a whole: whoever reads it sees the old or the new content, also after a crash.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        // One that a crash left would keep its own mode.
        let _ = std::fs::remove_file(&beside);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        match path.parent() {
            Some(dir) => std::fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    })();
    written.map_err(PkiError::file(path))
}

/// Writes a file that its user alone can read.
///
/// # Errors
/// [`PkiError::File`].
pub fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    replace(path, text, 0o600)
}

pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), PkiError> {
    replace(path, text, 0o644)
}

/// Writes a whole identity into a directory, which is made for its user alone.
///
/// # Errors
/// [`PkiError::File`].
pub fn write_identity(dir: &Path, ca: &str, chain: &str, key: &str) -> Result<(), PkiError> {
    private_dir(dir)?;
    write_private(&dir.join(KEY), key)?;
    write_certificates(dir, ca, chain)
}

/// Replaces the certificates of an identity whose key stays. Each file is replaced as a whole, and each
/// goes with the other as it was, so a crash in between leaves an identity that works.
///
/// # Errors
/// [`PkiError::File`].
pub fn write_certificates(dir: &Path, ca: &str, chain: &str) -> Result<(), PkiError> {
    write_public(&dir.join(CA_CERTIFICATES), ca)?;
    write_public(&dir.join(CERTIFICATE), chain)
}

/// A signing request (DER) for the key in an identity's directory. The key is made first if there is none.
///
/// # Errors
/// A key that cannot be read, is exposed, or cannot be written.
pub fn request_for(dir: &Path) -> Result<Vec<u8>, PkiError> {
    let path = dir.join(KEY);
    let key = if path.exists() {
        let pem = read_key(&path)?;
        KeyPair::from_pem(&pem).map_err(|error| PkiError::content(&path, error.to_string()))?
    } else {
        private_dir(dir)?;
        let key = KeyPair::generate().map_err(|error| PkiError::Refused(error.to_string()))?;
        write_private(&path, &key.serialize_pem())?;
        key
    };
    let request = CertificateParams::default().serialize_request(&key);
    let request = request.map_err(|error| PkiError::Refused(error.to_string()))?;
    Ok(request.der().to_vec())
}
