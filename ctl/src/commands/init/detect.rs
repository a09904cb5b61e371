//! Which kind of project lies in a directory, and how its tests are run.

use std::path::Path;

/// Largest project file that is looked into, in bytes; real ones have a few KiB.
const PROJECT_FILE_BYTES_MAX: u64 = 1 << 20;

/// A build system with a test command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Project {
    Cargo,
    Go,
    Npm,
    Pytest,
    /// `make test` or `make check`.
    Make(&'static str),
    /// Nothing was recognised.
    Unknown,
}

/// How a check reads progress from its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scoring {
    None,
    Libtest,
    Regex { pass: &'static str, fail: &'static str },
}

impl Project {
    /// Looks for project files, the most telling first.
    pub(super) fn detect(root: &Path) -> Self {
        let has = |name: &str| root.join(name).is_file();
        if has("Cargo.toml") {
            return Self::Cargo;
        }
        if has("go.mod") {
            return Self::Go;
        }
        if has("package.json") && has_npm_test(&root.join("package.json")) {
            return Self::Npm;
        }
        let python =
            ["pytest.ini", "conftest.py", "tox.ini", "pyproject.toml", "setup.py", "setup.cfg"];
        let plain = has("requirements.txt") && has_pytest_file(root);
        if plain || python.iter().any(|name| has(name)) || has("tests/conftest.py") {
            return Self::Pytest;
        }
        let makefile = ["GNUmakefile", "makefile", "Makefile"].iter().find(|name| has(name));
        makefile.and_then(|name| make_target(&root.join(name))).map_or(Self::Unknown, Self::Make)
    }

    /// What was recognised, for the user.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Cargo => "a Rust project, tested with cargo",
            Self::Go => "a Go project, tested with go test",
            Self::Npm => "a Node project, tested with npm",
            Self::Pytest => "a Python project, tested with pytest",
            Self::Make(_) => "a project tested with make",
            Self::Unknown => "no test command was recognised: fill in the check",
        }
    }

    /// The test command.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Cargo => "cargo test --no-fail-fast",
            Self::Go => "go test -v ./...",
            Self::Npm => "npm test",
            Self::Pytest => "python3 -m pytest -q -rA",
            Self::Make("check") => "make check",
            Self::Make(_) => "make test",
            Self::Unknown => "./run-tests",
        }
    }

    /// How its output tells single test cases.
    pub(super) fn scoring(self) -> Scoring {
        match self {
            Self::Cargo => Scoring::Libtest,
            Self::Go => Scoring::Regex {
                pass: r"^\s*--- PASS: (?P<name>\S+)",
                fail: r"^\s*--- FAIL: (?P<name>\S+)",
            },
            Self::Pytest => Scoring::Regex {
                pass: r"^PASSED (?P<name>\S+)",
                fail: r"^(FAILED|ERROR) (?P<name>\S+)",
            },
            Self::Npm | Self::Make(_) | Self::Unknown => Scoring::None,
        }
    }
}

fn read(file: &Path) -> Option<String> {
    let size = std::fs::metadata(file).ok()?.len();
    if size > PROJECT_FILE_BYTES_MAX {
        return None;
    }
    std::fs::read_to_string(file).ok()
}

/// Whether `package.json` has a test script other than the one `npm init` puts there.
fn has_npm_test(file: &Path) -> bool {
    let json: Option<serde_json::Value> =
        read(file).and_then(|text| serde_json::from_str(&text).ok());
    let script = json.as_ref().and_then(|json| json.pointer("/scripts/test")?.as_str());
    script.is_some_and(|script| !script.contains("no test specified"))
}

/// Most entries of a directory that are looked at: a directory of tests has some hundreds.
const ENTRIES_MAX: usize = 10_000;

/// Whether `tests/`, `test/` or the root has a file that pytest would collect.
fn has_pytest_file(root: &Path) -> bool {
    let collected = |name: &str| {
        let stem = name.strip_suffix(".py");
        stem.is_some_and(|stem| stem.starts_with("test_") || stem.ends_with("_test"))
    };
    let directories = ["tests", "test", "."].into_iter();
    let entries = directories.filter_map(|name| std::fs::read_dir(root.join(name)).ok());
    let mut entries = entries.flat_map(|entries| entries.take(ENTRIES_MAX).flatten());
    entries.any(|entry| collected(&entry.file_name().to_string_lossy()))
}

fn make_target(file: &Path) -> Option<&'static str> {
    let text = read(file)?;
    let has = |target: &str| {
        text.lines().any(|line| {
            let rest = line.strip_prefix(target);
            rest.is_some_and(|rest| rest.trim_start().starts_with(':') && !rest.contains(":="))
        })
    };
    ["test", "check"].into_iter().find(|target| has(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(files: &[(&str, &str)]) -> Project {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        Project::detect(directory.path())
    }

    #[test]
    fn project_files_tell_the_kind() {
        assert_eq!(detect(&[("Cargo.toml", ""), ("Makefile", "test:\n")]), Project::Cargo);
        assert_eq!(detect(&[("go.mod", "module x")]), Project::Go);
        assert_eq!(detect(&[("pyproject.toml", "")]), Project::Pytest);
        assert_eq!(detect(&[("requirements.txt", ""), ("test_x.py", "")]), Project::Pytest);
        assert_eq!(detect(&[("requirements.txt", "")]), Project::Unknown);
        assert_eq!(detect(&[]), Project::Unknown);
    }

    #[test]
    fn an_npm_test_script_must_be_a_real_one() {
        let real = r#"{ "scripts": { "test": "vitest run" } }"#;
        let empty = r#"{ "scripts": { "test": "echo \"Error: no test specified\" && exit 1" } }"#;
        assert_eq!(detect(&[("package.json", real)]), Project::Npm);
        assert_eq!(detect(&[("package.json", empty)]), Project::Unknown);
        assert_eq!(detect(&[("package.json", "{")]), Project::Unknown);
    }

    #[test]
    fn make_needs_a_target() {
        assert_eq!(detect(&[("Makefile", "all:\n\ntest: all\n\t./t\n")]), Project::Make("test"));
        assert_eq!(detect(&[("GNUmakefile", "check :\n\t./t\n")]), Project::Make("check"));
        assert_eq!(detect(&[("Makefile", "test := 1\ntests:\n")]), Project::Unknown);
    }
}
