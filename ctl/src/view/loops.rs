//! `get loops`: one row per loop.

use jiff::Timestamp;

use super::words;
use crate::objects::LoopDocument;
use crate::output::{Cell, Table};

/// Longest list of failing checks in a cell, in characters.
const FAILING_CHARS_MAX: usize = 24;

/// Which columns a table of loops has.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Columns {
    /// With checkpoint, runs and message.
    pub(crate) wide: bool,
    /// With the namespace.
    pub(crate) namespace: bool,
}

/// An empty table of loops.
pub(crate) fn table(columns: Columns) -> Table {
    let mut headers = Vec::new();
    if columns.namespace {
        headers.push("NAMESPACE");
    }
    headers.extend(["NAME", "PHASE", "REASON", "NODE", "ITER", "DISTANCE", "FAILING", "AGE"]);
    if columns.wide {
        headers.extend(["RUNS", "CHECKPOINT", "MESSAGE"]);
    }
    Table::new(headers)
}

/// An empty table for a watch, wide enough for what usually comes later.
pub(crate) fn watched_table(columns: Columns) -> Table {
    let usual = [12, 11, 14, 10, 5, 8, 12];
    let namespace = columns.namespace.then_some(10);
    table(columns).at_least(namespace.into_iter().chain(usual))
}

/// The row of one loop.
pub(crate) fn row(document: &LoopDocument, columns: Columns, now: Timestamp) -> Vec<Cell> {
    let (metadata, status) = (&document.metadata, &document.status);
    let progress = &status.progress;
    let mut cells: Vec<Cell> = Vec::new();
    if columns.namespace {
        cells.push(metadata.namespace.as_str().into());
    }
    let iterations = format!("{}/{}", progress.iterations, document.spec.governor.iterations);
    cells.extend([
        metadata.name.as_str().into(),
        Cell::tinted(status.phase.to_string(), words::tint(status.phase)),
        match metadata.deleting {
            true => "Deleting".into(),
            false => words::reason(status.reason).into(),
        },
        status.node.as_ref().map_or("", |node| node.as_str()).into(),
        iterations.into(),
        words::distance(status).into(),
        words::names(&progress.failing, FAILING_CHARS_MAX).into(),
        words::age(metadata.creation_timestamp, now).into(),
    ]);
    if columns.wide {
        cells.extend([
            status.runs.to_string().into(),
            words::short(progress.checkpoint.as_deref()).into(),
            status.message.as_str().into(),
        ]);
    }
    cells
}

/// One line on what changed, for `apply --wait`.
pub(crate) fn progress_line(document: &LoopDocument) -> String {
    let (metadata, status) = (&document.metadata, &document.status);
    let mut line = format!("loop/{} {}", metadata.name, status.phase);
    let mut add = |label: &str, value: String| {
        if !value.is_empty() && value != "-" {
            line.push_str(&format!("{label}{value}"));
        }
    };
    add(" ", words::reason(status.reason));
    add(" on ", status.node.as_ref().map(ToString::to_string).unwrap_or_default());
    let iterations = status.progress.iterations;
    add(", iteration ", if iterations > 0 { iterations.to_string() } else { String::new() });
    add(", distance ", words::distance(status));
    add(", failing ", words::names(&status.progress.failing, FAILING_CHARS_MAX));
    add(": ", status.message.clone());
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    fn render(columns: Columns) -> String {
        let mut table = table(columns);
        for document in [fixtures::running(), fixtures::unreachable(), fixtures::waiting()] {
            table.row(row(&document, columns, fixtures::now()));
        }
        table.take(false, true)
    }

    #[test]
    fn the_table_of_loops() {
        insta::assert_snapshot!(render(Columns::default()), @"
        NAME         PHASE         REASON           NODE     ITER   DISTANCE   FAILING   AGE
        fix-tests    Running       -                node-1   2/20   0.25       test      3m
        impossible   Unreachable   NoProgress       node-2   4/20   0.25       test      3m
        second       Pending       ResourcesOwned   -        0/20   -          -         3m
        ");
    }

    #[test]
    fn the_wide_table_of_loops_in_all_namespaces() {
        insta::assert_snapshot!(render(Columns { wide: true, namespace: true }), @"
        NAMESPACE   NAME         PHASE         REASON           NODE     ITER   DISTANCE   FAILING   AGE   RUNS   CHECKPOINT   MESSAGE
        default     fix-tests    Running       -                node-1   2/20   0.25       test      3m    2      0123456789   iteration 3: the agent works
        default     impossible   Unreachable   NoProgress       node-2   4/20   0.25       test      3m    1      -            4 iterations without progress
        default     second       Pending       ResourcesOwned   -        0/20   -          -         3m    0      -            default/fix-tests owns git:example.org/team/app/src/**
        ");
    }

    #[test]
    fn progress_lines() {
        let documents = [fixtures::running(), fixtures::unreachable(), fixtures::waiting()];
        insta::assert_snapshot!(documents.map(|one| progress_line(&one)).join("\n"), @"
        loop/fix-tests Running on node-1, iteration 2, distance 0.25, failing test: iteration 3: the agent works
        loop/impossible Unreachable NoProgress on node-2, iteration 4, distance 0.25, failing test: 4 iterations without progress
        loop/second Pending ResourcesOwned: default/fix-tests owns git:example.org/team/app/src/**
        ");
    }
}
