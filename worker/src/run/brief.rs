//! The brief an agent is given and the report it leaves. The brief is data (JSON), prose (Markdown)
//! and a plain list of what fails; the report is a hint and never a verdict.

use std::path::{Path, PathBuf};

use flyball_core::ids::LoopKey;
use flyball_core::quantity::Distance;
use flyball_core::record::CheckResult;
use flyball_core::report::{REPORT_BYTES_MAX, Report, ReportError};
use flyball_core::spec::{GovernorSpec, LoopSpec, Owns};
use serde::Serialize;

use crate::git::remove_any;

/// Bytes of each failing check's output put into the brief: the end of it, where errors are.
const OUTPUT_BYTES_MAX: usize = 8 * 1024;

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

    /// Writes the three files and makes the report's directory anew, whatever the agent has left there.
    pub(crate) fn write(&self, files: &BriefFiles) -> std::io::Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(&files.json, json)?;
        std::fs::write(&files.text, self.to_markdown())?;
        let cases = self.failing.iter().flat_map(|check| {
            let whole = check.cases.is_empty().then(|| check.name.clone());
            whole.into_iter().chain(check.cases.iter().map(|case| format!("{} {case}", check.name)))
        });
        std::fs::write(&files.failing, cases.map(|line| line + "\n").collect::<String>())?;
        let Some(place) = files.report.parent() else { return Ok(()) };
        remove_any(place)?;
        std::fs::create_dir_all(place)
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
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(ReportError::TooLarge.to_string());
    }
    let mut bytes = Vec::new();
    // One more than there may be shows that there are too many.
    file.take(REPORT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the report cannot be read: {error}"))?;
    Report::parse(&bytes).map(Some).map_err(|error| error.to_string())
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
    fn a_report_of_any_kind_is_read_or_told_and_gone_the_next_time() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        type Leave = fn(&Path);
        let cases: [(Leave, &str); 7] = [
            (|path| std::fs::write(path, "{").unwrap(), "not valid"),
            (|path| symlink("/dev/zero", path).unwrap(), "cannot be read"),
            (|path| symlink("/etc/hostname", path).unwrap(), "cannot be read"),
            (|path| std::fs::create_dir_all(path.join("a/b")).unwrap(), "not a file"),
            (
                |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                "not a file",
            ),
            (
                |path| std::fs::File::create(path).unwrap().set_len(1 << 30).unwrap(),
                "not a file of",
            ),
            (|path| std::fs::write(path, vec![0xff; 100]).unwrap(), "not valid"),
        ];
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("report");
        let files = BriefFiles::in_dirs(dir.path(), &place);
        let brief = brief();
        for (leave, told) in cases {
            brief.write(&files).unwrap();
            assert_eq!(read_report(&files.report), Ok(None));
            leave(&files.report);
            let why = read_report(&files.report).unwrap_err();
            assert!(why.contains(told), "{why}");
            let closed = std::fs::Permissions::from_mode(0o000);
            std::fs::set_permissions(&place, closed).unwrap();
        }
        brief.write(&files).unwrap();
        std::fs::write(&files.report, r#"{"note":"x"}"#).unwrap();
        assert_eq!(read_report(&files.report).unwrap().unwrap().note, "x");
    }

    fn brief() -> Brief {
        Brief {
            version: 1,
            key: "default/x".to_owned(),
            goal: String::new(),
            iteration: 1,
            limits: Limits { files: 1, lines: 1, iterations_left: 1 },
            writable: Vec::new(),
            pinned: Vec::new(),
            distance: Distance::ZERO,
            failing: Vec::new(),
            tried: Vec::new(),
            advice: Vec::new(),
            report: PathBuf::new(),
        }
    }
}
