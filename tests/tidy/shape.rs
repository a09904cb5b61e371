//! Size budgets: small files of small functions, each file with a word on what it is for.

use crate::code::{code_only, without_tests};
use crate::offence::Offence;
use crate::tree::File;

/// A function that does not fit on one screen does more than one thing.
const FUNCTION_LINES_MAX: usize = 70;
/// Past this a file needs a reason in [`LONG_FILES`].
const FILE_LINES_SOFT: usize = 400;
/// Past this no reason counts.
const FILE_LINES_MAX: usize = 600;

/// Files over the soft limit, each with why it is better in one piece.
pub(crate) const LONG_FILES: &[(&str, &str)] = &[(
    "worker/sandbox/src/confine/system_calls.rs",
    "two tables with a system call a line, which are read together",
)];

/// Every Rust file opens with a `//!` line.
pub(crate) fn header(file: &File) -> Vec<Offence> {
    if !file.is_rust() || file.is_fixture() || file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![Offence::new(&file.path, 1, "does not open with `//!` and what the file is for")]
}

/// Functions of product code within [`FUNCTION_LINES_MAX`], from the `fn` line to the closing brace.
pub(crate) fn functions(file: &File) -> Vec<Offence> {
    if !file.is_product_code() {
        return Vec::new();
    }
    let long = |f: &Function| f.lines > FUNCTION_LINES_MAX;
    function_lengths(&code_only(without_tests(&file.text)))
        .into_iter()
        .filter(long)
        .map(|f| {
            let message =
                format!("fn {} has {} lines (at most {FUNCTION_LINES_MAX})", f.name, f.lines);
            Offence::new(&file.path, f.line, message)
        })
        .collect()
}

/// Files of product code within the limits, tests not counted.
pub(crate) fn file_length(file: &File, exceptions: &[(&str, &str)]) -> Vec<Offence> {
    let lines = counted_lines(file);
    let excepted = exceptions.iter().any(|(path, _)| *path == file.path);
    let message = match lines {
        _ if lines > FILE_LINES_MAX => format!("{lines} lines (never more than {FILE_LINES_MAX})"),
        _ if lines > FILE_LINES_SOFT && !excepted => {
            format!("{lines} lines (at most {FILE_LINES_SOFT}, or a reason in LONG_FILES)")
        }
        _ => return Vec::new(),
    };
    vec![Offence::new(&file.path, 0, message)]
}

/// Exceptions that are no longer needed, or have no reason.
pub(crate) fn stale_exceptions(files: &[File], exceptions: &[(&str, &str)]) -> Vec<Offence> {
    let needed = |path: &str| {
        files.iter().any(|file| file.path == path && counted_lines(file) > FILE_LINES_SOFT)
    };
    exceptions
        .iter()
        .filter(|(path, reason)| !needed(path) || reason.is_empty())
        .map(|(path, _)| Offence::new(path, 0, "is in LONG_FILES without need or reason"))
        .collect()
}

fn counted_lines(file: &File) -> usize {
    if file.is_product_code() { without_tests(&file.text).lines().count() } else { 0 }
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

/// A function whose end has not been seen.
struct Open {
    name: String,
    line: usize,
    depth: usize,
    in_body: bool,
}

/// Walks blanked code once and follows its braces.
#[derive(Default)]
struct Walk {
    open: Vec<Open>,
    done: Vec<Function>,
    depth: usize,
    word: String,
    after_fn: bool,
}

fn function_lengths(code: &str) -> Vec<Function> {
    let mut walk = Walk::default();
    for (i, line) in code.lines().enumerate() {
        for c in line.chars().chain(['\n']) {
            walk.on_char(c, i + 1);
        }
    }
    walk.done
}

impl Walk {
    fn on_char(&mut self, c: char, line: usize) {
        if c.is_alphanumeric() || c == '_' {
            self.word.push(c);
            return;
        }
        if !self.word.is_empty() {
            self.on_word(line);
        }
        match c {
            // Parentheses and brackets count too: `fn f(x: [u8; 4]);` has a `;` that ends nothing.
            '{' | '(' | '[' => {
                if let Some(f) = self.open.last_mut().filter(|f| c == '{' && f.depth == self.depth)
                {
                    f.in_body = true;
                }
                self.depth += 1;
            }
            '}' | ')' | ']' => {
                self.depth = self.depth.saturating_sub(1);
                if c == '}' && self.open.last().is_some_and(|f| f.in_body && f.depth == self.depth)
                {
                    self.close(line);
                }
            }
            ';' if self.open.last().is_some_and(|f| !f.in_body && f.depth == self.depth) => {
                self.open.pop();
            }
            _ => {}
        }
        // `fn(` is a type, not a function.
        self.after_fn &= c.is_whitespace();
    }

    fn on_word(&mut self, line: usize) {
        let word = std::mem::take(&mut self.word);
        if self.after_fn {
            self.open.push(Open { name: word, line, depth: self.depth, in_body: false });
            self.after_fn = false;
        } else {
            self.after_fn = word == "fn";
        }
    }

    fn close(&mut self, line: usize) {
        if let Some(f) = self.open.pop() {
            self.done.push(Function { name: f.name, line: f.line, lines: line + 1 - f.line });
        }
    }
}

#[test]
fn lengths_of_functions_are_measured() {
    let code = "trait T { fn a(&self, x: [u8; 2]);\n fn b() {\n if x { }\n } }\nimpl T { fn c(f: fn(u8)) -> u8\n where X: Y,\n {\n fn d() {}\n }\n}";
    let found: Vec<_> =
        function_lengths(code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    let expected = [("b", 2, 3), ("d", 8, 1), ("c", 5, 5)];
    assert_eq!(found, expected.map(|(name, line, lines)| (name.to_owned(), line, lines)));
}

#[test]
fn a_long_function_is_found() {
    let body = |lines: usize| format!("fn long() {{\n{}}}\n", "    x();\n".repeat(lines - 2));
    assert!(functions(&File::sample("worker/src/a.rs", &body(70))).is_empty());
    assert_eq!(functions(&File::sample("worker/src/a.rs", &body(71))).len(), 1);
    assert!(functions(&File::sample("worker/src/tests.rs", &body(71))).is_empty());
}

#[test]
fn a_long_file_is_found() {
    let file = |lines| File::sample("worker/src/a.rs", &"x\n".repeat(lines));
    let reason = [("worker/src/a.rs", "one table")];
    assert!(file_length(&file(400), &[]).is_empty());
    assert_eq!(file_length(&file(401), &[]).len(), 1);
    assert!(file_length(&file(600), &reason).is_empty());
    assert_eq!(file_length(&file(601), &reason).len(), 1);
    assert_eq!(stale_exceptions(&[file(400)], &reason).len(), 1);
    assert!(stale_exceptions(&[file(401)], &reason).is_empty());
    assert_eq!(stale_exceptions(&[file(401)], &[("worker/src/a.rs", "")]).len(), 1);
}

#[test]
fn a_missing_header_is_found() {
    assert_eq!(header(&File::sample("ctl/src/a.rs", "use x;\n")).len(), 1);
    assert_eq!(header(&File::sample("ctl/src/a.rs", "")).len(), 1);
    assert!(header(&File::sample("ctl/src/a.rs", "//! Reads a.\n")).is_empty());
    assert!(header(&File::sample("README.md", "Flyball")).is_empty());
}
