//! What the governor says: reasons, advice and evidence, as short lines without control characters.

use std::fmt::Write as _;

use super::judge::Ruling;
use super::{Changes, Hint, Trial};
use crate::record::{CheckResult, Decision};
use crate::score::ExitKind;

/// Longest line, bytes: two lines of a terminal.
pub const LINE_BYTES_MAX: usize = 200;

/// Most lines of advice in a brief.
pub const ADVICE_LINES_MAX: usize = 6;

/// Names listed in one line; the rest is counted.
const NAMES_MAX: usize = 3;

/// Most lines about failing checks in one piece of evidence.
const FAILING_LINES_MAX: usize = 20;

/// Makes text that came from outside fit for one line of a brief, a table or a terminal.
pub(super) fn clip_line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if line.len() + c.len_utf8() > LINE_BYTES_MAX - '…'.len_utf8() {
            line.push('…');
            break;
        }
        line.push(c);
    }
    line
}

/// `a, b, c and 4 more`.
pub(super) fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    match names.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// One line per failing check: how it ended and which cases fail.
pub fn failing_lines(checks: &[CheckResult]) -> Vec<String> {
    let failing: Vec<&CheckResult> = checks.iter().filter(|check| !check.passed).collect();
    let mut lines: Vec<String> =
        failing.iter().take(FAILING_LINES_MAX).map(|check| failing_line(check)).collect();
    if let Some(more @ 1..) = failing.len().checked_sub(FAILING_LINES_MAX) {
        lines.push(format!("{more} more checks fail"));
    }
    lines
}

fn failing_line(check: &CheckResult) -> String {
    let mut line = format!("check {} fails ({})", check.name, check.exit);
    if let Some(cases) = check.cases {
        let total = cases.passed.saturating_add(cases.failed);
        let _ = write!(line, ": {} of {total} cases", cases.failed);
    }
    if !check.failing_cases.is_empty() {
        let _ = write!(line, ": {}", list(&check.failing_cases));
    }
    clip_line(&line)
}

/// The names of failing checks, for one line.
pub(super) fn failing_names(checks: &[CheckResult]) -> String {
    let failing = checks.iter().filter(|check| !check.passed);
    list(&failing.map(|check| check.name.clone()).collect::<Vec<_>>())
}

/// Why a trial was kept, reverted, refused or called unchanged.
pub(super) fn reason(trial: &Trial<'_>, ruling: &Ruling) -> String {
    let ended = if trial.agent.is_success() {
        String::new()
    } else {
        format!("; the agent ended with {}", trial.agent)
    };
    let line = match ruling.decision {
        Decision::Refused => format!("out of bounds: {}", list(&ruling.over)),
        Decision::Unchanged => format!("the agent changed nothing{ended}"),
        Decision::Kept | Decision::Reverted => {
            let (before, after) = (ruling.bar, trial.distance_after);
            let mut line = format!("distance {before} -> {after}");
            if after == before {
                line.push_str(", no improvement");
            }
            for (verb, names) in [("fixed", &ruling.found.fixed), ("broke", &ruling.found.broken)] {
                if !names.is_empty() {
                    let _ = write!(line, "; {verb} {}", list(names));
                }
            }
            line + &ended
        }
    };
    clip_line(&line)
}

/// What to tell the agent after a trial: the general part.
pub(super) fn advice(trial: &Trial<'_>, ruling: &Ruling) -> Vec<String> {
    let mut lines = Vec::new();
    let Changes { broken, .. } = &ruling.found;
    match ruling.decision {
        Decision::Refused => lines.push(format!(
            "Your last change was thrown away unmeasured because it was out of bounds: {}.",
            list(&ruling.over)
        )),
        Decision::Unchanged => lines.push("You changed nothing last time.".to_owned()),
        Decision::Reverted => lines.push(format!(
            "Your last change was reverted: the distance went from {} to {}{}.",
            ruling.bar,
            trial.distance_after,
            if broken.is_empty() { String::new() } else { format!(", it broke {}", list(broken)) }
        )),
        Decision::Kept => {}
    }
    match trial.agent {
        ExitKind::Exited(0) => {}
        ExitKind::TimedOut => {
            lines.push("You were stopped at your time limit: take a smaller step.".to_owned());
        }
        ExitKind::OverLimit(what) => {
            lines.push(format!("You were stopped for taking too much: {what}."));
        }
        other => lines.push(format!("Your process ended with {other}.")),
    }
    if *trial.hint == Hint::Done && !trial.distance_after.is_zero() {
        lines.push(format!(
            "You reported that you are done, but these checks fail: {}.",
            failing_names(trial.checks)
        ));
    }
    lines
}
