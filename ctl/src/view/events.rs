//! `events`: what happened, oldest first.

use flyball_proto::v1::Event;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::words;
use crate::output::{Cell, Table};

/// An empty table of events.
pub(crate) fn table(namespace: bool) -> Table {
    let mut headers = vec!["AGE"];
    if namespace {
        headers.push("NAMESPACE");
    }
    headers.extend(["LOOP", "REASON", "NODE", "MESSAGE"]);
    Table::new(headers)
}

/// The row of one event.
pub(crate) fn row(event: &Event, namespace: bool, now: Timestamp) -> Vec<Cell> {
    let mut cells: Vec<Cell> = vec![words::age(at(event), now).into()];
    if namespace {
        cells.push(event.namespace.as_str().into());
    }
    let columns = [&event.r#loop, &event.reason, &event.node, &event.message];
    cells.extend(columns.map(|text| text.as_str().into()));
    cells
}

/// The table of these events.
pub(crate) fn of(events: &[Event], namespace: bool, now: Timestamp) -> Table {
    let mut table = table(namespace);
    for event in events {
        table.row(row(event, namespace, now));
    }
    table
}

/// An event as a document.
pub(crate) fn document(event: &Event) -> Value {
    json!({
        "at": at(event).map(|at| at.to_string()),
        "namespace": event.namespace,
        "loop": event.r#loop,
        "reason": event.reason,
        "message": event.message,
        "node": event.node,
    })
}

fn at(event: &Event) -> Option<Timestamp> {
    Timestamp::from_millisecond(event.unix_ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    #[test]
    fn the_table_and_document_of_events() {
        let events = fixtures::events();
        let table = of(&events, true, fixtures::now()).take(false, true);
        insta::assert_snapshot!(format!("{table}\n{}", document(&events[0])), @r#"
        AGE   NAMESPACE   LOOP        REASON              NODE     MESSAGE
        2m    default     fix-tests   Assigned            node-1   to node-1 under token 57
        60s   default     fix-tests   IterationReverted   node-1   iteration 2: distance 0.25 to 1.00

        {"at":"2026-03-01T11:58:00Z","loop":"fix-tests","message":"to node-1 under token 57","namespace":"default","node":"node-1","reason":"Assigned"}
        "#);
    }
}
