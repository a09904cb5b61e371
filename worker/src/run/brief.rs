//! The brief an agent is given and the report it leaves. The brief is data (JSON), prose (Markdown)
//! and a plain list of what fails; the report is a hint and never a verdict.

use std::path::{Path, PathBuf};

use flyball_core::ids::LoopKey;
use flyball_core::quantity::Distance;
use flyball_core::record::CheckResult;
use flyball_core::spec::{GovernorSpec, LoopSpec, Owns};
use serde::{Deserialize, Serialize};

/// Bytes of each failing check's output put into the brief: the end of it, where errors are.
const OUTPUT_BYTES_MAX: usize = 8 * 1024;
/// Longest report that is read.
const REPORT_BYTES_MAX: u64 = 64 * 1024;

/// What the agent is told, as `brief.json`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Brief {
    /// Version of this form.
    pub(crate) version: u32,
    #[serde(rename = "loop")]
    pub(crate) key: String,
    pub(crate) goal: String,
    pub(crate) iteration: u32,
    /// What one iteration may do.
    pub(crate) limits: Limits,
    /// Paths that may be changed; everything else is refused.
    pub(crate) writable: Vec<String>,
    /// Paths that may not be changed although they match.
    pub(crate) pinned: Vec<String>,
    pub(crate) distance: Distance,
    pub(crate) failing: Vec<FailingCheck>,
    /// What was tried before and what became of it.
    pub(crate) tried: Vec<String>,
    /// What the governor advises.
    pub(crate) advice: Vec<String>,
    /// Where to leave the report.
    pub(crate) report: PathBuf,
}

/// Bounds of one iteration.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Limits {
    pub(crate) files: u32,
    pub(crate) lines: u32,
    pub(crate) iterations_left: u32,
}

/// A check that fails, with the end of its output.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FailingCheck {
    pub(crate) name: String,
    pub(crate) command: String,
    pub(crate) exit: String,
    pub(crate) cases: Vec<String>,
    pub(crate) output: String,
}

/// What the agent claims.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Claim {
    /// Nothing.
    #[default]
    None,
    /// The goal is reached. Verified like anything else.
    Done,
    /// The goal cannot be reached.
    Unreachable,
    /// A person must decide something.
    NeedsHuman,
}

/// The report an agent may leave as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// A line about what it did.
    pub(crate) note: String,
    /// What it claims.
    pub(crate) claim: Claim,
}

/// Where the files of a brief are.
#[derive(Debug, Clone)]
pub(crate) struct BriefFiles {
    pub(crate) json: PathBuf,
    pub(crate) text: PathBuf,
    pub(crate) failing: PathBuf,
    pub(crate) report: PathBuf,
}

impl BriefFiles {
    /// The brief, to be read only, and the report, to be written, are in two directories.
    pub(crate) fn in_dirs(dir: &Path, report: &Path) -> Self {
        Self {
            json: dir.join("brief.json"),
            text: dir.join("brief.md"),
            failing: dir.join("failing.txt"),
            report: report.join("report.json"),
        }
    }
}

/// Everything a brief is made of.
pub(crate) struct BriefInput<'a> {
    pub(crate) key: &'a LoopKey,
    pub(crate) spec: &'a LoopSpec,
    pub(crate) iteration: u32,
    pub(crate) checks: &'a [CheckResult],
    /// Output of each check, in the order of `checks`.
    pub(crate) outputs: &'a [String],
    pub(crate) distance: Distance,
    pub(crate) tried: Vec<String>,
    pub(crate) advice: Vec<String>,
}

impl Brief {
    pub(crate) fn new(input: &BriefInput<'_>, files: &BriefFiles) -> Self {
        let governor: &GovernorSpec = &input.spec.governor;
        Self {
            version: 1,
            key: input.key.to_string(),
            goal: input.spec.goal.clone(),
            iteration: input.iteration,
            limits: Limits {
                files: governor.max_files,
                lines: governor.max_lines,
                iterations_left: governor.iterations.saturating_sub(input.iteration - 1),
            },
            writable: input.spec.owns.iter().filter_map(writable).collect(),
            pinned: input.spec.pins.clone(),
            distance: input.distance,
            failing: failing(input),
            tried: input.tried.clone(),
            advice: input.advice.clone(),
            report: files.report.clone(),
        }
    }

