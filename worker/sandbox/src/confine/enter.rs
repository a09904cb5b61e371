//! From a forked process to a confined one, in the order in which each layer still can be put on.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};

use flyball_core::isolation::Layer;
use nix::sched::CloneFlags;
use nix::unistd::sethostname;

use super::{Confinement, Enforcement, landlock, limits, tree, users};
use crate::socket::Socket;
use crate::sys;

/// The name that a step finds its host to have.
const HOST_NAME: &str = "flyball";

/// A layer that could not be put on. Nothing of the command has run.
#[derive(Debug, Clone)]
pub(crate) struct Unconfined {
    /// Which; none for the limits.
    pub(crate) layer: Option<Layer>,
    /// Why.
    pub(crate) why: String,
}

impl Unconfined {
    fn of<E: std::fmt::Display>(layer: Layer) -> impl FnOnce(E) -> Self {
        move |why| Self { layer: Some(layer), why: why.to_string() }
    }
}

/// What of this step's init its command needs.
pub(crate) struct Here<'a> {
    /// What is enforced.
    pub(crate) with: &'a Enforcement,
    /// The user that the step becomes, under root, with the mapping for its mounts.
    pub(crate) user: Option<(u32, OwnedFd)>,
    /// Where listeners go.
    pub(crate) worker: Option<&'a Socket>,
    /// Number of the step.
    pub(crate) step: u64,
    /// Whether the kernel holds the memory of all its processes together, in a control group.
    pub(crate) memory_held: bool,
    /// Names and values of secrets, some of which it may find as files.
    pub(crate) secrets: &'a [(String, String)],
}

/// The namespaces that a confined step is forked into, besides those of its init.
pub(crate) fn namespaces(with: &Enforcement) -> CloneFlags {
    let of = [
        (Layer::Mount, CloneFlags::CLONE_NEWNS),
        (Layer::Ipc, CloneFlags::CLONE_NEWIPC),
        (Layer::Uts, CloneFlags::CLONE_NEWUTS),
        (Layer::Network, CloneFlags::CLONE_NEWNET),
    ];
    of.into_iter().filter(|(layer, _)| with.has(*layer)).map(|(_, flag)| flag).collect()
}

/// Puts on every layer that this host has, in a process that was forked into [`namespaces`].
pub(crate) fn enter(plan: &Confinement, here: &Here<'_>) -> Result<(), Unconfined> {
    let with = here.with;
    if with.has(Layer::Network) {
        sys::bring_loopback_up().map_err(Unconfined::of(Layer::Network))?;
        listen(plan, here.worker).map_err(Unconfined::of(Layer::Network))?;
    }
    if with.has(Layer::Uts) {
        sethostname(HOST_NAME).map_err(Unconfined::of(Layer::Uts))?;
    }
    let limit = |what: &'static str| {
        move |errno: nix::Error| Unconfined { layer: None, why: format!("{what}: {errno}") }
    };
    if with.has(Layer::Ipc) {
        limits::set_shared_segments(&plan.limits);
    }
    limits::set_processors(plan.limits.cpu_millis, here.step).map_err(limit("processors"))?;
    let outer = here.user.as_ref().filter(|_| with.has(Layer::User));
    if with.has(Layer::Mount) {
        tree::build(plan, outer, with.has(Layer::Landlock), here.secrets)
            .map_err(Unconfined::of(Layer::Mount))?;
    } else if !plan.secret_files.is_empty() {
        let why = "secrets as files need a file tree of the step's own".to_owned();
        return Err(Unconfined { layer: Some(Layer::Mount), why });
    }
    if with.has(Layer::User) {
        users::become_user(outer.map(|(user, _)| *user)).map_err(Unconfined::of(Layer::User))?;
    }
    if !with.layers.contains(&Layer::User) && nix::unistd::geteuid().is_root() {
        // It stays root, but root's rights over its own files are all that this means then.
        sys::give_up_privileges().map_err(Unconfined::of(Layer::User))?;
    }
    limits::set_limits(&plan.limits, here.memory_held).map_err(limit("limits"))?;
    if with.has(Layer::Landlock) {
        landlock::restrict(plan, with.has(Layer::Mount), with.has(Layer::Network))
            .map_err(Unconfined::of(Layer::Landlock))?;
    }
    if with.has(Layer::Seccomp) {
        with.filters.apply().map_err(Unconfined::of(Layer::Seccomp))?;
    }
    Ok(())
}

/// Listens where the worker is to answer, and hands it the listeners.
fn listen(plan: &Confinement, worker: Option<&Socket>) -> Result<(), String> {
    let Some(worker) = worker else { return Ok(()) };
    for port in &plan.listen {
        let listener = TcpListener::bind(("127.0.0.1", *port))
            .map_err(|error| format!("127.0.0.1:{port}: {error}"))?;
        worker.send(port, &[listener.as_fd()]).map_err(|error| error.to_string())?;
    }
    Ok(())
}
