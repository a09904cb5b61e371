//! Finding out at a guard's start by which layers its steps can be confined.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use flyball_core::isolation::{Layer, MissingLayers};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use super::inits::Init;
use crate::confine::{Enforcement, Filters};
use crate::socket::Received;
use crate::step::Surroundings;
use crate::wire::{InitNews, Order};

/// Longest wait for the answer: a few forks and mounts for each layer that fails.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The layers that do not need to be in namespaces already.
const ALONE: [Layer; 2] = [Layer::Landlock, Layer::Seccomp];

/// Asks an init that is set up, and prepares what its successors need.
pub(super) fn find(
    around: &Surroundings,
    init: &Init,
    dir: PathBuf,
    weaker_because: &[String],
) -> Result<Enforcement, String> {
    let mut missing = MissingLayers::new();
    let wanted: BTreeSet<Layer> = match around.containment.is_pid_namespace() {
        true => Layer::ALL.into(),
        false => {
            // Groups have no part in confining.
            let about = |why: &&String| !why.starts_with("cgroup");
            let why: Vec<&str> = weaker_because.iter().filter(about).map(String::as_str).collect();
            let why = why.join("; ");
            let without = Layer::ALL.into_iter().filter(|layer| !ALONE.contains(layer));
            missing.extend(without.map(|layer| (layer, why.clone())));
            ALONE.into()
        }
    };
    let probed = ask(init, Order::Probe { layers: wanted, dir })?;
    missing.extend(probed.missing);
    let layers = probed.layers;
    let filters = match layers.contains(&Layer::Seccomp) {
        true => Filters::compile(layers.contains(&Layer::Network))?,
        false => Filters::default(),
    };
    Ok(Enforcement { layers, missing, filters, users: None })
}

fn ask(init: &Init, order: Order) -> Result<crate::confine::LayerProbe, String> {
    let socket = init.socket.as_ref().ok_or("the first step init has no socket")?;
    socket.send(&order, &[]).map_err(|error| format!("asking for layers: {error}"))?;
    let give_up = Instant::now() + ANSWER_MAX;
    loop {
        match socket.receive(false) {
            Received::Frame(InitNews::Probed(probed), _) => return Ok(probed),
            Received::Nothing if Instant::now() < give_up => {
                let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut fds, PollTimeout::from(100_u8));
            }
            Received::Nothing => return Err("finding out layers takes too long".to_owned()),
            Received::Frame(..) => return Err("an unexpected answer about layers".to_owned()),
            Received::End => return Err("the first step init died finding out layers".to_owned()),
            Received::Malformed(why) => return Err(why),
        }
    }
}
