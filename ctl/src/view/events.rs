//! `events`: what happened, oldest first.

use flyball_proto::v1::Event;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::words;
use crate::output::{Cell, Table};

/// How an event says when it was.
#[derive(Debug, Clone, Copy)]
pub(crate) enum When {
    /// How long before this moment.
    Age(Timestamp),
    /// The time of day (UTC): rows of a watch stay on the screen, where an age would soon be wrong.
    Clock,
}

/// An empty table of events.
pub(crate) fn table(namespace: bool, when: When) -> Table {
    let (when, width) = match when {
        When::Age(_) => ("AGE", 0),
        When::Clock => ("TIME", 9),
    };
    let (mut headers, mut widths) = (vec![when], vec![width]);
    if namespace {
        headers.push("NAMESPACE");
        widths.push(10);
    }
    headers.extend(["LOOP", "REASON", "NODE", "MESSAGE"]);
    widths.extend([12, 14, 10]);
    match width {
        0 => Table::new(headers),
        _ => Table::new(headers).at_least(widths),
    }
}

/// The row of one event.
pub(crate) fn row(event: &Event, namespace: bool, when: When) -> Vec<Cell> {
    let time = match when {
        When::Age(now) => words::age(at(event), now),
        When::Clock => at(event).map(|at| at.strftime("%H:%M:%SZ").to_string()).unwrap_or_default(),
    };
    let mut cells: Vec<Cell> = vec![time.into()];
    if namespace {
        cells.push(event.namespace.as_str().into());
    }
    let columns = [&event.r#loop, &event.reason, &event.node, &event.message];
    cells.extend(columns.map(|text| text.as_str().into()));
    cells
}

/// The table of these events.
pub(crate) fn of(events: &[Event], namespace: bool, now: Timestamp) -> Table {
    let when = When::Age(now);
    let mut table = table(namespace, when);
    for event in events {
        table.row(row(event, namespace, when));
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
