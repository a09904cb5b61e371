//! What holds each bound of a step: a planning table over what the host lets the guard use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Controllers of control groups that a guard may set for its steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Controllers {
    /// `memory.max`, `memory.events`.
    pub memory: bool,
    /// `pids.max`.
    pub processes: bool,
    /// `cpu.max`.
    pub processors: bool,
}

impl Controllers {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Something that a step may take only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// Main memory of all its processes together.
    Memory,
    /// Processes and threads at a time.
    Processes,
    /// Time of processors.
    Processors,
    /// Open files of each process.
    OpenFiles,
    /// Bytes in the directories that it can write to.
    Disk,
    /// Bytes of output in a second.
    Output,
}

impl Bound {
    /// Every bound, in the order in which they are told.
    pub const ALL: [Self; 6] = [
        Self::Memory,
        Self::Processes,
        Self::Processors,
        Self::OpenFiles,
        Self::Disk,
        Self::Output,
    ];

    /// The name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processes => "processes",
            Self::Processors => "processors",
            Self::OpenFiles => "openFiles",
            Self::Disk => "disk",
            Self::Output => "output",
        }
    }

    /// The name for people.
    const fn words(self) -> &'static str {
        match self {
            Self::OpenFiles => "open files",
            other => other.name(),
        }
    }

    /// What holds it.
    pub const fn holder(self, controllers: Controllers, own_table: bool) -> Holder {
        match self {
            Self::Memory if controllers.memory => Holder::Cgroup,
            Self::Memory if own_table => Holder::Watched,
            Self::Memory => Holder::PerProcess,
            Self::Processes if controllers.processes => Holder::Cgroup,
            // RLIMIT_NPROC: of the step alone where it has a user namespace of its own.
            Self::Processes => Holder::PerUser,
            Self::Processors if controllers.processors => Holder::Cgroup,
            Self::Processors => Holder::Affinity,
            Self::OpenFiles => Holder::PerProcess,
            Self::Disk => Holder::Watched,
            Self::Output => Holder::Init,
        }
    }

    /// Whether a host could hold it better than that.
    const fn could_be_stronger(self, holder: Holder) -> bool {
        let by_cgroup = matches!(self, Self::Memory | Self::Processes | Self::Processors);
        (by_cgroup && !matches!(holder, Holder::Cgroup)) || matches!(self, Self::Disk)
    }
}

/// What holds a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The kernel, for all processes of the step together, exactly.
    Cgroup,
    /// The step's init, which looks again and again: it is exceeded for as long as a look takes.
    Watched,
    /// The kernel, for each process by itself.
    PerProcess,
    /// The kernel, for the user that the step is.
    PerUser,
    /// The kernel, as whole processors that the step may run on.
    Affinity,
    /// The step's init, through which all of it passes.
    Init,
}

impl Holder {
    /// The name in documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Watched => "watched",
            Self::PerProcess => "per-process",
            Self::PerUser => "per-user",
            Self::Affinity => "affinity",
            Self::Init => "step-init",
        }
    }
}

/// The holder of every bound, by their names in documents. `own_table`: a step has a process table of its own.
pub fn holders(controllers: Controllers, own_table: bool) -> BTreeMap<String, String> {
    let one = |bound: Bound| {
        (bound.name().to_owned(), bound.holder(controllers, own_table).name().to_owned())
    };
    Bound::ALL.into_iter().map(one).collect()
}

/// The same for people, on one line: what has the same holder together, and which of it is weaker than it could be.
/// `found` is a document, so names of later versions are told as they are.
pub fn describe(found: &BTreeMap<String, String>) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for bound in Bound::ALL {
        let Some(holder) = found.get(bound.name()) else { continue };
        let known = [Holder::Cgroup, Holder::Watched, Holder::PerProcess, Holder::PerUser];
        let known = known.into_iter().chain([Holder::Affinity, Holder::Init]);
        let weaker = known.into_iter().find(|one| one.name() == holder);
        let weaker = weaker.is_some_and(|one| bound.could_be_stronger(one));
        let text = format!("{holder}{}", if weaker { " (weaker)" } else { "" });
        match groups.iter_mut().find(|(other, _)| *other == text) {
            Some((_, bounds)) => bounds.push(bound.words()),
            None => groups.push((text, vec![bound.words()])),
        }
    }
    let groups = groups.iter().map(|(text, bounds)| format!("{} {text}", bounds.join(", ")));
    groups.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Controllers = Controllers { memory: true, processes: true, processors: true };
    const NONE: Controllers = Controllers { memory: false, processes: false, processors: false };

    #[test]
    fn each_bound_has_the_strongest_holder_there_is() {
        let table = [
            (ALL, true, ["cgroup", "cgroup", "cgroup"]),
            (ALL, false, ["cgroup", "cgroup", "cgroup"]),
            (NONE, true, ["watched", "per-user", "affinity"]),
            (NONE, false, ["per-process", "per-user", "affinity"]),
            (Controllers { processes: true, ..NONE }, true, ["watched", "cgroup", "affinity"]),
        ];
        for (controllers, own_table, expected) in table {
            let found = holders(controllers, own_table);
            let found = ["memory", "processes", "processors"].map(|name| found[name].as_str());
            assert_eq!(found, expected, "{controllers:?}");
        }
        assert_eq!(holders(ALL, true).len(), Bound::ALL.len());
    }

    #[test]
    fn any_controller_is_one() {
        assert!(NONE.is_empty());
        for one in [
            Controllers { memory: true, ..NONE },
            Controllers { processes: true, ..NONE },
            Controllers { processors: true, ..NONE },
        ] {
            assert!(!one.is_empty(), "{one:?}");
        }
    }

    #[test]
    fn what_is_weaker_is_told() {
        let text = describe(&holders(NONE, true));
        assert_eq!(
            text,
            "memory, disk watched (weaker); processes per-user (weaker); processors affinity (weaker); \
             open files per-process; output step-init"
        );
        let text = describe(&holders(ALL, true));
        assert!(text.starts_with("memory, processes, processors cgroup; open files"), "{text}");
        assert_eq!(describe(&BTreeMap::new()), "");
    }
}
