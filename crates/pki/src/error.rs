//! What can be wrong with keys and certificates.

use std::path::{Path, PathBuf};

/// A key, certificate or authority that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A private key that others can read.
    #[error(
        "the key {path} can be read by others (mode {mode:03o}, allowed is 600); run: chmod 600 {path}, and \
         issue a new one if somebody may have seen it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file whose content is not what it should be.
    #[error("{path}: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What was found, and what is needed.
        why: String,
    },
    /// A certificate that does not say what we need.
    #[error("{0}")]
    Certificate(String),
    /// A request that no certificate is made for.
    #[error("{0}")]
    Refused(String),
}

impl PkiError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }

    pub(crate) fn content(path: &Path, why: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), why: why.into() }
    }
}
