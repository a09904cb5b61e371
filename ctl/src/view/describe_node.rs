//! `describe node`: everything about one node on a page.

use flyball_core::bounds;
use flyball_core::isolation::{Layer, describe};
use flyball_core::node::{Abilities, NodeMark};
use jiff::Timestamp;

use super::sheet::Sheet;
use super::{nodes, words};
use crate::objects::NodeDocument;

/// The page of a node.
pub(crate) fn page(document: &NodeDocument, now: Timestamp) -> String {
    let mut sheet = Sheet::default();
    let (node, status) = (&document.node, &document.status);
    sheet.field("Name", &document.metadata.name);
    sheet.field("Labels", words::labels(&node.facts.labels));
    sheet.field("Status", nodes::state(document).0);
    // What remains of a mark that was taken away is history.
    if node.mark != NodeMark::Schedulable {
        let mut text = format!("{:?}", node.mark);
        if !node.mark_by.is_empty() {
            text += &format!(" by {}", node.mark_by);
        }
        if node.mark_at.is_some() {
            text += &format!(", {}", words::moment(node.mark_at, now));
        }
        sheet.field("Marked", text);
        sheet.field("Mark reason", &node.mark_reason);
        if node.mark == NodeMark::Draining {
            sheet.field("Deadline", words::until(node.mark_deadline, now));
        }
    }
    // The record is written when a node comes or goes; one that is online is seen all the time.
    let seen = if status.online { "now".to_owned() } else { words::moment(node.seen_at, now) };
    sheet.field("Seen", seen);
    sheet.field("Version", &node.facts.version);
    sheet.field("Incarnation", node.incarnation.as_str());
    let ttl = status.lease_ttl.filter(|ttl| *ttl >= 0);
    sheet.field("Lease", ttl.map(|ttl| format!("{ttl}s left")).unwrap_or_default());
    if let Some(abilities) = &node.facts.abilities {
        sheet.section("Host", |sheet| host(sheet, abilities));
    }
    sheet.section("Resources", |sheet| {
        sheet.field("Capacity", words::resources(&node.facts.capacity));
        sheet.field("Used", words::resources(&status.used));
        sheet.field("Free", words::resources(&status.free));
        sheet.field("Slots", format!("{} of {} used", status.runs.len(), node.facts.slots));
    });
    sheet.list("Runs", &status.runs);
    sheet.finish()
}

/// What the node's host lets it do.
fn host(sheet: &mut Sheet, abilities: &Abilities) {
    sheet.field("Containment", &abilities.containment);
    sheet.list("Not stronger", &abilities.weaker_because);
    let missing = &abilities.missing_layers;
    if abilities.confines {
        let on = Layer::ALL.iter().filter(|layer| !missing.contains_key(layer));
        let on: Vec<&str> = on.map(|layer| layer.name()).collect();
        let weaker = if missing.is_empty() { "" } else { " (weaker than it should be)" };
        sheet.field("Isolation", format!("{}{weaker}", on.join(", ")));
        sheet.list("Goes without", &describe(missing, |_| true));
    }
    if !abilities.bounds.is_empty() {
        sheet.field("Limits", bounds::describe(&abilities.bounds));
    }
    let offers = &abilities.offers;
    sheet.list("Paths", &offers.paths);
    sheet.list("Caches", &offers.caches);
    sheet.list("Egress", &offers.egress);
    let mut guard = Vec::new();
    guard.push(if abilities.memory_locked { "memory locked" } else { "memory not locked" });
    guard.push(if abilities.priority_raised { "priority raised" } else { "priority not raised" });
    guard.push(match abilities.oom_protected {
        true => "protected from the memory killer",
        false => "not protected from the memory killer",
    });
    sheet.field("Guard", guard.join(", "));
    let has = |yes: bool| if yes { "yes" } else { "no" };
    let landlock = match abilities.landlock_abi {
        0 => "no".to_owned(),
        abi => format!("version {abi}"),
    };
    let text = format!(
        "{}: cgroup v2 {}, user namespaces {}, Landlock {landlock}, seccomp {}",
        abilities.kernel,
        has(abilities.cgroup2),
        has(abilities.user_namespaces),
        has(abilities.seccomp)
    );
    sheet.field("Kernel", text);
    sheet.field("Git", &abilities.git);
    let percent = f64::from(abilities.drift_ppm) / 10_000.0;
    let budget = abilities.kill_budget_ms;
    let margins = format!("{percent} % of a lease for clock drift, {budget} ms to kill");
    sheet.field("Kept back", margins);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    #[test]
    fn the_pages_of_nodes() {
        let pages = [fixtures::node(), fixtures::node_away()];
        let pages = pages.map(|node| page(&node, fixtures::now()));
        insta::assert_snapshot!(pages.join("\n"), @"
        Name:         node-1
        Labels:       zone=a
        Status:       Online,Draining
        Marked:       Draining by alice@desk, 2026-03-01 11:50:00Z (10m ago)
        Mark reason:  kernel update
        Deadline:     in 50m
        Seen:         now
        Version:      0.1.0
        Incarnation:  i-1
        Lease:        5s left
        Host:
          Containment:  user-pid-namespace
          Not stronger: PID namespace: EPERM
          Guard:        memory locked, priority not raised, not protected from the memory killer
          Kernel:       6.12.1: cgroup v2 no, user namespaces yes, Landlock version 7, seccomp yes
          Git:          2.39.5
          Kept back:    2 % of a lease for clock drift, 500 ms to kill
        Resources:
          Capacity:     cpu 8, memory 16Gi, disk 100Gi, gpu 2
          Used:         cpu 500m, memory 1Gi, gpu 1
          Free:         cpu 7500m, memory 15Gi, disk 100Gi, gpu 1
          Slots:        1 of 4 used
        Runs:         default/fix-tests

        Name:         node-2
        Status:       Offline
        Seen:         2026-03-01 11:55:00Z (5m ago)
        Version:      0.1.0
        Incarnation:  i-2
        Resources:
          Capacity:     cpu 4
          Used:         nothing
          Free:         nothing
          Slots:        0 of 2 used
        ");
    }
}
