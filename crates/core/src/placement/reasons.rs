//! Why a node does not fit, for one node and summed up over all, with numbers.

use std::fmt;

use super::Resting;
use super::amounts::Countable;
use crate::ids::NodeName;
use crate::isolation::Layer;

/// One thing that keeps a loop off a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// A required label is missing or has another value.
    Label {
        /// Its key.
        key: String,
        /// The value that is required.
        need: String,
        /// The value the node has, if any.
        found: Option<String>,
    },
    /// Not enough of something; never enough if the need is over the capacity.
    Short {
        /// Of what.
        countable: Countable,
        /// Needed.
        need: u64,
        /// Free now.
        free: u64,
        /// There in all.
        capacity: u64,
    },
    /// The loop wants every layer of isolation, and the node goes without some.
    Isolation {
        /// The layers; none: the node does not say.
        missing: Vec<Layer>,
    },
    /// The loop's sandbox names what the node does not offer.
    NotOffered {
        /// What, in the manifest's words.
        what: Vec<String>,
    },
    /// All slots are taken; for ever if there are none.
    NoSlot {
        /// Slots in all.
        slots: u32,
    },
    /// The node has no session.
    Offline,
    /// It failed to start runs, and gets none for a while.
    Resting(Resting),
    /// An operator keeps new runs off the node.
    Cordoned,
    /// An operator takes all runs off the node.
    Draining,
}

/// What keeps a loop off one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReason {
    /// The node.
    pub node: NodeName,
    /// Labels first, then amounts, then what operators and time change. Empty if the loop fits.
    pub misfits: Vec<Misfit>,
}

impl Misfit {
    /// True when waiting cannot help: the node would not fit even if it were empty and online.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Label { .. } | Self::Isolation { .. } | Self::NotOffered { .. } => true,
            Self::Short { need, capacity, .. } => need > capacity,
            Self::NoSlot { slots } => *slots == 0,
            Self::Offline | Self::Resting(_) | Self::Cordoned | Self::Draining => false,
        }
    }

    /// How far the node is from ever fitting, in thousandths of what is needed.
    fn shortfall(&self) -> u64 {
        if let Self::Short { need, capacity, .. } = self {
            let missing = u128::from(need.saturating_sub(*capacity)) * 1000;
            return u64::try_from(missing.div_ceil(u128::from((*need).max(1)))).unwrap_or(1000);
        }
        if self.is_permanent() { 1000 } else { 0 }
    }
}

impl fmt::Display for Misfit {
    /// What the node does, in the third person: `lacks gpu (need 1, have 0)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label { key, need, found: None } => {
                write!(f, "lacks label {key}={need}")
            }
            Self::Label { key, need, found: Some(found) } => {
                write!(f, "has label {key}={found} (need {need})")
            }
            Self::Short { countable, need, free, capacity } => {
                let [need_text, free, have] =
                    [*need, *free, *capacity].map(|amount| countable.show(amount));
                if need > capacity {
                    write!(f, "lacks {countable} (need {need_text}, have {have})")
                } else {
                    write!(f, "is short of {countable} (need {need_text}, free {free} of {have})")
                }
            }
            Self::Isolation { missing } if missing.is_empty() => {
                f.write_str("does not say how well it isolates runs (need all layers)")
            }
            Self::Isolation { missing } => {
                let names: Vec<&str> = missing.iter().map(|layer| layer.name()).collect();
                write!(f, "isolates runs without {} (need all layers)", names.join(", "))
            }
            Self::NotOffered { what } => write!(f, "does not offer {}", what.join(", ")),
            Self::NoSlot { slots: 0 } => f.write_str("has no slots"),
            Self::NoSlot { slots } => write!(f, "is full ({slots} of {slots} slots used)"),
            Self::Offline => f.write_str("is offline"),
            Self::Resting(Resting { faults, seconds }) => {
                let runs = if *faults == 1 { "a run" } else { &format!("{faults} runs in a row") };
                write!(f, "could not start {runs}, and is avoided for {seconds} s more")
            }
            Self::Cordoned => f.write_str("is cordoned"),
            Self::Draining => f.write_str("is draining"),
        }
    }
}

impl NodeReason {
    /// Whether the node may fit later, as far as is known of it.
    pub(super) fn may_pass(&self) -> bool {
        !self.misfits.iter().any(Misfit::is_permanent)
    }

    /// How far the node is from ever fitting; smaller is nearer.
    pub(super) fn shortfall(&self) -> u64 {
        self.misfits.iter().map(Misfit::shortfall).sum()
    }

    /// The one thing the summary counts the node under: what can never pass before what may, and
    /// an absent node before a busy one.
    fn main_misfit(&self) -> Option<&Misfit> {
        self.misfits.iter().min_by_key(|misfit| match misfit {
            permanent if permanent.is_permanent() => 0,
            Misfit::Offline => 1,
            Misfit::Draining => 2,
            Misfit::Cordoned => 3,
            Misfit::Resting(_) => 4,
            _ => 5,
        })
    }
}

