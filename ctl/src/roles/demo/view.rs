//! The demo's table and summary as text: a pure function of the board.

use flyball_core::quantity::Distance;
use flyball_core::status::Phase;

use super::board::{Board, Row};
use crate::output::{Cell, Table};
use crate::view;

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Columns of the terminal.
    pub(super) width: u16,
    pub(super) color: bool,
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Distances shown per loop; the newest.
const SPARK_MAX: usize = 12;

/// The course of the distance: one bar per measurement, a dot for zero.
fn sparkline(distances: &[Distance]) -> String {
    let shown = &distances[distances.len().saturating_sub(SPARK_MAX)..];
    let most = shown.iter().map(|distance| distance.0).max().unwrap_or(0).max(1);
    let bar = |distance: &Distance| {
        if distance.is_zero() {
            return '·';
        }
        let step = distance.0.saturating_mul(BARS.len() as u64 - 1) / most;
        BARS[usize::try_from(step).unwrap_or(0).min(BARS.len() - 1)]
    };
    shown.iter().map(bar).collect()
}

/// The live table.
pub(super) fn table(board: &Board, now_ms: u64, style: Style) -> String {
    let headers = ["LOOP", "PHASE", "NODE", "ITER", "DISTANCE", "FAILING", "TIME", "LAST EVENT"];
    let narrow = style.width < WIDE_MIN;
    let mut table = Table::new(headers.into_iter().filter(|name| !narrow || *name != FAILING));
    let rows = board.order.iter().filter_map(|name| Some((name, board.rows.get(name)?)));
    for (name, row) in rows {
        let mut cells = Vec::from(cells(name, row, now_ms, style));
        if narrow {
            cells.remove(FAILING_AT);
        }
        table.row(cells);
    }
    table.take(style.color, true)
}

/// Columns that the last event leaves to the others.
const OTHER_COLUMNS: usize = 92;
/// The column that a narrow terminal does without, for the last event tells more; its place.
const FAILING: &str = "FAILING";
const FAILING_AT: usize = 5;
/// Columns that this frees: its 16 characters and the gap.
const FAILING_WIDTH: usize = 19;
/// Columns from which on all fits.
const WIDE_MIN: u16 = 130;

fn cells(name: &str, row: &Row, now_ms: u64, style: Style) -> [Cell; 8] {
    let progress = &row.status.progress;
    // One that has ended shows where it ran last, as `get loops` does.
    let node = match row.has_ended() {
        true => row.nodes.last(),
        false => row.status.node.as_ref().filter(|_| row.status.phase.is_owned()),
    };
    let distance = progress.distance.map_or_else(String::new, |distance| distance.to_string());
    let seconds = row.ended_ms.unwrap_or(now_ms).saturating_sub(row.applied_ms) / 1000;
    let others = match style.width < WIDE_MIN {
        true => OTHER_COLUMNS - FAILING_WIDTH,
        false => OTHER_COLUMNS,
    };
    let room = usize::from(style.width).saturating_sub(others).max(16);
    [
        name.into(),
        Cell::tinted(row.status.phase.to_string(), view::tint(row.status.phase)),
        node.map_or("", |node| node.as_str()).into(),
        progress.iterations.to_string().into(),
        format!("{} {distance}", sparkline(&row.distances)).into(),
        shorten(&progress.failing.join(","), 16).into(),
        format!("{seconds}s").into(),
        shorten(&row.last_event, room).into(),
    ]
}

fn counted(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// What happened to each loop, and what it shows.
pub(super) fn summary(board: &Board) -> String {
    let mut text = String::new();
    for (name, row) in board.order.iter().filter_map(|name| Some((name, board.rows.get(name)?))) {
        let status = &row.status;
        let reason = match status.phase {
            Phase::Converged => String::new(),
            _ => format!(" ({:?})", status.reason),
        };
        let nodes: Vec<_> = row.nodes.iter().map(|node| node.as_str()).collect();
        text += &format!(
            "{name}: {}{reason} after {}, {} kept, on {}\n",
            status.phase,
            counted(status.progress.iterations, "iteration"),
            status.progress.accepted,
            nodes.join(" then "),
        );
        if row.rebases > 0 {
            text += &format!(
                "    its base moved {}: accepted work was rebased and measured again\n",
                counted(row.rebases, "time")
            );
        }
        if let Some(waited) = &row.waited_for {
            text += &format!("    waited: {waited}\n");
        }
        for line in status.evidence.iter().take(4) {
            text += &format!("    {}\n", shorten(line, 110));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_course_of_distances_is_drawn_in_bars() {
        let course = [4, 3, 2, 1, 0].map(|n| Distance(n * 1_000_000));
        assert_eq!(sparkline(&course), "█▆▄▂·");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn long_texts_are_shortened_at_characters() {
        assert_eq!(shorten("äöü", 2), "ä…");
        assert_eq!(shorten("äöü", 3), "äöü");
    }
}
