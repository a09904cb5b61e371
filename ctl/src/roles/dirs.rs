//! Directories and token files that only their user can read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use flyball_pki::LiveIdentity;

use crate::paths;

/// The data directory asked for or the default, made absolute and private to the user.
pub(super) fn data_dir(asked: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let dir = asked
        .or_else(paths::data_dir)
        .context("no data directory: set --data-dir or FLYBALL_DATA_DIR")?;
    private_dir(&dir)?;
    dir.canonicalize().with_context(|| format!("cannot use {}", dir.display()))
}

/// Makes a directory that only its owner can enter; one that is there must be the user's own.
pub(super) fn private_dir(dir: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make {}", dir.display()))?;
    let meta = std::fs::metadata(dir).with_context(|| format!("cannot use {}", dir.display()))?;
    let me = nix::unistd::Uid::effective().as_raw();
    anyhow::ensure!(
        meta.uid() == me,
        "{} belongs to uid {}, not to you (uid {me}); choose another --data-dir",
        dir.display(),
        meta.uid()
    );
    if meta.permissions().mode() & 0o077 != 0 {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot make {} private", dir.display()))?;
    }
    Ok(())
}

/// Opens an identity.
pub(super) fn identity(dir: Option<PathBuf>) -> anyhow::Result<Option<Arc<LiveIdentity>>> {
    let Some(dir) = dir else { return Ok(None) };
    // Other processes of the role may have to find it from elsewhere.
    let dir = dir.canonicalize().with_context(|| format!("--identity {}", dir.display()))?;
    let identity = LiveIdentity::open(&dir).context("--identity")?;
    Ok(Some(Arc::new(identity)))
}

/// Shortest token, in characters: 16 of base64 are 96 bits, beyond any guessing over a network.
const TOKEN_CHARS_MIN: usize = 16;

/// Reads a token file: one line, at least [`TOKEN_CHARS_MIN`] long; anyone else's read permission
/// on it is refused.
pub(super) fn read_token(path: &Path) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path)
        .with_context(|| format!("cannot read the token file {}", path.display()))?;
    anyhow::ensure!(
        meta.permissions().mode() & 0o077 == 0,
        "the token file {} can be read by others; run: chmod 600 {}",
        path.display(),
        path.display()
    );
    let token = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token file {}", path.display()))?;
    let token = token.trim().to_owned();
    let count = token.chars().count();
    anyhow::ensure!(
        count >= TOKEN_CHARS_MIN,
        "the token in {file} has {count} characters, at least {TOKEN_CHARS_MIN} are needed; make \
         one: head -c 32 /dev/urandom | base64 > {file}",
        file = path.display()
    );
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::read_token;

    #[test]
    fn a_token_must_be_long_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        let read = |text: &str, mode: u32| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            read_token(&file).map_err(|error| error.to_string())
        };
        assert_eq!(read("0123456789abcdef\n", 0o600).as_deref(), Ok("0123456789abcdef"));
        assert!(read("short\n", 0o600).unwrap_err().contains("has 5 characters"));
        assert!(read("", 0o600).unwrap_err().contains("/dev/urandom"));
        assert!(read("0123456789abcdef\n", 0o644).unwrap_err().contains("chmod 600"));
    }
}
