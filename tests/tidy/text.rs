//! Text hygiene: white space, line ends, and nothing that is true on one machine only.

use std::path::{Component, Path};

use crate::offence::Offence;
use crate::tree::File;

/// Files written by programs that end lines as they like, recorded output included.
fn is_generated(file: &File) -> bool {
    let by_name = [".snap", ".patch", "Cargo.lock"].iter().any(|end| file.path.ends_with(end));
    by_name || file.path.contains("/fixtures/")
}

/// No trailing blanks, no carriage returns, no tabs in Rust.
pub(crate) fn whitespace(file: &File) -> Vec<Offence> {
    if is_generated(file) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (i, line) in file.text.split('\n').enumerate() {
        if line.ends_with(char::is_whitespace) {
            found.push(Offence::new(&file.path, i + 1, "ends in white space"));
        }
        if file.is_rust() && line.contains('\t') {
            found.push(Offence::new(&file.path, i + 1, "holds a tab"));
        }
    }
    found
}

/// A text file ends in exactly one line break.
pub(crate) fn final_newline(file: &File) -> Vec<Offence> {
    let text = &file.text;
    let fine = text.is_empty() || (text.ends_with('\n') && !text.ends_with("\n\n"));
    if fine || is_generated(file) {
        return Vec::new();
    }
    vec![Offence::new(&file.path, 0, "does not end in exactly one line break")]
}

/// Directories that every machine has; a path under another one was copied from somebody's terminal.
const COMMON_ROOTS: &[&str] =
    &["bin", "dev", "etc", "lib", "mnt", "opt", "proc", "run", "srv", "sys", "tmp", "usr", "var"];

/// Names of users that nobody has: they stand for the reader.
const PLACEHOLDERS: &[&str] = &["me", "you", "user"];

/// No path into a home directory, nor into the place where this checkout happens to live.
pub(crate) fn machine_paths(file: &File, checkout: &Path) -> Vec<Offence> {
    // Spelled in pieces, or this file would be its own offender.
    let mut prefixes: Vec<String> = ["home", "root", "Users"].map(|d| format!("/{d}/")).into();
    if let Some(Component::Normal(first)) = checkout.components().nth(1) {
        let first = first.to_string_lossy();
        if !COMMON_ROOTS.contains(&first.as_ref()) {
            prefixes.push(format!("/{first}/"));
        }
    }
    let leaks = |line: &str| prefixes.iter().any(|prefix| starts_a_path(line, prefix));
    let lines = file.text.lines().enumerate().filter(|(_, line)| leaks(line));
    lines.map(|(i, _)| Offence::new(&file.path, i + 1, "names a path of one machine")).collect()
}

/// True where `prefix` begins an absolute path that goes on, rather than continuing a relative one.
fn starts_a_path(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let relative = before.is_some_and(|c| c.is_alphanumeric() || "}_-.*/".contains(c));
        let rest = &line[at + prefix.len()..];
        let next = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        !relative && !next.is_empty() && !PLACEHOLDERS.contains(&next)
    })
}

/// Documents say `cargo`, not where it downloads from: users may have their own registry.
pub(crate) fn registry_hosts(file: &File) -> Vec<Offence> {
    const HOSTS: &[&str] = &["crates.io", "npmjs.", "pypi.org", "rubygems.org", "proxy.golang.org"];
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let names = |line: &str| HOSTS.iter().any(|host| line.contains(host));
    let lines = file.text.lines().enumerate().filter(|(_, line)| names(line));
    lines.map(|(i, _)| Offence::new(&file.path, i + 1, "names a package registry")).collect()
}

#[test]
fn dirty_white_space_is_found() {
    let count = |path, text| whitespace(&File::sample(path, text)).len();
    assert_eq!(count("a.md", "a \nb\t\nc\r\nd\n"), 3);
    assert_eq!(count("a.rs", "\tlet x;\n"), 1);
    assert_eq!(count("a.mk", "\tcc\n"), 0);
    assert_eq!(count("a.snap", "a \n"), 0);
}

#[test]
fn a_missing_or_doubled_last_line_break_is_found() {
    let count = |text| final_newline(&File::sample("a.md", text)).len();
    assert_eq!([count("a"), count("a\n\n"), count("a\n"), count("")], [1, 1, 0, 0]);
}

#[test]
fn paths_of_one_machine_are_found() {
    let count = |text: &str, checkout| {
        machine_paths(&File::sample("a.md", text), Path::new(checkout)).len()
    };
    let home = ["see ", "home", "ann", "x"].join("/");
    assert_eq!(count(&home, "/tmp/clone"), 1);
    assert_eq!(
        count("target/home/ann and {dir}/home/ann and /home/* and /home/me/x", "/tmp/clone"),
        0
    );
    assert_eq!(count("cat /data/flyball/x", "/data/flyball"), 1);
    assert_eq!(count("cat /tmp/flyball/x", "/tmp/flyball"), 0);
}

#[test]
fn registries_in_documents_are_found() {
    assert_eq!(registry_hosts(&File::sample("a.md", "from crates.io\n")).len(), 1);
    assert_eq!(registry_hosts(&File::sample("Cargo.lock", "crates.io-index\n")).len(), 0);
}
