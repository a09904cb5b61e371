//! Findings about worker nodes: away, marked, weaker contained than they could be, of another
//! version, wanted twice.

use flyball_core::diagnosis::{Area, Finding, weaknesses};
use flyball_core::node::{Abilities, NodeMark};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::namesakes::TakenName;
use crate::reactor::NodeStatus;

const AREA: Area = Area::Node;

/// Nodes with findings of their own; of more, only those in trouble are told and the rest counted.
const NODES_TOLD_MAX: usize = 50;

/// All nodes.
pub(super) fn findings(nodes: &[NodeStatus], version: &str, now: Timestamp) -> Vec<Finding> {
    if nodes.is_empty() {
        let next = "start a worker: flyball worker --scheduler ADDRESS";
        return vec![Finding::warning(AREA, "NoNode", "no node has ever registered", next)];
    }
    let mut found = Vec::new();
    let mut well = 0_usize;
    for node in nodes {
        let troubles = troubles(node, version, now);
        well += usize::from(troubles.is_empty());
        if nodes.len() <= NODES_TOLD_MAX {
            let name = node.record.name.to_string();
            found.push(Finding::ok(AREA, "Node", describe(node)).about(name));
        }
        found.extend(troubles);
    }
    if nodes.len() > NODES_TOLD_MAX {
        let message = format!("{well} of {} nodes are as they should be", nodes.len());
        found.push(Finding::ok(AREA, "Nodes", message));
    }
    found
}

fn describe(node: &NodeStatus) -> String {
    let abilities = node.record.facts.abilities.as_deref();
    let containment = abilities.map_or("unknown means", |has| has.containment.as_str());
    let mark = match node.record.mark {
        NodeMark::Schedulable => String::new(),
        mark => format!(", {mark:?} {}", marked(node)),
    };
    let runs = match node.runs.len() {
        1 => "1 run".to_owned(),
        many => format!("{many} runs"),
    };
    let state = if node.session.is_some() { "online" } else { "away" };
    format!("{state}, {runs}, contained by {containment}{}{mark}", margins(abilities))
}

/// What of a lease is kept back, as configured there.
fn margins(abilities: Option<&Abilities>) -> String {
    abilities.map_or_else(String::new, |abilities| {
        let tenths = abilities.drift_ppm / 1000;
        format!(
            ", clock drift bound {}.{} %, kill budget {} ms",
            tenths / 10,
            tenths % 10,
            abilities.kill_budget_ms
        )
    })
}

fn marked(node: &NodeStatus) -> String {
    let record = &node.record;
    let by = if record.mark_by.is_empty() { "somebody" } else { &record.mark_by };
    match record.mark_reason.as_str() {
        "" => format!("by {by}"),
        reason => format!("by {by}: {reason}"),
    }
}

fn troubles(node: &NodeStatus, version: &str, now: Timestamp) -> Vec<Finding> {
    let record = &node.record;
    let name = record.name.to_string();
    let mut found = Vec::new();
    let mut warn = |code: &str, message: String, next: &str| {
        found.push(Finding::warning(AREA, code, message, next).about(&name));
    };
    if node.session.is_none() && record.mark == NodeMark::Schedulable {
        let since = record.seen_at.map_or(0, |at| now.duration_since(at).as_secs().max(0));
        let message = format!("away: last seen {since} s ago");
        warn("NodeAway", message, "start its worker, or cordon it to say that this is meant");
    }
    let overdue = record.mark_deadline.is_some_and(|at| at <= now);
    if record.mark == NodeMark::Draining && overdue && !node.runs.is_empty() {
        let message = format!("past its drain deadline with {} runs left", node.runs.len());
        warn("DrainOverdue", message, "look at the worker's log; stopping the worker ends them");
    }
    if node.session.is_some() && record.facts.version != version {
        let message = format!("runs version {}, this scheduler {version}", record.facts.version);
        warn("VersionDiffers", message, "finish the upgrade: schedulers first, then workers");
    }
    let Some(abilities) = record.facts.abilities.as_deref() else {
        warn(
            "AbilitiesUnknown",
            "does not say what its host allows".to_owned(),
            "upgrade its worker",
        );
        return found;
    };
    found.extend(weaknesses(AREA, abilities).into_iter().map(|f| f.about(&name)));
    found
}

/// Two live workers want one name; the node itself goes on.
pub(super) fn taken(name: &TakenName, now: Instant) -> Finding {
    let seconds = |from: Instant, to: Instant| to.duration_since(from).as_secs();
    let (over, ago) = (seconds(name.first, name.last), seconds(name.last, now));
    let message = format!(
        "a second worker of this name was refused {} times in {over} s, last {ago} s ago (from {}), while \
         incarnation {} has it and renews its lease",
        name.times, name.from, name.holder
    );
    let next = "stop the second one, whose log says that the name is taken, or give it its own --node and, if its \
                machine or data directory is a copy, an empty --data-dir; if it is the one that shall stay, stop the \
                first (describe node has its incarnation): the name is free once its lease has ended";
    Finding::warning(AREA, "NameTaken", message, next)
        .about(name.node.to_string())
        .figure("refused", name.times)
        .figure("refusedOverSeconds", over)
        .figure("lastRefusedAgoSeconds", ago)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flyball_core::ids::{Incarnation, NodeName};

    use super::*;

    #[test]
    fn a_name_that_two_want_is_told_with_the_next_step() {
        let first = Instant::now();
        let last = first + Duration::from_secs(9);
        let (node, holder) = (NodeName("n1".to_owned()), Incarnation("i7".to_owned()));
        let from = "10.0.0.7:4312".to_owned();
        let name = TakenName { node, holder, from, times: 14, first, last };
        let told = taken(&name, last + Duration::from_secs(2));
        assert_eq!((told.code.as_str(), told.subject.as_str()), ("NameTaken", "n1"));
        let words =
            "refused 14 times in 9 s, last 2 s ago (from 10.0.0.7:4312), while incarnation i7";
        assert!(told.message.contains(words), "{}", told.message);
        assert!(told.next_step.contains("its own --node"), "{}", told.next_step);
        assert_eq!(told.figures["lastRefusedAgoSeconds"], 2);
    }
}
