//! Placement: which node a loop goes to, or why none and with which numbers. Pure: a snapshot of the
//! nodes in, a decision out. Whether the loop's resource set is free is not asked here.

use std::collections::BTreeMap;

use crate::ids::NodeName;
use crate::isolation::{Layer, Offers};
use crate::node::{NodeMark, Resources};
use crate::spec::{IsolationLevel, LoopSpec};

mod amounts;
mod reasons;
#[cfg(test)]
mod tests;

pub use amounts::Countable;
pub use reasons::{Misfit, NodeReason};

/// What only a node with a file tree for each step offers.
const SECRETS_AS_FILES: &str = "secrets as files";

/// What placement knows of a node: its record, and what live claims use of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Name.
    pub name: NodeName,
    /// Labels of the node.
    pub labels: BTreeMap<String, String>,
    /// What it offers in all.
    pub capacity: Resources,
    /// Sum over its live claims; may exceed the capacity when that shrank.
    pub used: Resources,
    /// Most runs at a time.
    pub slots: u32,
    /// Live claims on it.
    pub slots_used: u32,
    /// Whether it takes new runs.
    pub mark: NodeMark,
    /// Whether it has a session.
    pub online: bool,
    /// It failed to start runs, and is left alone for a while.
    pub resting: Option<Resting>,
    /// Layers of isolation that its runs go without; `None` if it does not say.
    pub missing_layers: Option<Vec<Layer>>,
    /// What its loops may name in `spec.sandbox`.
    pub offers: Offers,
}

/// A node that failed to start runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resting {
    /// How many in a row.
    pub faults: u32,
    /// For how many seconds more it gets none.
    pub seconds: u64,
}

/// What placement decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// The loop fits here best.
    On {
        /// The node.
        node: NodeName,
        /// Free share left after placing, 0 to 1000; for display and tests.
        score: u32,
    },
    /// No node fits now; one may later.
    Wait {
        /// Why, for every node, in the order of names.
        reasons: Vec<NodeReason>,
        /// One line: "0 of 3 nodes fit: 2 lack gpu (need 1, have 0), 1 is cordoned".
        summary: String,
    },
    /// No known node could take the loop even if it were empty and online.
    Never {
        /// One line that names the nearest node and what it lacks.
        summary: String,
        /// The node that lacks least.
        nearest: Option<NodeName>,
        /// Why, for every node, in the order of names.
        reasons: Vec<NodeReason>,
    },
}

/// Picks the node with the largest free share after placing among those that fit. `avoid` (where the
/// last run was lost) is picked only if nothing else fits. Equal shares go to the node that offers
/// fewer custom resources the loop has no use for, then to the first name. Without any known node
/// the answer is `Wait`: the first may be about to register.
pub fn place(spec: &LoopSpec, nodes: &[NodeView], avoid: Option<&NodeName>) -> Placement {
    let mut nodes: Vec<&NodeView> = nodes.iter().collect();
    nodes.sort_by(|one, two| one.name.cmp(&two.name));
    let reasons: Vec<NodeReason> = nodes
        .iter()
        .map(|node| NodeReason { node: node.name.clone(), misfits: misfits(spec, node) })
        .collect();
    let fitting = nodes.iter().zip(&reasons).filter(|(_, reason)| reason.misfits.is_empty());
    let ranked = fitting.map(|(node, _)| {
        let avoided = avoid == Some(&node.name);
        let score = free_share_after(&spec.needs, node);
        let idle = node.capacity.custom.iter();
        let idle = idle.filter(|(name, has)| **has > 0 && !spec.needs.custom.contains_key(*name));
        // Smallest is best; the first of equals in the order of names is kept.
        ((avoided, std::cmp::Reverse(score), idle.count()), &node.name)
    });
    if let Some(((_, score, _), node)) = ranked.min_by(|one, two| one.0.cmp(&two.0)) {
        return Placement::On { node: node.clone(), score: score.0 };
    }
    if reasons.is_empty() || reasons.iter().any(NodeReason::may_pass) {
        let summary = reasons::summary(&reasons);
        return Placement::Wait { reasons, summary };
    }
    let nearest = reasons.iter().min_by_key(|reason| reason.shortfall());
    let summary = reasons::never_summary(&reasons, nearest);
    let nearest = nearest.map(|reason| reason.node.clone());
    Placement::Never { summary, nearest, reasons }
}

/// Everything that keeps the loop off the node; empty if it fits now.
fn misfits(spec: &LoopSpec, node: &NodeView) -> Vec<Misfit> {
    let mut misfits = Vec::new();
    for (key, need) in &spec.placement.required_labels {
        let found = node.labels.get(key);
        if found != Some(need) {
            let (key, need, found) = (key.clone(), need.clone(), found.cloned());
            misfits.push(Misfit::Label { key, need, found });
        }
    }
    for (countable, need) in amounts::wanted(&spec.needs) {
        let capacity = countable.of(&node.capacity);
        let free = capacity.saturating_sub(countable.of(&node.used));
        if need > free {
            misfits.push(Misfit::Short { countable, need, free, capacity });
        }
    }
    if spec.sandbox.isolation == IsolationLevel::Strict {
        match &node.missing_layers {
            Some(missing) if missing.is_empty() => {}
            missing => {
                misfits.push(Misfit::Isolation { missing: missing.clone().unwrap_or_default() })
            }
        }
    }
    let mut what = node.offers.lacks(&spec.sandbox);
    // A file that is gone with the step has to be in a tree that is the step's own.
    let no_tree = node.missing_layers.as_ref().is_some_and(|all| all.contains(&Layer::Mount));
    if no_tree && spec.secrets.iter().any(|secret| secret.file) {
        what.push(SECRETS_AS_FILES.to_owned());
    }
    if !what.is_empty() {
        misfits.push(Misfit::NotOffered { what });
    }
    if node.slots_used >= node.slots {
        misfits.push(Misfit::NoSlot { slots: node.slots });
    }
    if !node.online {
        misfits.push(Misfit::Offline);
    }
    if let Some(resting) = &node.resting {
        misfits.push(Misfit::Resting(resting.clone()));
    }
    match node.mark {
        NodeMark::Schedulable => {}
        NodeMark::Cordoned => misfits.push(Misfit::Cordoned),
        NodeMark::Draining => misfits.push(Misfit::Draining),
    }
    misfits
}

/// Mean over cpu, memory, disk, slots and the custom resources needed of the share of the node's
/// capacity that is free once the loop is there, in thousandths. What the node does not offer at
/// all is left out. Since each run takes a slot, loops that need nothing are spread too.
fn free_share_after(needs: &Resources, node: &NodeView) -> u32 {
    let countables = amounts::scored(needs).filter_map(|countable| {
        let (need, used) = (countable.of(needs), countable.of(&node.used));
        share(used.saturating_add(need), countable.of(&node.capacity))
    });
    let slots = share(u64::from(node.slots_used) + 1, u64::from(node.slots));
    let (sum, count) = countables.chain(slots).fold((0u64, 0u64), |(sum, n), s| (sum + s, n + 1));
    // A mean of thousandths always fits; zero only if the node offers nothing that is scored.
    u32::try_from(sum.checked_div(count).unwrap_or(0)).unwrap_or(1000)
}

/// Thousandths of the capacity that are free; `None` without capacity.
fn share(used: u64, capacity: u64) -> Option<u64> {
    let free = u128::from(capacity.saturating_sub(used)) * 1000;
    free.checked_div(u128::from(capacity)).and_then(|share| u64::try_from(share).ok())
}