    /// Writes the three files and removes an old report.
    pub(crate) fn write(&self, files: &BriefFiles) -> std::io::Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(&files.json, json)?;
        std::fs::write(&files.text, self.to_markdown())?;
        let cases = self.failing.iter().flat_map(|check| {
            let whole = check.cases.is_empty().then(|| check.name.clone());
            whole.into_iter().chain(check.cases.iter().map(|case| format!("{} {case}", check.name)))
        });
        std::fs::write(&files.failing, cases.map(|line| line + "\n").collect::<String>())?;
        match std::fs::remove_file(&files.report) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The brief as a prompt.
    fn to_markdown(&self) -> String {
        let mut text = format!(
            "# {}\n\n{}\n\nIteration {}, distance {} (0 is done). Make one small change that \
             reduces it: at most {} files and {} lines.\n",
            self.key,
            self.goal.trim(),
            self.iteration,
            self.distance,
            self.limits.files,
            self.limits.lines
        );
        section(&mut text, "You may change only", &self.writable);
        section(&mut text, "You may not change (pinned)", &self.pinned);
        section(&mut text, "Advice", &self.advice);
        section(&mut text, "Tried before", &self.tried);
        for check in &self.failing {
            text += &format!(
                "\n## Failing check `{}` ({})\n\n`{}`\n\n```\n{}\n```\n",
                check.name,
                check.exit,
                check.command,
                check.output.trim_end()
            );
        }
        text += &format!(
            "\nWhen you are done you may leave a report as JSON in `{}`: \
             {{\"note\": \"what you did\", \"claim\": \"done\" | \"unreachable\" | \
             \"needs-human\"}}. Whether the work is done is decided by the checks alone.\n",
            self.report.display()
        );
        text
    }
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        *text += &format!("\n{title}:\n");
        lines.iter().for_each(|line| *text += &format!("- {line}\n"));
    }
}

fn writable(owns: &Owns) -> Option<String> {
    match owns {
        Owns::Exclusive(resource) => Some(resource.clone()),
        Owns::WithAccess(entry) => {
            (entry.access == flyball_core::spec::Access::Exclusive).then(|| entry.resource.clone())
        }
    }
}

fn failing(input: &BriefInput<'_>) -> Vec<FailingCheck> {
    let command = |name: &str| {
        let check = input.spec.checks.iter().find(|check| check.name == name);
        check.map(|check| check.run.argv().last().cloned().unwrap_or_default()).unwrap_or_default()
    };
    let outputs = input.outputs.iter().map(String::as_str).chain(std::iter::repeat(""));
    let failing = input.checks.iter().zip(outputs).filter(|(check, _)| !check.passed);
    failing
        .map(|(check, output)| FailingCheck {
            name: check.name.clone(),
            command: command(&check.name),
            exit: check.exit.clone(),
            cases: check.failing_cases.clone(),
            output: tail(output, OUTPUT_BYTES_MAX).to_owned(),
        })
        .collect()
}

/// The last `bytes_max` bytes of a text, cut at a character.
pub(crate) fn tail(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

/// Reads the report; `Err` says what is wrong with one that is there.
pub(crate) fn read_report(path: &Path) -> Result<Option<Report>, String> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    // The agent may have put a link or a pipe there: neither is followed nor waited for.
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("the report cannot be read: {error}")),
    };
    if !file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= REPORT_BYTES_MAX) {
        return Err(format!("the report is not a file of at most {REPORT_BYTES_MAX} bytes"));
    }
    let mut text = String::new();
    file.take(REPORT_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| format!("the report cannot be read: {error}"))?;
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| format!("the report is not valid: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_cut_at_a_character() {
        assert_eq!(tail("aä", 1), "");
        assert_eq!(tail("aä", 2), "ä");
        assert_eq!(tail("abc", 9), "abc");
    }

    #[test]
    fn reports_are_hints_that_may_be_broken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        assert_eq!(read_report(&path), Ok(None));
        std::fs::write(&path, r#"{"note":"x","claim":"needs-human","more":1}"#).unwrap();
        let report = Report { note: "x".to_owned(), claim: Claim::NeedsHuman };
        assert_eq!(read_report(&path), Ok(Some(report)));
        std::fs::write(&path, "{").unwrap();
        assert!(read_report(&path).is_err());
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        assert!(read_report(&path).is_err());
    }
}
