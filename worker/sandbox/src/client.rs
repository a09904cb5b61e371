//! The worker's side of the guard.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flyball_core::lease::BootInstant;
use flyball_core::planted;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tokio::sync::{oneshot, watch};

use crate::abilities::Abilities;
use crate::clock::boottime;
use crate::config::{GuardConfig, GuardError, GuardLoss, Reporter, SpawnError, Step};
use crate::handle::{Listeners, StepHandle};
use crate::line::{Line, Reader};
use crate::lock::{StateLock, acquire_state_dir};
use crate::page::{Page, Permit};
use crate::socket::{SendError, Socket};
use crate::wire::{FRAME_BYTES_MAX, Hello, Order, PROTOCOL, SpawnOrder};

/// Longest wait for a new guard's first word. It takes milliseconds; a machine that needs more than
/// this cannot keep deadlines.
const READY_WAIT_MAX: Duration = Duration::from_secs(10);
/// What the guard process itself is given of the worker's environment.
const GUARD_ENV: [&str; 3] = ["PATH", "LD_LIBRARY_PATH", "RUST_BACKTRACE"];

/// Control runs plant bugs in the guard too.
const PLANT_ENV: &[&str] =
    if planted::POSSIBLE { &["FLYBALL_PLANT", "FLYBALL_LAYERS_OFF"] } else { &[] };

/// A running guard. Clones are the same guard; when the last one and all step handles are gone, the
/// guard kills everything and exits.
#[derive(Clone)]
pub struct Guard {
    line: Arc<Line>,
    abilities: Arc<Abilities>,
    pid: u32,
    loss: watch::Receiver<Option<GuardLoss>>,
}

/// Moves the deadline. Cheap, never waits, and works from any thread: it stores a number into a
/// page that guard and step inits read by themselves.
#[derive(Clone)]
pub struct Extender {
    line: Arc<Line>,
}

impl Extender {
    /// Everything may run until `until`; earlier than what was said before changes nothing. False
    /// if the deadline has already passed or the guard's life was ended: nothing revives it.
    #[must_use = "false means that everything is being killed"]
    pub fn extend(&self, until: BootInstant) -> bool {
        self.line.page.extend(until)
    }

    /// How long everything may still run, by what was said last; `None` before the first word and once the deadline
    /// has passed.
    pub fn left(&self) -> Option<Duration> {
        match self.line.page.permit() {
            Permit::Until(until) => Some(boottime().until(until)),
            Permit::None | Permit::Over => None,
        }
    }

    /// The lease is lost: everything is killed now and the guard exits.
    pub fn end(&self) {
        self.line.page.end();
        // If the socket is full or gone, closing it has the same effect.
        if self.line.socket.send(&Order::End, &[]).is_err() {
            self.line.socket.shut_down();
        }
    }
}

impl Guard {
    /// Locks the state directory, then starts a guard. See [`Guard::start_with`].
    ///
    /// # Errors
    /// See [`GuardError`].
    pub async fn start(config: GuardConfig) -> Result<Self, GuardError> {
        let lock = acquire_state_dir(&config.state_dir, config.lock_timeout).await?;
        Self::start_with(lock, config).await
    }

    /// Starts a guard and waits until it is ready. The guard gets a share of the lock, so it stays
    /// locked until this worker *and* everything that runs under the guard are gone. Nothing may run
    /// before the first [`Extender::extend`].
    ///
    /// # Errors
    /// See [`GuardError`].
    pub async fn start_with(lock: StateLock, config: GuardConfig) -> Result<Self, GuardError> {
        let failed = |what| move |source: io::Error| GuardError::Start { what, source };
        let (ours, theirs) = Socket::pair().map_err(|errno| failed("socket")(errno.into()))?;
        let (page, file) = Page::create().map_err(|errno| failed("shared page")(errno.into()))?;
        let child = spawn_guard(&config.command, theirs.into_fd())?;
        let pid = child.id();
        let hello = Order::Hello(Hello {
            protocol: PROTOCOL,
            kill_budget_ms: u64::try_from(config.kill_budget.as_millis()).unwrap_or(u64::MAX),
            isolation: config.isolation,
            state_dir: config.state_dir.clone(),
        });
        let line = Arc::new(Line::new(ours, page));
        let (told_ready, ready) = oneshot::channel();
        let (told_loss, loss) = watch::channel(None);
        let hello_sent = line.socket.send(&hello, &[lock.file().as_fd(), file.as_fd()]);
        let reader = Reader::new(&line, child, lock);
        let socket = line.socket.as_fd().try_clone_to_owned().map_err(failed("socket"))?;
        std::thread::Builder::new()
            .name("guard-reader".into())
            .spawn(move || reader.run(&Socket::from_fd(socket), told_ready, &told_loss))
            .map_err(failed("reader thread"))?;
        hello_sent.map_err(|error| GuardError::NotReady(error.to_string()))?;
        let abilities = match tokio::time::timeout(READY_WAIT_MAX, ready).await {
            Ok(Ok(Ok(abilities))) => abilities,
            Ok(Ok(Err(reason))) => return Err(GuardError::Unable(reason)),
            Ok(Err(_)) => return Err(GuardError::NotReady("it exited".into())),
            Err(_) => return Err(GuardError::NotReady("it says nothing".into())),
        };
        Ok(Self { line, abilities: Arc::new(abilities), pid, loss })
    }

    /// What this guard has; found by trying, so it does not change.
    pub fn abilities(&self) -> &Abilities {
        &self.abilities
    }