impl fmt::Display for NodeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.node)?;
        if self.misfits.is_empty() {
            return f.write_str(" fits");
        }
        for (index, misfit) in self.misfits.iter().enumerate() {
            let separator = if index == 0 { " " } else { ", " };
            write!(f, "{separator}{misfit}")?;
        }
        Ok(())
    }
}

/// Nodes that the summary counts together.
struct Group<'a> {
    first: &'a Misfit,
    all: Vec<&'a Misfit>,
}

/// "0 of 3 nodes fit: 2 lack gpu (need 1, have 0), 1 is cordoned": every node is counted once, the
/// largest groups first.
pub(super) fn summary(reasons: &[NodeReason]) -> String {
    if reasons.is_empty() {
        return "no node is known yet".to_owned();
    }
    let mut groups: Vec<Group<'_>> = Vec::new();
    for misfit in reasons.iter().filter_map(NodeReason::main_misfit) {
        match groups.iter_mut().find(|group| same_kind(group.first, misfit)) {
            Some(group) => group.all.push(misfit),
            None => groups.push(Group { first: misfit, all: vec![misfit] }),
        }
    }
    // Stable: groups of one size stay in the order of their first node.
    groups.sort_by_key(|group| std::cmp::Reverse(group.all.len()));
    let parts: Vec<String> = groups.iter().map(Group::show).collect();
    let noun = if reasons.len() == 1 { "node fits" } else { "nodes fit" };
    format!("0 of {} {noun}: {}", reasons.len(), parts.join(", "))
}

/// "no known node can ever fit: nearest is n2, which lacks gpu (need 4, have 2) (0 of 3 …)".
pub(super) fn never_summary(reasons: &[NodeReason], nearest: Option<&NodeReason>) -> String {
    let all = summary(reasons);
    let Some(nearest) = nearest else { return all };
    let lacks: Vec<String> = nearest
        .misfits
        .iter()
        .filter(|misfit| misfit.is_permanent())
        .map(Misfit::to_string)
        .collect();
    let nearest_part = format!("nearest is {}, which {}", nearest.node, lacks.join(" and "));
    if reasons.len() == 1 {
        return format!("no known node can ever fit: {nearest_part}");
    }
    format!("no known node can ever fit: {nearest_part} ({all})")
}

fn same_kind(one: &Misfit, two: &Misfit) -> bool {
    match (one, two) {
        (Misfit::Label { key: one, .. }, Misfit::Label { key: two, .. }) => one == two,
        (Misfit::Short { countable: a, .. }, Misfit::Short { countable: b, .. }) => {
            a == b && one.is_permanent() == two.is_permanent()
        }
        (Misfit::NoSlot { .. }, Misfit::NoSlot { .. }) => one.is_permanent() == two.is_permanent(),
        (Misfit::Resting(_), Misfit::Resting(_)) => true,
        _ => one == two,
    }
}

impl Group<'_> {
    /// One part of the summary: how many nodes, and what they have in common.
    fn show(&self) -> String {
        let count = self.all.len();
        if count == 1 {
            return format!("1 {}", self.first);
        }
        let best = |amount: fn(&Misfit) -> u64| {
            self.all.iter().map(|misfit| amount(misfit)).max().unwrap_or(0)
        };
        let what = match self.first {
            Misfit::Label { key, need, .. } => format!("lack label {key}={need}"),
            Misfit::Short { countable, need, .. } => {
                let need = countable.show(*need);
                if self.first.is_permanent() {
                    let (have, same) = (best(capacity), self.all_equal(capacity));
                    let have = format!("{}{}", at_most(same), countable.show(have));
                    format!("lack {countable} (need {need}, have {have})")
                } else {
                    let (free, same) = (best(free), self.all_equal(free));
                    let free = format!("{}{}", at_most(same), countable.show(free));
                    format!("are short of {countable} (need {need}, free {free})")
                }
            }
            Misfit::Isolation { missing } if missing.is_empty() => {
                "do not say how well they isolate runs (need all layers)".to_owned()
            }
            Misfit::Isolation { missing } => {
                let names: Vec<&str> = missing.iter().map(|layer| layer.name()).collect();
                format!("isolate runs without {} (need all layers)", names.join(", "))
            }
            Misfit::NotOffered { what } => format!("do not offer {}", what.join(", ")),
            Misfit::NoSlot { slots: 0 } => "have no slots".to_owned(),
            Misfit::NoSlot { .. } => "are full (no free slot)".to_owned(),
            Misfit::Offline => "are offline".to_owned(),
            Misfit::Resting(_) => "could not start runs and are avoided for a while".to_owned(),
            Misfit::Cordoned => "are cordoned".to_owned(),
            Misfit::Draining => "are draining".to_owned(),
        };
        format!("{count} {what}")
    }

    fn all_equal(&self, amount: fn(&Misfit) -> u64) -> bool {
        self.all.iter().all(|misfit| amount(misfit) == amount(self.first))
    }
}

fn at_most(same: bool) -> &'static str {
    if same { "" } else { "at most " }
}

fn capacity(misfit: &Misfit) -> u64 {
    if let Misfit::Short { capacity, .. } = misfit { *capacity } else { 0 }
}

fn free(misfit: &Misfit) -> u64 {
    if let Misfit::Short { free, .. } = misfit { *free } else { 0 }
}
