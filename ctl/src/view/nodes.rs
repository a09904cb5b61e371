//! `get nodes`: one row per node.

use flyball_core::node::NodeMark;
use jiff::Timestamp;

use super::words;
use crate::objects::NodeDocument;
use crate::output::{Cell, Table, Tint};

/// An empty table of nodes.
pub(crate) fn table(wide: bool) -> Table {
    let mut headers = vec!["NAME", "STATUS", "RUNS", "CPU", "MEMORY", "VERSION", "SEEN"];
    if wide {
        headers.extend(["DISK", "CONTAINMENT", "INCARNATION", "LABELS"]);
        headers.extend(["MARKED BY", "MARKED", "DEADLINE", "REASON"]);
    }
    Table::new(headers)
}

/// The row of one node. CPU and memory are used of capacity.
pub(crate) fn row(document: &NodeDocument, wide: bool, now: Timestamp) -> Vec<Cell> {
    let (node, status) = (&document.node, &document.status);
    let (text, tint) = state(document);
    let of = |used: String, capacity: String| Cell::from(format!("{used}/{capacity}"));
    let capacity = &node.facts.capacity;
    let mut cells = vec![
        document.metadata.name.as_str().into(),
        Cell::tinted(text, tint),
        of(status.runs.len().to_string(), node.facts.slots.to_string()),
        of(status.used.cpu.to_string(), capacity.cpu.to_string()),
        of(words::size(status.used.memory), words::size(capacity.memory)),
        node.facts.version.as_str().into(),
        if status.online { "now".into() } else { words::age(node.seen_at, now).into() },
    ];
    if wide {
        cells.extend([
            of(words::size(status.used.disk), words::size(capacity.disk)),
            node.facts.abilities.as_ref().map_or("", |has| &has.containment).into(),
            node.incarnation.as_str().into(),
            words::labels(&node.facts.labels).into(),
            node.mark_by.as_str().into(),
            words::age(node.mark_at, now).into(),
            words::until(node.mark_deadline, now).into(),
            node.mark_reason.as_str().into(),
        ]);
    }
    cells
}

/// `Online`, `Offline`, with `Cordoned` or `Draining` if so marked.
pub(super) fn state(document: &NodeDocument) -> (String, Tint) {
    let (online, tint) = match document.status.online {
        true => ("Online", Tint::Good),
        false => ("Offline", Tint::Bad),
    };
    match document.node.mark {
        NodeMark::Schedulable => (online.to_owned(), tint),
        mark if document.status.online => (format!("{online},{mark:?}"), Tint::Waiting),
        mark => (format!("{online},{mark:?}"), tint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    #[test]
    fn the_tables_of_nodes() {
        let render = |wide| {
            let mut table = table(wide);
            for node in [fixtures::node(), fixtures::node_away()] {
                table.row(row(&node, wide, fixtures::now()));
            }
            table.take(false, true)
        };
        insta::assert_snapshot!(render(false) + "\n" + &render(true), @"
        NAME     STATUS            RUNS   CPU      MEMORY     VERSION   SEEN
        node-1   Online,Draining   1/4    500m/8   1Gi/16Gi   0.1.0     now
        node-2   Offline           0/2    0/4      0/0        0.1.0     5m

        NAME     STATUS            RUNS   CPU      MEMORY     VERSION   SEEN   DISK      CONTAINMENT          INCARNATION   LABELS   MARKED BY    MARKED   DEADLINE   REASON
        node-1   Online,Draining   1/4    500m/8   1Gi/16Gi   0.1.0     now    0/100Gi   user-pid-namespace   i-1           zone=a   alice@desk   10m      in 50m     kernel update
        node-2   Offline           0/2    0/4      0/0        0.1.0     5m     0/0       -                    i-2           -        -            -        -          -
        ");
    }
}
