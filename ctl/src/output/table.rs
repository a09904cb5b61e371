//! Tables in the manner of kubectl: columns padded with spaces, no borders, the last column as long
//! as it is. A table keeps its widths, so that rows of a watch line up with what is above them.

/// Spaces between two columns.
const GAP: usize = 3;

/// What a cell means, shown as a colour where colours are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tint {
    /// Nothing special.
    #[default]
    Plain,
    /// Good news.
    Good,
    /// Work going on.
    Busy,
    /// Waiting.
    Waiting,
    /// Bad news.
    Bad,
    /// Of little weight.
    Dim,
}

impl Tint {
    /// The text in this colour if colours are wanted.
    pub fn paint(self, text: &str, color: bool) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Good => 32,
            Self::Busy => 36,
            Self::Waiting => 33,
            Self::Bad => 31,
            Self::Dim => 2,
        };
        if color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// One cell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tint: Tint,
}

impl Cell {
    /// A cell with a colour.
    pub fn tinted(text: impl Into<String>, tint: Tint) -> Self {
        Self { text: one_line(&text.into()), tint }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::tinted(text, Tint::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::tinted(text, Tint::Plain)
    }
}

/// Text from outside (messages, names of checks) on one line and without control characters, so
/// that nothing in it can move the cursor or break the columns. Empty becomes `-`.
fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let plain: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    if plain.is_empty() { "-".to_owned() } else { plain }
}

/// Rows under headers.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    widths: Vec<usize>,
    headers_shown: bool,
}

impl Table {
    /// A table with these columns.
    pub fn new(headers: impl IntoIterator<Item = &'static str>) -> Self {
        Self { headers: headers.into_iter().collect(), ..Self::default() }
    }

    /// With columns at least this wide, for tables whose later rows are not known yet.
    #[must_use]
    pub fn at_least(mut self, widths: impl IntoIterator<Item = usize>) -> Self {
        self.widths = widths.into_iter().collect();
        self
    }

    /// Adds a row, one cell per column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// True when there is no row to show.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows added since the last call as text, with the headers the first time. Nothing at all
    /// when there are no rows.
    pub fn take(&mut self, color: bool, headers: bool) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut rows = std::mem::take(&mut self.rows);
        if headers && !self.headers_shown {
            rows.insert(0, self.headers.iter().map(|header| Cell::from(*header)).collect());
        }
        self.headers_shown = true;
        self.widths.resize(self.headers.len(), 0);
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.chars().count());
            }
        }
        rows.iter().map(|row| self.line(row, color)).collect()
    }

    fn line(&self, row: &[Cell], color: bool) -> String {
        let mut line = String::new();
        let last = row.len().saturating_sub(1);
        for (index, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            line.push_str(&cell.tint.paint(&cell.text, color));
            if index < last {
                let padding = width + GAP - cell.text.chars().count();
                line.push_str(&" ".repeat(padding));
            }
        }
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_keep_their_widths() {
        let mut table = Table::new(["NAME", "PHASE", "MESSAGE"]);
        table.row(["fix-tests".into(), Cell::tinted("Running", Tint::Busy), "a\nb".into()]);
        table.row(["x".into(), "Pending".into(), "".into()]);
        let first = table.take(false, true);
        table.row(["y".into(), "Pending".into(), "later".into()]);
        insta::assert_snapshot!(first + &table.take(false, true), @"
        NAME        PHASE     MESSAGE
        fix-tests   Running   a b
        x           Pending   -
        y           Pending   later
        ");
    }

    #[test]
    fn nothing_is_shown_without_rows() {
        assert_eq!(Table::new(["NAME"]).take(false, true), "");
    }

    #[test]
    fn control_characters_from_outside_are_dropped() {
        assert_eq!(Cell::from("a\u{1b}[2Jb").text, "a[2Jb");
    }

    #[test]
    fn colours_only_when_wanted() {
        assert_eq!(Tint::Bad.paint("x", false), "x");
        assert_eq!(Tint::Bad.paint("x", true), "\u{1b}[31mx\u{1b}[0m");
    }
}
