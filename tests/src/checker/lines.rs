//! Lines of a history with their numbers, in the order of their times.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use crate::history::{Entry, Event};

/// One line of a history.
#[derive(Debug, Clone)]
pub struct Line {
    /// Where it stands in the file, from 1.
    pub number: usize,
    /// When it was seen, in microseconds.
    pub at_us: u64,
    /// What was seen.
    pub event: Event,
}

/// Reads a history. Blank lines are passed over.
///
/// # Errors
/// When the file cannot be read, or a line is no entry: the error names the line.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (index, text) in BufReader::new(File::open(path)?).lines().enumerate() {
        let text = text?;
        if text.trim().is_empty() {
            continue;
        }
        let entry: Entry = serde_json::from_str(&text)
            .map_err(|error| io::Error::other(format!("line {}: {error}", index + 1)))?;
        lines.push(Line { number: index + 1, at_us: entry.at_us, event: entry.event });
    }
    lines.sort_by_key(|line| line.at_us);
    Ok(lines)
}

/// Lines from entries that are in memory, e.g. of a simulation, numbered from 1.
pub fn number(entries: Vec<Entry>) -> Vec<Line> {
    let mut lines: Vec<Line> = entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| Line { number: index + 1, at_us: entry.at_us, event: entry.event })
        .collect();
    lines.sort_by_key(|line| line.at_us);
    lines
}
