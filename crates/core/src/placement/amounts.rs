//! The countable resources one by one: their names, their amounts and how amounts are shown.

use std::fmt;

use crate::node::Resources;
use crate::quantity::CpuMillis;

/// One kind of countable resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Countable {
    /// Processor time; amounts in thousandths of a core.
    Cpu,
    /// Main memory; amounts in bytes.
    Memory,
    /// Disk for workspaces; amounts in bytes.
    Disk,
    /// Anything else, by name; amounts as they are.
    Custom(String),
}

impl Countable {
    /// The amount of it.
    pub fn of(&self, resources: &Resources) -> u64 {
        match self {
            Self::Cpu => resources.cpu.0,
            Self::Memory => resources.memory.0,
            Self::Disk => resources.disk.0,
            Self::Custom(name) => resources.custom.get(name).copied().unwrap_or(0),
        }
    }

    /// An amount of it as people read it. Bytes are rounded down to a tenth of their unit, so that
    /// something short of 1 GiB never shows as 1Gi.
    pub fn show(&self, amount: u64) -> String {
        match self {
            Self::Cpu => CpuMillis(amount).to_string(),
            Self::Memory | Self::Disk => show_bytes(amount),
            Self::Custom(_) => amount.to_string(),
        }
    }
}

impl fmt::Display for Countable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::Custom(name) => name,
        })
    }
}

/// What is needed at all, in a fixed order.
pub(super) fn wanted(needs: &Resources) -> impl Iterator<Item = (Countable, u64)> {
    let with_need = scored(needs).map(|countable| {
        let need = countable.of(needs);
        (countable, need)
    });
    with_need.filter(|(_, need)| *need > 0)
}

/// What counts for the score: what every node has, and the custom resources that are needed.
pub(super) fn scored(needs: &Resources) -> impl Iterator<Item = Countable> {
    let custom = needs.custom.iter().filter(|(_, need)| **need > 0);
    let custom = custom.map(|(name, _)| Countable::Custom(name.clone()));
    [Countable::Cpu, Countable::Memory, Countable::Disk].into_iter().chain(custom)
}

fn show_bytes(bytes: u64) -> String {
    let units = [("Ti", 1 << 40), ("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    let Some((unit, size)) = units.into_iter().find(|(_, size)| bytes >= *size) else {
        return bytes.to_string();
    };
    let tenths = bytes % size * 10 / size;
    if tenths == 0 {
        format!("{}{unit}", bytes / size)
    } else {
        format!("{}.{tenths}{unit}", bytes / size)
    }
}
