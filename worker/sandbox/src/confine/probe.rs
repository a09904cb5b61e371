//! Which layers this host lets a guard use, found by putting them on in a process that executes nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;

use flyball_core::isolation::Layer;
use nix::sys::wait::waitpid;
use serde::{Deserialize, Serialize};

use super::{
    Confinement, Enforcement, Here, OuterUsers, UserMaps, Who, Writable, enter, namespaces,
};
use crate::sys::{self, Forked, exit_now};

/// What was found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LayerProbe {
    /// What works.
    pub(crate) layers: BTreeSet<Layer>,
    /// What does not, and why.
    pub(crate) missing: flyball_core::isolation::MissingLayers,
}

/// Tries all of `with`'s layers, and again without each that fails, for a step that could write to `dir`.
pub(crate) fn find(mut with: Enforcement, maps: &UserMaps, dir: PathBuf) -> LayerProbe {
    let plan = Confinement { write: vec![Writable::all(dir)], ..Confinement::default() };
    while let Err((layer, why)) = attempt(&plan, &with, maps) {
        with.layers.remove(&layer);
        with.missing.insert(layer, why);
    }
    LayerProbe { layers: with.layers, missing: with.missing }
}

/// Once; the layer that failed, which is one of those that were tried.
fn attempt(plan: &Confinement, with: &Enforcement, maps: &UserMaps) -> Result<(), (Layer, String)> {
    let has = |layer: &Layer| with.layers.contains(layer);
    let Some(any) = Layer::ALL.iter().find(|layer| has(layer)).copied() else { return Ok(()) };
    let user = with.users.filter(|_| has(&Layer::User)).map(|users: OuterUsers| {
        let user = users.of_step(Who::Agent);
        maps.get(user).map(|map| (user, map))
    });
    let user = match user.transpose() {
        Ok(user) => user,
        Err(errno) => return Err((Layer::User, format!("user namespace: {errno}"))),
    };
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
        .map_err(|errno| (any, format!("pipe: {errno}")))?;
    match sys::fork(namespaces(with)) {
        Err(errno) => {
            // Which of the namespaces it is cannot be told; the outermost is left out first.
            let of = [Layer::Network, Layer::Ipc, Layer::Uts, Layer::Mount];
            let layer = of.into_iter().find(|layer| has(layer)).unwrap_or(any);
            Err((layer, format!("namespaces: {errno}")))
        }
        Ok(Forked::Child) => {
            let here = Here { with, user, worker: None, step: 0, memory_held: false, secrets: &[] };
            if let Err(wrong) = enter(plan, &here) {
                let told = (wrong.layer.unwrap_or(any), wrong.why);
                let text = serde_json::to_vec(&told).unwrap_or_default();
                // Whoever does not hear it sees the exit code.
                let _ = nix::unistd::write(&writer, &text);
                exit_now(1);
            }
            exit_now(0)
        }
        Ok(Forked::Parent(pid)) => {
            drop(writer);
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text);
            match waitpid(pid, None) {
                Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => Ok(()),
                how => {
                    let told: Option<(Layer, String)> = serde_json::from_str(&text).ok();
                    let (layer, why) = told.unwrap_or_else(|| (any, format!("it died: {how:?}")));
                    Err((if has(&layer) { layer } else { any }, why))
                }
            }
        }
    }
}
