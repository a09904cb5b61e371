//! Reads the output of Rust's test harness as `cargo test` shows it: several binaries one after the
//! other, doc tests, colours, and whatever the tests print in between.
//!
//! A case's name is `<binary>: <path>`, so that equal names of different binaries stay apart. The
//! binary's name comes from cargo's `Running …` line, without the hash that changes with the
//! directory it is built in. Line numbers of doc tests are replaced by their order, as any edit
//! above would make them other cases.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::cases::Cases;

/// What a case's line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    /// Not run: no case, and gone if it was one before.
    Ignored,
}

/// Reads an output, whatever it is.
pub(super) fn parse(output: &str) -> Cases {
    let mut reader = Reader::default();
    for line in output.lines() {
        reader.on_line(strip_colours(line).trim_end());
    }
    reader.end_section();
    reader.cases
}

#[derive(Default)]
struct Reader {
    cases: Cases,
    section: Section,
    header: Option<String>,
    /// How often each label was used: the second binary of the same name is another one.
    labels: BTreeMap<String, u32>,
    unlabelled: u32,
}

/// The output of one test binary.
#[derive(Default)]
struct Section {
    label: Option<String>,
    /// `running N tests` was seen.
    begun: bool,
    passed: u64,
    failed: u64,
    /// A case whose verdict comes on a later line, after what the test printed.
    open: Option<String>,
    /// Doc tests by name, with their lines.
    docs: BTreeMap<String, Vec<(u64, bool)>>,
}

impl Reader {
    fn on_line(&mut self, line: &str) {
        if let Some(label) = header(line) {
            self.begin_section(Some(label));
        } else if is_running_line(line) {
            if self.section.begun {
                self.begin_section(None);
            }
            self.section.begun = true;
        } else if let Some(rest) = line.strip_prefix("test result: ") {
            self.on_result(rest);
        } else if let Some(rest) = line.strip_prefix("test ") {
            self.on_case(rest);
        } else if self.section.open.is_some()
            && let Some(found) = verdict(line)
            && let Some(name) = self.section.open.take()
        {
            self.add(&name, found);
        }
    }

    /// A section without a header of its own belongs to the header before it: doc tests come in
    /// several, and a caller may have put all of cargo's own lines first.
    fn begin_section(&mut self, header: Option<String>) {
        self.end_section();
        if header.is_some() {
            self.header = header;
        }
        let label = self.header.clone().map(|label| {
            let used = self.labels.entry(label.clone()).or_default();
            *used += 1;
            if *used > 1 { format!("{label} #{used}") } else { label }
        });
        self.section = Section { label, ..Section::default() };
    }

    fn end_section(&mut self) {
        let section = std::mem::take(&mut self.section);
        if section.label.is_none() && section.begun {
            self.unlabelled += 1;
        }
        for (name, mut lines) in section.docs {
            lines.sort_unstable();
            for ((_, passed), order) in lines.into_iter().zip(1_u64..) {
                let name = if order > 1 { format!("{name} #{order}") } else { name.clone() };
                self.cases.add(&name, passed);
            }
        }
    }

    fn on_case(&mut self, rest: &str) {
        // `name ... ok`, or `name ...` with the verdict after what the test prints.
        let (name, tail) = match rest.split_once(" ... ") {
            Some((name, tail)) => (name, tail),
            None => match rest.strip_suffix(" ...") {
                Some(name) => (name, ""),
                None => return,
            },
        };
        match verdict(tail) {
            Some(found) => self.add(name, found),
            None => self.section.open = Some(name.to_owned()),
        }
    }

    fn add(&mut self, name: &str, found: Verdict) {
        self.section.open = None;
        let passed = match found {
            Verdict::Passed => true,
            Verdict::Failed => false,
            Verdict::Ignored => return,
        };
        let count = if passed { &mut self.section.passed } else { &mut self.section.failed };
        *count = count.saturating_add(1);
        let name = name.strip_suffix(" - should panic").unwrap_or(name);
        match doc_test(name) {
            Some((base, line)) => {
                let name = self.labelled(base);
                self.section.docs.entry(name).or_default().push((line, passed));
            }
            None => {
                let name = self.labelled(name);
                self.cases.add(&name, passed);
            }
        }
    }

    fn labelled(&self, name: &str) -> String {
        match &self.section.label {
            Some(label) => format!("{label}: {name}"),
            None if self.unlabelled > 0 => format!("binary {}: {name}", self.unlabelled + 1),
            None => name.to_owned(),
        }
    }

