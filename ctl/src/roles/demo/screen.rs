//! The demo's output: a live table on a terminal, plain lines without one, one object for `-o json`.

use std::io::{IsTerminal, Write};
use std::path::Path;

use flyball_core::spec::DEFAULT_NAMESPACE;
use serde_json::json;

use super::board::Board;
use super::view::{self, Style};
use crate::roles::fleet::Plan;

/// Where the demo writes.
pub(super) struct Screen {
    mode: Mode,
    /// Lines of the table drawn last, to be drawn over.
    drawn: usize,
    style: Style,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Live,
    Lines,
    Json,
}

/// What the end is told from.
pub(super) struct Report<'a> {
    pub(super) board: &'a Board,
    pub(super) killed: Option<&'a (String, u64)>,
    pub(super) elapsed_ms: u64,
    pub(super) missed: &'a [String],
    pub(super) plan: &'a Plan,
    pub(super) namespace: &'a str,
    pub(super) ledger: &'a Path,
    pub(super) keep: bool,
}

/// Columns assumed where the terminal does not tell.
const WIDTH_DEFAULT: u16 = 140;

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let mode = match (json, terminal) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Live,
            (false, false) => Mode::Lines,
        };
        let width = crossterm::terminal::size().map_or(WIDTH_DEFAULT, |(columns, _)| columns);
        let color = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { mode, drawn: 0, style: Style { width, color } }
    }

    fn write(&self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// A line of its own, except in JSON.
    pub(super) fn line(&self, text: &str) -> anyhow::Result<()> {
        if self.mode == Mode::Json { Ok(()) } else { self.write(&format!("{text}\n")) }
    }

    /// Something happened; a line without a terminal, part of the table with one.
    pub(super) fn event(&mut self, now_ms: u64, who: &str, what: &str) -> anyhow::Result<()> {
        match self.mode {
            Mode::Lines => self.write(&format!("{:>6.1}s  {who:<13} {what}\n", seconds(now_ms))),
            Mode::Live if what.contains("SIGKILL") || what.starts_with("explain") => {
                self.erase()?;
                self.write(&format!("{:>6.1}s  {who}: {what}\n", seconds(now_ms)))
            }
            Mode::Live | Mode::Json => Ok(()),
        }
    }

    fn erase(&mut self) -> anyhow::Result<()> {
        if self.drawn > 0 {
            // Up over the old table, then clear to the end of the screen.
            self.write(&format!("\x1b[{}A\x1b[J", self.drawn))?;
            self.drawn = 0;
        }
        Ok(())
    }

    /// Draws the table over the last one.
    pub(super) fn draw(&mut self, board: &Board, now_ms: u64) -> anyhow::Result<()> {
        if self.mode != Mode::Live {
            return Ok(());
        }
        let table = view::table(board, now_ms, self.style);
        self.erase()?;
        self.drawn = table.lines().count();
        self.write(&table)
    }

    /// The summary and where to look closer.
    pub(super) fn finish(&mut self, report: &Report<'_>) -> anyhow::Result<()> {
        match self.mode {
            Mode::Json => self.write(&format!("{:#}\n", object(report))),
            Mode::Live | Mode::Lines => self.write(&closing(report)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a demo fit f64")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

fn closing(report: &Report<'_>) -> String {
    let mut text = format!("\nThe demo took {:.1} s.\n", seconds(report.elapsed_ms));
    text += &view::summary(report.board);
    if let Some((node, at_ms)) = report.killed {
        text += &format!("{node} was killed with SIGKILL after {:.1} s.\n", seconds(*at_ms));
    }
    let dir = report.plan.data_dir.display();
    text += "\nLook closer:\n";
    if !report.keep {
        let etcd = match report.plan.etcd.as_slice() {
            [] => String::new(),
            urls => format!(" --etcd {}", urls.join(",")),
        };
        text += &format!("  flyball up --data-dir {dir}{etcd}    # brings it back, then:\n");
    }
    let mut addr = format!("--addr {}", report.plan.socket());
    if report.namespace != DEFAULT_NAMESPACE {
        addr += &format!(" -n {}", report.namespace);
    }
    text += &format!(
        "  flyball {addr} get loops -o wide\n  \
         flyball {addr} explain beat-physics\n  \
         flyball {addr} get iterations fix-ledger\n  \
         flyball {addr} logs fix-ledger\n  \
         git -C {} log --oneline main\n\
         Everything is in {dir}; when you are done: rm -rf {dir}\n",
        report.ledger.display()
    );
    text
}

fn object(report: &Report<'_>) -> serde_json::Value {
    let rows = report.board.order.iter().filter_map(|name| {
        let row = report.board.rows.get(name)?;
        Some(json!({
            "name": name,
            "phase": row.status.phase,
            "reason": row.status.reason,
            "iterations": row.status.progress.iterations,
            "accepted": row.status.progress.accepted,
            "nodes": row.nodes,
            "distances": row.distances,
            "published": row.status.progress.published,
            "waitedFor": row.waited_for,
            "evidence": row.status.evidence,
        }))
    });
    json!({
        "elapsedMs": report.elapsed_ms,
        "killed": report.killed.map(|(node, at_ms)| json!({"node": node, "atMs": at_ms})),
        "loops": rows.collect::<Vec<_>>(),
        "missed": report.missed,
        "dataDir": report.plan.data_dir,
    })
}
