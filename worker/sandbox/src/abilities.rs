//! What a host allows the guard to use, found once at its start by trying.

use std::collections::BTreeMap;
use std::fmt;

use flyball_core::bounds::{Controllers, holders};
use flyball_core::isolation::{Layer, MissingLayers};
use serde::{Deserialize, Serialize};

/// What the guard may use to contain a step. All of it is tried and none is required, but for
/// being a child subreaper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// A PID namespace per step.
    pub pid_namespace: bool,
    /// The same inside a user namespace, if it cannot be had without one.
    pub user_namespace: bool,
    /// A cgroup per step besides.
    pub cgroup: bool,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { pid_namespace: true, user_namespace: true, cgroup: true }
    }
}

impl Isolation {
    /// Nothing but a child subreaper: the weakest form, which works everywhere.
    pub const PLAIN: Self = Self { pid_namespace: false, user_namespace: false, cgroup: false };
}

/// How the processes of a step are held together, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Containment {
    /// The step init is PID 1 of a namespace: the kernel kills all when it ends.
    PidNamespace,
    /// The same, inside a user namespace, as an ordinary user.
    UserPidNamespace,
    /// The step init is the parent of all orphans and kills descendants until none is left.
    Subreaper,
}

impl Containment {
    /// Whether it is PID 1 of a namespace.
    pub fn is_pid_namespace(self) -> bool {
        matches!(self, Self::PidNamespace | Self::UserPidNamespace)
    }

    /// The word for labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PidNamespace => "pid-namespace",
            Self::UserPidNamespace => "user-pid-namespace",
            Self::Subreaper => "subreaper",
        }
    }
}

impl fmt::Display for Abilities {
    /// What holds the processes of a step together, in one word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.containment.as_str())?;
        if self.cgroup { f.write_str("+cgroup-kill") } else { Ok(()) }
    }
}

/// What this guard has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abilities {
    /// How steps are contained.
    pub containment: Containment,
    /// Each step is in a cgroup that is killed whole, whatever else fails.
    pub cgroup: bool,
    /// The controllers that hold bounds of that cgroup.
    pub controllers: Controllers,
    /// The guard's memory cannot be paged out.
    pub memory_locked: bool,
    /// The guard is scheduled before ordinary processes.
    pub priority_raised: bool,
    /// The guard is among the last that the kernel kills when memory ends.
    pub oom_protected: bool,
    /// Why stronger means were not taken, in the order tried.
    pub weaker_because: Vec<String>,
    /// The layers of confinement that this host does not allow, and why.
    pub missing_layers: MissingLayers,
}

impl Abilities {
    /// What holds each bound of a step, by name; see [`flyball_core::bounds`].
    pub fn bounds(&self) -> BTreeMap<String, String> {
        holders(self.controllers, self.own_table())
    }

    fn own_table(&self) -> bool {
        self.containment.is_pid_namespace() && !self.missing_layers.contains_key(&Layer::Pid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_watched_only_where_processes_can_be_told_apart() {
        let mut abilities = Abilities {
            containment: Containment::PidNamespace,
            cgroup: true,
            controllers: Controllers::default(),
            memory_locked: true,
            priority_raised: true,
            oom_protected: true,
            weaker_because: Vec::new(),
            missing_layers: MissingLayers::new(),
        };
        assert_eq!(abilities.bounds()["memory"], "watched");
        abilities.containment = Containment::Subreaper;
        assert_eq!(abilities.bounds()["memory"], "per-process");
        abilities.controllers.memory = true;
        assert_eq!(abilities.bounds()["memory"], "cgroup");
    }
}
