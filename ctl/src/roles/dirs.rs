//! Directories and token files that only their user can read.

use std::path::{Path, PathBuf};

use anyhow::Context;

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

/// Reads a token file: one line; anyone else's read permission on it is refused.
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
    anyhow::ensure!(!token.is_empty(), "the token file {} is empty", path.display());
    Ok(token)
}
