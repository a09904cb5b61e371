//! Small things that a scene needs: looking for processes and files from outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// What no step may make: what runs as its owner, and devices.
pub(crate) fn special(entry: fs::DirEntry) -> Option<String> {
    use std::os::unix::fs::FileTypeExt;
    let found = entry.metadata().ok()?;
    let kind = found.file_type();
    let device = kind.is_char_device() || kind.is_block_device();
    let runs_as_owner = kind.is_file() && found.mode() & 0o6000 != 0;
    (device || runs_as_owner).then(|| {
        let what = if device { "a device" } else { "a set-id program" };
        format!("{} is {what} of {}", entry.file_name().display(), found.uid())
    })
}

/// The process with this word among its arguments.
pub(crate) fn find_process(word: &str) -> Option<u32> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let words = fs::read(entry.path().join("cmdline")).ok()?;
        words.split(|byte| *byte == 0).any(|one| one == word.as_bytes()).then_some(pid)
    })
}

pub(crate) fn abstract_name() -> String {
    format!("flyball-attacks-{}", std::process::id())
}

pub(crate) fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

pub(crate) fn perl(script: &str, argument: &str) -> String {
    let mut command = Command::new("/usr/bin/perl");
    let done = command.args(["-e", script, argument]).stdin(Stdio::null()).output().unwrap();
    String::from_utf8(done.stdout).unwrap()
}
