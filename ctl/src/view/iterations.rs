//! `get iterations`: the newest iterations of a loop.

use flyball_core::record::Decision;
use flyball_core::status::IterationSummary;
use jiff::Timestamp;

use super::words;
use crate::objects::LoopDocument;
use crate::output::{Cell, Table, Tint};

/// Longest list of failing checks in a cell, in characters.
const FAILING_CHARS_MAX: usize = 24;

/// An empty table of iterations.
pub(crate) fn table(wide: bool) -> Table {
    let mut headers =
        vec!["ITER", "DECISION", "BEFORE", "AFTER", "CHANGE", "FAILING", "TOOK", "AGE"];
    if wide {
        headers.extend(["NODE", "TOKEN", "CHECKPOINT"]);
    }
    headers.push("REASON");
    Table::new(headers)
}

/// The row of one iteration.
pub(crate) fn row(iteration: &IterationSummary, wide: bool, now: Timestamp) -> Vec<Cell> {
    let tint = match iteration.decision {
        Decision::Kept => Tint::Good,
        Decision::Reverted => Tint::Waiting,
        Decision::Refused => Tint::Bad,
        Decision::Unchanged => Tint::Dim,
    };
    let mut cells = vec![
        iteration.number.to_string().into(),
        Cell::tinted(format!("{:?}", iteration.decision), tint),
        iteration.before.to_string().into(),
        iteration.after.to_string().into(),
        format!("{}f {}l", iteration.files, iteration.lines).into(),
        words::names(&iteration.failing, FAILING_CHARS_MAX).into(),
        words::duration(iteration.duration_ms).into(),
        words::age(iteration.ended_at, now).into(),
    ];
    if wide {
        cells.extend([
            iteration.node.as_str().into(),
            iteration.token.to_string().into(),
            words::short(iteration.checkpoint.as_deref()).into(),
        ]);
    }
    cells.push(iteration.reason.as_str().into());
    cells
}

/// The table of a loop's newest iterations.
pub(crate) fn of(document: &LoopDocument, wide: bool, now: Timestamp) -> Table {
    let mut table = table(wide);
    for iteration in &document.status.progress.recent {
        table.row(row(iteration, wide, now));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    #[test]
    fn the_tables_of_iterations() {
        let render = |wide| of(&fixtures::running(), wide, fixtures::now()).take(false, true);
        insta::assert_snapshot!(render(false) + "\n" + &render(true), @"
        ITER   DECISION   BEFORE   AFTER   CHANGE   FAILING     TOOK    AGE   REASON
        1      Kept       1.50     0.25    1f 12l   test        12.3s   2m    distance 1.50 to 0.25
        2      Reverted   0.25     1.00    2f 40l   lint,test   8.0s    60s   regression: distance 0.25 to 1.00

        ITER   DECISION   BEFORE   AFTER   CHANGE   FAILING     TOOK    AGE   NODE     TOKEN   CHECKPOINT   REASON
        1      Kept       1.50     0.25    1f 12l   test        12.3s   2m    node-2   41      0123456789   distance 1.50 to 0.25
        2      Reverted   0.25     1.00    2f 40l   lint,test   8.0s    60s   node-1   57      -            regression: distance 0.25 to 1.00
        ");
    }
}
