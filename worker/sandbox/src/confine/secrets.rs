//! Secrets that a step reads from files: in memory of its own, which nobody else sees and which is gone with
//! its file tree.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::Confinement;
use crate::sys;

/// Where a step finds them, by their names.
pub const SECRETS_DIR: &str = "/run/secrets";
/// Bytes of that file system: as many secrets as a loop may have, each of the largest size, with room.
const BYTES: u64 = 1024 * 1024;

/// Makes the files in the tree at `site`. `values`: names and values; `owner`: the number of the user that the
/// step becomes, if it is not the present one.
pub(super) fn put(
    site: &Path,
    plan: &Confinement,
    values: &[(String, String)],
    owner: Option<u32>,
) -> io::Result<()> {
    if plan.secret_files.is_empty() {
        return Ok(());
    }
    let dir = site.join(SECRETS_DIR.trim_start_matches('/'));
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{SECRETS_DIR}: {error}"));
    if !dir.is_dir() {
        fs::create_dir(&dir).map_err(named)?;
    }
    mount_memory(&dir).map_err(|errno| named(errno.into()))?;
    for name in &plan.secret_files {
        let value = values.iter().find(|(of, _)| of == name).map(|(_, value)| value);
        let value = value.filter(|_| !name.contains('/') && !name.starts_with('.'));
        let value = value.ok_or_else(|| io::Error::other(format!("there is no secret {name}")))?;
        let path = dir.join(name);
        let mut file = fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)
            .map_err(named)?;
        file.write_all(value.as_bytes()).map_err(named)?;
        // Files of several lines end with a line break: what reads keys wants it.
        if value.contains('\n') {
            file.write_all(b"\n").map_err(named)?;
        }
        chown(&path, owner, owner).map_err(named)?;
    }
    chown(&dir, owner, owner).map_err(named)?;
    sys::make_read_only(&dir).map_err(|errno| named(errno.into()))
}

/// Memory that is not written to a swap device either, where the kernel lets this user say so.
fn mount_memory(at: &Path) -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=500,size={BYTES}");
    let with = |options: &str| mount(Some("secrets"), at, Some("tmpfs"), flags, Some(options));
    with(&format!("{options},noswap")).or_else(|_| with(&options))
}
