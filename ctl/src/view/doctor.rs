//! `doctor`: findings in sections, each with the next step.

use std::fmt::Write as _;

use flyball_core::diagnosis::{Diagnosis, Finding, Level};
use serde_json::{Value, json};

use crate::output::Tint;

/// Findings of one section that are as they should be and are shown one by one; of more only how
/// many there are, unless all are asked for.
const OK_TOLD_MAX: usize = 8;

/// The page.
pub(crate) fn page(diagnosis: &Diagnosis, all: bool, color: bool) -> String {
    let mut text = String::new();
    for section in diagnosis.findings.chunk_by(|one, two| one.area == two.area) {
        let Some(first) = section.first() else { continue };
        text.push_str(first.area.title());
        text.push('\n');
        let fine = section.iter().filter(|one| one.level == Level::Ok).count();
        let fold = fine > OK_TOLD_MAX && !all;
        for finding in section.iter().filter(|one| !fold || one.level != Level::Ok) {
            text.push_str(&line(finding, color));
        }
        if fold {
            let ok = Tint::Good.paint("ok", color);
            text.push_str(&format!("  {ok}       {fine} more are as they should be (-o wide)\n"));
        }
    }
    text.push_str(&summary(diagnosis));
    text
}

fn line(finding: &Finding, color: bool) -> String {
    let tint = match finding.level {
        Level::Ok => Tint::Good,
        Level::Warning => Tint::Waiting,
        Level::Error => Tint::Bad,
    };
    let word = finding.level.as_str();
    let mut text = format!("  {}{}", tint.paint(word, color), " ".repeat(9 - word.len()));
    if !finding.subject.is_empty() {
        text.push_str(&plain(&finding.subject));
        text.push_str(": ");
    }
    text.push_str(&plain(&finding.message));
    text.push('\n');
    if !finding.next_step.is_empty() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "           -> {}", plain(&finding.next_step));
    }
    text
}

/// On one line and without control characters: messages carry texts from outside.
fn plain(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).collect()
}

fn summary(diagnosis: &Diagnosis) -> String {
    let count = |level| diagnosis.findings.iter().filter(|one| one.level == level).count();
    let told = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    };
    match (count(Level::Error), count(Level::Warning)) {
        (0, 0) => "\nEverything is as it should be.\n".to_owned(),
        (errors, warnings) => {
            format!("\n{}, {}.\n", told(errors, "error"), told(warnings, "warning"))
        }
    }
}

/// The diagnosis as a document.
pub(crate) fn document(diagnosis: &Diagnosis) -> Value {
    json!({
        "apiVersion": flyball_core::spec::API_VERSION,
        "kind": "Diagnosis",
        "level": diagnosis.worst(),
        "findings": diagnosis.findings,
    })
}

#[cfg(test)]
mod tests {
    use flyball_core::diagnosis::Area;

    use super::*;

    #[test]
    fn findings_stand_in_sections_with_their_next_steps() {
        let findings = vec![
            Finding::ok(Area::Connection, "Reached", "answers").about("unix:///s"),
            Finding::warning(Area::Store, "EtcdKnownBugs", "etcd 3.4.23:\nbugs", "upgrade"),
            Finding::error(Area::Store, "EtcdNoSpace", "full", "compact").figure("dbBytes", 7),
        ];
        let diagnosis = Diagnosis { findings };
        insta::assert_snapshot!(page(&diagnosis, false, false), @"
        Connection
          ok       unix:///s: answers
        Store
          warning  etcd 3.4.23: bugs
                   -> upgrade
          error    full
                   -> compact

        1 error, 1 warning.
        ");
        insta::assert_snapshot!(document(&diagnosis), @r#"{"apiVersion":"flyball.dev/v1","findings":[{"area":"connection","code":"Reached","level":"ok","message":"answers","nextStep":"","subject":"unix:///s"},{"area":"store","code":"EtcdKnownBugs","level":"warning","message":"etcd 3.4.23:\nbugs","nextStep":"upgrade","subject":""},{"area":"store","code":"EtcdNoSpace","figures":{"dbBytes":7},"level":"error","message":"full","nextStep":"compact","subject":""}],"kind":"Diagnosis","level":"error"}"#);
    }

    #[test]
    fn many_that_are_well_are_counted() {
        let well =
            |number: usize| Finding::ok(Area::Node, "Node", "online").about(format!("n{number}"));
        let mut findings: Vec<_> = (0..20).map(well).collect();
        findings.push(Finding::warning(Area::Node, "NodeAway", "away", "start it").about("n20"));
        let diagnosis = Diagnosis { findings };
        insta::assert_snapshot!(page(&diagnosis, false, false), @"
        Nodes
          warning  n20: away
                   -> start it
          ok       20 more are as they should be (-o wide)

        0 errors, 1 warning.
        ");
        assert_eq!(page(&diagnosis, true, false).lines().count(), 25);
    }
}
