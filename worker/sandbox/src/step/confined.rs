//! Starting the command of a confined step: a fork into namespaces, the layers, and only then the
//! command, which is looked for where the step is.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use flyball_core::isolation::Layer;
use flyball_core::score::ExitKind;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{
    Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, pipe2, setpgid, write,
};
use serde::{Deserialize, Serialize};

use super::exec;
use crate::confine::{Confinement, Enforcement, Here, UserMaps, enter, namespaces};
use crate::socket::Socket;
use crate::sys::{self, Forked, exit_now};
use crate::wire::{Report, SpawnOrder};

/// Why a command does not run, told by the process that was to become it.
#[derive(Debug, Serialize, Deserialize)]
enum Failure {
    /// It could not be confined, so it does not run.
    Unconfined { layer: Option<Layer>, why: String },
    /// There is no such command, or it cannot be executed.
    Command(Report),
}

/// What the command finds on its standard streams.
pub(super) struct Streams {
    /// Without it there is nothing to read.
    pub(super) input: Option<OwnedFd>,
    /// Takes both outputs.
    pub(super) output: OwnedFd,
}

/// Where it is, and where its listeners go.
pub(super) struct Where<'a> {
    pub(super) worker: Option<&'a Socket>,
    /// The directory of its control group.
    pub(super) group: Option<&'a OwnedFd>,
}

/// Starts it. What cannot be confined as the guard has found possible does not run.
pub(super) fn start(
    order: &SpawnOrder,
    plan: &Confinement,
    with: &Enforcement,
    maps: &UserMaps,
    place: Where<'_>,
    streams: Streams,
) -> Result<Pid, Report> {
    let cannot =
        |why: String| Report::bare(ExitKind::NoRoom(format!("it cannot be confined: {why}")), "");
    let user = with.users.filter(|_| with.has(Layer::User)).map(|users| {
        let user = users.of_step(plan.who);
        maps.get(user).map(|map| (user, map))
    });
    let user = user.transpose().map_err(|errno| cannot(format!("user: {errno}")))?;
    let worker = place.worker;
    let memory_held = order.group.is_some_and(|held| held.memory);
    let (step, secrets) = (order.id, order.secrets.as_slice());
    let here = Here { with, user, worker, step, memory_held, secrets };
    let pipe = pipe2(OFlag::O_CLOEXEC);
    let (reader, writer) = pipe.map_err(|errno| cannot(format!("pipe: {errno}")))?;
    let forked = match place.group {
        Some(group) => sys::fork_into(namespaces(with), group.as_fd()),
        None => sys::fork(namespaces(with)),
    };
    let pid = match forked {
        Err(errno) => return Err(cannot(format!("fork: {errno}"))),
        Ok(Forked::Child) => {
            let failure = become_command(order, plan, &here, &streams);
            let text = serde_json::to_vec(&failure).unwrap_or_default();
            // If nobody hears it, the exit code still shows that nothing ran.
            let _ = write(&writer, &text);
            exit_now(127)
        }
        Ok(Forked::Parent(pid)) => pid,
    };
    drop((writer, streams));
    let mut text = Vec::new();
    let heard = File::from(reader).read_to_end(&mut text);
    if heard.is_ok() && text.is_empty() {
        // The pipe has closed by itself: the command has taken the process over.
        return Ok(pid);
    }
    let _ = waitpid(pid, None);
    match serde_json::from_slice(&text) {
        Ok(Failure::Command(report)) => Err(report),
        Ok(Failure::Unconfined { layer, why }) => {
            let layer = layer.map(|layer| format!("{layer}: ")).unwrap_or_default();
            Err(cannot(format!("{layer}{why}")))
        }
        Err(error) => Err(cannot(format!("unreadable reason: {error}"))),
    }
}

/// Never returns but with the reason why it could not.
fn become_command(
    order: &SpawnOrder,
    plan: &Confinement,
    here: &Here<'_>,
    streams: &Streams,
) -> Failure {
    let plumbing = |what: &'static str| {
        move |errno: nix::Error| Failure::Unconfined {
            layer: None,
            why: format!("{what}: {errno}"),
        }
    };
    let prepared = plumb(streams).map_err(plumbing("descriptors and signals"));
    if let Err(failure) = prepared {
        return failure;
    }
    if let Err(wrong) = enter(plan, here) {
        return Failure::Unconfined { layer: wrong.layer, why: wrong.why };
    }
    match run(order) {
        Ok(never) => match never {},
        Err(report) => Failure::Command(report),
    }
}

/// Its streams, a process group of its own, signals as a login shell would find them.
fn plumb(streams: &Streams) -> nix::Result<()> {
    match &streams.input {
        Some(input) => dup2_stdin(input)?,
        None => dup2_stdin(File::open("/dev/null").map_err(|_| nix::Error::ENOENT)?)?,
    }
    dup2_stdout(&streams.output)?;
    dup2_stderr(&streams.output)?;
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    sys::default_broken_pipe();
    // As at a login, whatever the worker was started with.
    umask(Mode::from_bits_truncate(0o022));
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

fn run(order: &SpawnOrder) -> Result<std::convert::Infallible, Report> {
    let name = order.argv.first().map(String::as_str).unwrap_or_default();
    let failed = |error: std::io::Error| exec::classify(name, &error);
    chdir(&order.cwd).map_err(|errno| {
        exec::could_not(format!("working directory {}: {}", order.cwd.display(), errno.desc()))
    })?;
    let program = exec::find(name, order).map_err(|errno| failed(errno.into()))?;
    let text = |text: &str| CString::new(text).map_err(|_| exec::could_not("a NUL character"));
    let program = text(&program.to_string_lossy())?;
    let argv: Vec<CString> =
        order.argv.iter().map(|argument| text(argument)).collect::<Result<_, _>>()?;
    let env: Vec<CString> = order
        .env
        .iter()
        .map(|(key, value)| text(&format!("{key}={value}")))
        .collect::<Result<_, _>>()?;
    execve(&program, &argv, &env).map_err(|errno| failed(errno.into()))
}