    /// The guard's process, for logs.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What moves the deadline.
    pub fn extender(&self) -> Extender {
        Extender { line: Arc::clone(&self.line) }
    }

    /// Says what the guard becomes once this worker is gone, or stands still past the deadline, and
    /// nothing is left. The last word counts; without any it only exits.
    ///
    /// # Errors
    /// The note could not be stored or the guard does not take it; nothing has changed.
    pub fn report_with(&self, reporter: Reporter) -> io::Result<()> {
        let note = sealed(&reporter.note)?;
        let order = Order::Reporter { arguments: reporter.arguments };
        self.line.send(&order, std::slice::from_ref(&note)).map_err(io::Error::other)
    }

    /// Hands a step to the guard. Never waits for it to start; a program that cannot be started is
    /// how the step ends. Does a few short system calls (it makes the output file).
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing of the step ran.
    pub fn spawn(&self, step: Step) -> Result<StepHandle, SpawnError> {
        self.spawn_redacting(step, Vec::new())
    }

    /// Like [`Guard::spawn`], with values (name, value) that are taken out of the output before any of it
    /// is written.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing of the step ran.
    pub fn spawn_redacting(
        &self,
        step: Step,
        secrets: Vec<(String, String)>,
    ) -> Result<StepHandle, SpawnError> {
        match self.line.page.permit() {
            Permit::Until(_) => {}
            Permit::None => return Err(SpawnError::NoDeadline),
            Permit::Over => return Err(SpawnError::DeadlinePassed),
        }
        step.check()?;
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            // Not waiting: should somebody have put a named pipe there, it is an error.
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&step.output)
            .map_err(|source| SpawnError::Output { path: step.output.clone(), source })?;
        let input = step.stdin.as_deref().map(sealed).transpose();
        let input = input.map_err(|_| SpawnError::Busy("no memory or descriptor is left"))?;
        let (listeners, theirs) = match &step.confinement {
            Some(plan) if !plan.listen.is_empty() => {
                let pair = Socket::pair();
                let (ours, theirs) = pair.map_err(|_| SpawnError::Busy("no descriptor is left"))?;
                (Some(Listeners::new(ours)), Some(theirs))
            }
            _ => (None, None),
        };
        let id = self.line.next_id.fetch_add(1, Ordering::Relaxed);
        let end = self.line.expect(id)?;
        let order = Order::Spawn(SpawnOrder {
            id,
            argv: step.argv,
            cwd: step.cwd,
            env: step.env,
            stdin: input.is_some(),
            output_bytes_max: step.output_bytes_max,
            group: None,
            secrets,
            timeout_ms: u64::try_from(step.timeout.as_millis()).unwrap_or(u64::MAX),
            confinement: step.confinement.map(Box::new),
        });
        tracing::debug!(step = id, label = step.label, "step");
        let mut fds = vec![OwnedFd::from(file)];
        fds.extend(input);
        fds.extend(theirs.map(Socket::into_fd));
        match self.line.send(&order, &fds) {
            Ok(()) => Ok(StepHandle::new(Arc::clone(&self.line), id, end, listeners)),
            Err(error) => {
                self.line.waiting().steps.remove(&id);
                Err(match error {
                    SendError::Full => SpawnError::Busy("its socket is full"),
                    SendError::TooLarge { bytes } => {
                        SpawnError::TooLarge { bytes, limit: FRAME_BYTES_MAX }
                    }
                    SendError::Gone(errno) => {
                        let loss = self.line.waiting().loss.clone();
                        let reason = errno.desc().to_owned();
                        loss.unwrap_or(GuardLoss { reason, proven: false }).into()
                    }
                })
            }
        }
    }

    /// Kills all steps and waits until the guard has proven that none of their processes is left.
    /// The guard stays usable.
    ///
    /// # Errors
    /// The guard went away; see [`GuardLoss::proven`] whether it could still say that all is dead.
    pub async fn kill_all_and_prove(&self) -> Result<(), GuardLoss> {
        let (sender, dead) = oneshot::channel();
        {
            let mut waiting = self.line.waiting();
            if let Some(loss) = &waiting.loss {
                return Err(loss.clone());
            }
            waiting.all_dead.push(sender);
        }
        if self.line.socket.send(&Order::KillAll, &[]).is_err() {
            // A guard that does not take this is not one to trust; without us it kills everything.
            self.line.socket.shut_down();
        }
        match dead.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.lost().await),
        }
    }

    /// Kills everything, proves it, and ends the guard.
    pub async fn shut_down(&self) -> GuardLoss {
        self.extender().end();
        self.lost().await
    }

    /// Waits until the guard is gone: it was ended, the deadline passed, or it died.
    pub async fn lost(&self) -> GuardLoss {
        let mut loss = self.loss.clone();
        match loss.wait_for(Option::is_some).await {
            Ok(found) => found.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| GuardLoss { reason: "its reader ended".into(), proven: false })
    }
}

/// Unnamed memory with these bytes, to be read from their start and never to be changed.
fn sealed(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(c"flyball-note", flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
    Ok(file.into())
}

fn spawn_guard(command: &[String], socket: OwnedFd) -> Result<Child, GuardError> {
    let failed = |source| GuardError::Start { what: "its program", source };
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidInput, "empty command")))?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(
            GUARD_ENV
                .iter()
                .chain(PLANT_ENV)
                .filter_map(|key| std::env::var_os(key).map(|value| (key, value))),
        )
        .stdin(socket)
        .stdout(Stdio::null())
        .spawn()
        .map_err(failed)
}