    /// `FAILED. 1 passed; 2 failed; …`: cases whose lines were lost in what the tests print are
    /// counted without names.
    fn on_result(&mut self, rest: &str) {
        let count = |word: &str| {
            let mut words = rest.split([' ', ';']).filter(|part| !part.is_empty()).peekable();
            while let Some(part) = words.next() {
                if words.peek() == Some(&word) {
                    return part.parse::<u64>().ok();
                }
            }
            None
        };
        let (Some(passed), Some(failed)) = (count("passed"), count("failed")) else { return };
        let lost_passed = passed.saturating_sub(self.section.passed);
        let lost_failed = failed.saturating_sub(self.section.failed);
        self.cases.add_nameless(lost_passed, lost_failed);
        let lost = lost_passed.saturating_add(lost_failed);
        self.cases.garbled = self.cases.garbled.saturating_add(lost);
        // A second summary in the same section has nothing to add.
        self.section.passed = self.section.passed.max(passed);
        self.section.failed = self.section.failed.max(failed);
    }
}

/// `ok`, `FAILED`, `ignored`, maybe with a time or a reason after it.
fn verdict(text: &str) -> Option<Verdict> {
    let word = text.trim_start().split([' ', ',']).next().unwrap_or_default();
    let rest = text.trim_start().get(word.len()..).unwrap_or_default();
    // A time (`ok <0.003s>`) or a remark (`FAILED (time limit exceeded)`), not a sentence.
    let plain = rest.is_empty() || rest.starts_with(" <") || rest.starts_with(" (");
    match word {
        "ok" if plain => Some(Verdict::Passed),
        "FAILED" if plain => Some(Verdict::Failed),
        "ignored" if plain || rest.starts_with(',') => Some(Verdict::Ignored),
        "bench:" => Some(Verdict::Passed),
        _ => None,
    }
}

/// `running 3 tests`.
fn is_running_line(line: &str) -> bool {
    let count = line
        .strip_prefix("running ")
        .and_then(|rest| rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test")));
    count.is_some_and(|count| !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()))
}

/// Cargo's line before each binary: `Running unittests src/lib.rs (target/debug/deps/calc-<hash>)`,
/// or `Doc-tests calc`.
fn header(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{} doc-tests", name.trim()));
    }
    let rest = line.strip_prefix("Running ")?;
    let (target, path) = match rest.strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")) {
        Some((target, path)) => (target.trim_start_matches("unittests ").trim(), path),
        // With `--verbose`: the command in backquotes.
        None => ("", rest.strip_prefix('`')?.split(['`', ' ']).next()?),
    };
    let (directory, file) = path.rsplit_once(['/', '\\'])?;
    if !directory.ends_with("deps") {
        return None;
    }
    let file = file.strip_suffix(".exe").unwrap_or(file);
    let is_hash = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let binary = match file.rsplit_once('-') {
        Some((name, hash)) if is_hash(hash) => name,
        _ => file,
    };
    Some(if target.is_empty() { binary.to_owned() } else { format!("{binary} {target}") })
}

/// `src/lib.rs - item (line 12)`, maybe with ` - compile fail` after it: its name and its line.
fn doc_test(name: &str) -> Option<(&str, u64)> {
    let (base, rest) = name.rsplit_once(" (line ")?;
    let (line, _) = rest.split_once(')')?;
    Some((base, line.parse().ok()?))
}

/// Without terminal colours (`CARGO_TERM_COLOR=always`).
fn strip_colours(line: &str) -> Cow<'_, str> {
    const ESCAPE: char = '\u{1b}';
    if !line.contains(ESCAPE) {
        return Cow::Borrowed(line);
    }
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c != ESCAPE {
            plain.push(c);
            continue;
        }
        match chars.next() {
            // A control sequence ends with its first letter or sign from @ on.
            Some('[') => {
                let _ = chars.find(|c| ('@'..='~').contains(c));
            }
            // A choice of character set has one more character.
            Some('(' | ')') => {
                let _ = chars.next();
            }
            _ => {}
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_a_word_with_a_time_or_a_remark_and_no_sentence() {
        for text in ["ok", " ok", "ok <0.003s>", "FAILED (time limit exceeded)"] {
            assert!(verdict(text).is_some(), "{text}");
        }
        for text in ["ok then", "ok, then", "FAILED to open x", "FAILED, again"] {
            assert!(verdict(text).is_none(), "{text}");
        }
        for text in ["ignored", "ignored, needs a network", "ignored <0.000s>"] {
            assert!(matches!(verdict(text), Some(Verdict::Ignored)), "{text}");
        }
        assert!(verdict("ignored it all").is_none());
    }

    #[test]
    fn a_running_line_has_a_number() {
        assert!(is_running_line("running 3 tests") && is_running_line("running 1 test"));
        for line in ["running  tests", "running some tests", "running 3x tests", "running 3"] {
            assert!(!is_running_line(line), "{line}");
        }
    }
}
