//! The text form of `describe`: labelled lines in sections.

use crate::output::Table;

/// Spaces from the start of a line to its value, without the indentation.
const LABEL_WIDTH: usize = 14;

/// A text under construction.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    text: String,
    indent: usize,
}

impl Sheet {
    /// A labelled value; left out when empty or `-`. More lines of the value stay under its first.
    pub(super) fn field(&mut self, label: &str, value: impl AsRef<str>) {
        let value = value.as_ref().trim_end();
        if value.is_empty() || value == "-" {
            return;
        }
        let margin = " ".repeat(self.indent);
        let hanging = " ".repeat(self.indent + LABEL_WIDTH);
        let label = format!("{label}: ");
        for (index, line) in value.lines().map(plain).enumerate() {
            let line = match index {
                0 => format!("{margin}{label:<LABEL_WIDTH$}{line}"),
                _ => format!("{hanging}{line}"),
            };
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }

    /// A list of values under one label.
    pub(super) fn list<T: AsRef<str>>(&mut self, label: &str, values: &[T]) {
        let lines: Vec<_> = values.iter().map(|value| value.as_ref().replace('\n', " ")).collect();
        self.field(label, lines.join("\n"));
    }

    /// A heading with what `fill` puts under it; left out when that is nothing.
    pub(super) fn section(&mut self, heading: &str, fill: impl FnOnce(&mut Self)) {
        let mut inner = Self { text: String::new(), indent: self.indent + 2 };
        fill(&mut inner);
        if !inner.text.is_empty() {
            self.text.push_str(&format!("{}{heading}:\n", " ".repeat(self.indent)));
            self.text.push_str(&inner.text);
        }
    }

    /// A table with its headers.
    pub(super) fn table(&mut self, mut table: Table) {
        let margin = " ".repeat(self.indent);
        for line in table.take(false, true).lines() {
            self.text.push_str(&format!("{margin}{line}\n"));
        }
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// Without control characters: messages come from agents and repositories.
fn plain(line: &str) -> String {
    line.chars().filter(|c| !c.is_control()).collect()
}
