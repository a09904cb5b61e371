//! Starting the command of a step.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flyball_core::score::ExitKind;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, Pid, access};

use crate::wire::{Report, SpawnOrder};

/// Where programs are looked for when the step's environment has no PATH.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// Starts it with exactly the given environment, `input` or nothing on its input, both outputs into
/// `output`, in a process group of its own. Its other descriptors are closed, as all of ours close on exec;
/// its signals are as a login shell would find them.
pub(super) fn start(
    order: &SpawnOrder,
    input: Option<OwnedFd>,
    output: OwnedFd,
) -> Result<Pid, Report> {
    let Some((name, arguments)) = order.argv.split_first() else {
        return Err(could_not("the command is empty"));
    };
    if let Err(error) = std::fs::metadata(&order.cwd).and_then(|found| match found.is_dir() {
        true => Ok(()),
        false => Err(Errno::ENOTDIR.into()),
    }) {
        return Err(could_not(format!("working directory {}: {error}", order.cwd.display())));
    }
    let program = find(name, order)
        .map_err(|error| could_not(format!("{name}: {}", io::Error::from(error))))?;
    let second = output.try_clone().map_err(|error| classify(name, &error))?;
    let child = Command::new(&program)
        .arg0(name)
        .args(arguments)
        .env_clear()
        .envs(order.env.iter().map(|(key, value)| (key, value)))
        .current_dir(&order.cwd)
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .stdout(output)
        .stderr(second)
        .process_group(0)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => could_not(format!("{name}: its interpreter: {error}")),
            _ => classify(name, &error),
        })?;
    i32::try_from(child.id()).map(Pid::from_raw).map_err(|_| could_not("no process number"))
}

/// The file of a program: as given if it has a slash (relative to the working directory), else the
/// first executable of that name in the step's PATH.
pub(super) fn find(name: &str, order: &SpawnOrder) -> Result<PathBuf, Errno> {
    if name.contains('/') {
        return Ok(order.cwd.join(name)).and_then(|path| executable(&path).map(|()| path));
    }
    let path = order.env.iter().rev().find(|(key, _)| key == "PATH");
    let path = path.map_or(PATH_DEFAULT, |(_, value)| value);
    let mut worst = Errno::ENOENT;
    for dir in path.split(':') {
        let candidate = order.cwd.join(dir).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => worst = Errno::EACCES,
            Err(_) => {}
        }
    }
    Err(worst)
}

fn executable(path: &Path) -> Result<(), Errno> {
    let found = nix::sys::stat::stat(path)?;
    if found.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR {
        return Err(Errno::EACCES);
    }
    access(path, AccessFlags::X_OK)
}

/// A machine that has no room for a process is no fault of the command.
pub(super) fn classify(name: &str, error: &io::Error) -> Report {
    let short = [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE];
    let of_host = error.raw_os_error().is_some_and(|raw| short.contains(&Errno::from_raw(raw)));
    match of_host {
        true => Report::bare(ExitKind::NoRoom(format!("{name}: {error}")), ""),
        false => could_not(format!("{name}: {error}")),
    }
}

pub(super) fn could_not(why: impl Into<String>) -> Report {
    Report::bare(ExitKind::CouldNotStart(why.into()), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_room_is_told_apart_from_a_command_that_cannot_run() {
        let end = |errno: Errno| classify("tool", &io::Error::from_raw_os_error(errno as i32)).exit;
        for errno in [Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENFILE] {
            assert!(matches!(end(errno), ExitKind::NoRoom(why) if why.starts_with("tool: ")));
        }
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC] {
            assert!(matches!(end(errno), ExitKind::CouldNotStart(_)));
        }
    }
}
