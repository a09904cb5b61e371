//! Rules about what stands in Rust code, looked at without comments and string literals.

use crate::offence::Offence;
use crate::tree::File;

/// `unsafe` may appear in the sandbox crate only, tests included: what it takes to fence processes is kept in one place.
pub(crate) fn unsafe_outside_sandbox(file: &File) -> Vec<Offence> {
    if !file.is_rust() || file.path.starts_with("worker/sandbox/") {
        return Vec::new();
    }
    lines_with(&code_only(&file.text), |line| words(line).any(|word| word == "unsafe"))
        .map(|line| Offence::new(&file.path, line, "unsafe outside worker/sandbox"))
        .collect()
}

/// Work left for later belongs in the tracker. The marks count in every text file, the macros in code.
pub(crate) fn unfinished(file: &File) -> Vec<Offence> {
    if file.is_fixture() {
        return Vec::new();
    }
    // Spelled in two halves, or this file would be its own offender.
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut found: Vec<Offence> =
        lines_with(&file.text, |line| words(line).any(|word| marks.contains(&word)))
            .map(|line| Offence::new(&file.path, line, "a mark of unfinished work"))
            .collect();
    if file.is_rust() {
        let code = code_only(&file.text);
        let unwritten = |line: &str| line.contains("todo!") || line.contains("unimplemented!");
        found.extend(
            lines_with(&code, unwritten)
                .map(|line| Offence::new(&file.path, line, "code that is not written yet")),
        );
    }
    found
}

/// Where product code may start processes; everything else asks one of these.
const SPAWNERS: &[&str] = &[
    "worker/sandbox/", // the guard: parent of every run
    "worker/src/git/", // the hostile-repository-safe git command line
    "ctl/",   // roles as processes of their own (`up`, `demo`), the user's editor and pager
    "tools/", // build helpers
];

/// A process that the guard does not know outlives its deadline, so few places may start one.
pub(crate) fn process_spawn(file: &File) -> Vec<Offence> {
    let allowed = SPAWNERS.iter().any(|place| file.path.starts_with(place));
    if !file.is_product_code() || allowed {
        return Vec::new();
    }
    lines_with(&code_only(without_tests(&file.text)), |line| line.contains("process::Command"))
        .map(|line| {
            Offence::new(&file.path, line, "starts processes; see SPAWNERS in the tidy test")
        })
        .collect()
}

/// The numbers, from 1, of the lines that match.
fn lines_with(text: &str, matches: impl Fn(&str) -> bool) -> impl Iterator<Item = usize> {
    text.lines().enumerate().filter(move |(_, line)| matches(line)).map(|(i, _)| i + 1)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The text before an inline test module.
pub(crate) fn without_tests(text: &str) -> &str {
    let mut start = 0;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let module = |next: &&str| next.trim_start().starts_with("mod ") && next.contains('{');
        if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(module) {
            return &text[..start];
        }
        start += line.len();
    }
    text
}

/// The code with every comment and literal turned into blanks, line breaks kept.
pub(crate) fn code_only(text: &str) -> String {
    let mut scanner = Scanner { rest: text, out: String::with_capacity(text.len()) };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    scanner.out
}

struct Scanner<'a> {
    rest: &'a str,
    out: String,
}

impl Scanner<'_> {
    fn step(&mut self) {
        if self.rest.starts_with("//") {
            self.blank(self.rest.find('\n').unwrap_or(self.rest.len()));
        } else if self.rest.starts_with("/*") {
            self.blank(block_comment(self.rest));
        } else if let Some(length) = self.raw_string() {
            self.blank(length);
        } else if self.rest.starts_with('"') {
            self.blank(quoted(self.rest, '"'));
        } else if self.rest.starts_with('\'') && is_char_literal(self.rest) {
            self.blank(quoted(self.rest, '\''));
        } else {
            let length = self.rest.chars().next().map_or(1, char::len_utf8);
            self.out.push_str(&self.rest[..length]);
            self.rest = &self.rest[length..];
        }
    }

    fn blank(&mut self, length: usize) {
        let (gone, rest) = self.rest.split_at(length);
        self.out.extend(gone.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }

    /// The length of a raw string that begins here.
    fn raw_string(&self) -> Option<usize> {
        // A prefix `b` or `c` was copied just before; any other letter means the middle of a word.
        let before = self.out.strip_suffix(['b', 'c']).unwrap_or(&self.out);
        if before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let after = self.rest.strip_prefix('r')?;
        let hashes = after.len() - after.trim_start_matches('#').len();
        let body = after[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        Some(self.rest.len() - body.len() + length)
    }
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a literal from its opening to its closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Tells `'x'` and `'\n'` from a lifetime.
fn is_char_literal(text: &str) -> bool {
    let mut after = text.chars().skip(1);
    match after.next() {
        Some('\\') => true,
        Some(_) => after.next() == Some('\''),
        None => false,
    }
}

#[test]
fn comments_and_literals_are_blanked() {
    let blanked = |text: &str| code_only(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(blanked("a // unsafe\nb /* x /* y */ z */ c"), "a b c");
    assert_eq!(
        blanked(r##"f("un\"safe", r#"a " b"#, br"x", 'x', '\'', b'"') + g"##),
        "f( , , b , , , b ) + g"
    );
    assert_eq!(blanked("fn f<'a>(x: &'a str) -> r#fn {}"), "fn f<'a>(x: &'a str) -> r#fn {}");
    assert_eq!(code_only("\"a\nb\"\nc"), "  \n  \nc");
}

#[test]
fn unsafe_is_found_in_code_and_only_there() {
    let offends = |path, text| !unsafe_outside_sandbox(&File::sample(path, text)).is_empty();
    assert!(offends("worker/src/run.rs", "fn f() { unsafe { g() } }"));
    assert!(!offends("worker/sandbox/src/fork.rs", "fn f() { unsafe { g() } }"));
    assert!(!offends("worker/src/run.rs", "// unsafe is for others\n#![deny(unsafe_code)]"));
}

#[test]
fn unfinished_work_is_found() {
    let offends = |path, text: &str| !unfinished(&File::sample(path, text)).is_empty();
    assert!(offends("a.rs", concat!("// TO", "DO: later")));
    assert!(offends("README.md", concat!("FIX", "ME")));
    assert!(offends("a.rs", "fn f() { todo!() }"));
    assert!(!offends("a.rs", "// never write todo!() here\nlet name = \"aXXXb\";"));
    assert!(!offends("examples/calc/src/lib.rs", "fn f() { todo!() }"));
}

#[test]
fn a_stray_process_is_found() {
    let text = "use std::process::Command;\n";
    let offends = |path| !process_spawn(&File::sample(path, text)).is_empty();
    assert!(offends("scheduler/src/reactor.rs") && offends("worker/src/run.rs"));
    assert!(!offends("worker/src/git/runner.rs") && !offends("worker/src/tests.rs"));
}

#[test]
fn an_inline_test_module_is_cut_off() {
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests {\n}\n"), "a\n");
    assert_eq!(
        without_tests("a\n#[cfg(test)]\nmod tests;\nb\n"),
        "a\n#[cfg(test)]\nmod tests;\nb\n"
    );
}
