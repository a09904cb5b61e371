//! `explain`: why a loop is where it is, and what can be done.

use flyball_proto::v1::ExplainResponse;
use serde_json::{Value, json};

use crate::output::Tint;

/// The text of an explanation.
pub(crate) fn text(name: &str, answer: &ExplainResponse, color: bool) -> String {
    let phase = if answer.phase.is_empty() { "unknown" } else { &answer.phase };
    let mut text = format!("loop/{name} is {phase}: {}\n", answer.headline);
    for finding in &answer.findings {
        text.push_str(&format!("  - {}\n", indented(finding)));
    }
    if !answer.next_steps.is_empty() {
        text.push_str(&format!("{}\n", Tint::Dim.paint("What you can do:", color)));
        for step in &answer.next_steps {
            text.push_str(&format!("  - {}\n", indented(step)));
        }
    }
    text
}

/// More lines of one finding stay under its first.
fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect());
    lines.collect::<Vec<String>>().join("\n    ")
}

/// An explanation as a document.
pub(crate) fn document(namespace: &str, name: &str, answer: &ExplainResponse) -> Value {
    json!({
        "namespace": namespace,
        "name": name,
        "phase": answer.phase,
        "headline": answer.headline,
        "findings": answer.findings,
        "nextSteps": answer.next_steps,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_explanation_names_findings_and_steps() {
        let answer = ExplainResponse {
            phase: "Pending".to_owned(),
            headline: "another loop owns an overlapping resource".to_owned(),
            findings: vec![
                "git:example.org/app/src/** is owned by default/fix-tests on node-1 for 12s"
                    .to_owned(),
                "wanted: git:example.org/app/src/parser/**".to_owned(),
            ],
            next_steps: vec!["flyball wait fix-tests --for=finished".to_owned()],
        };
        insta::assert_snapshot!(text("second", &answer, false), @"
        loop/second is Pending: another loop owns an overlapping resource
          - git:example.org/app/src/** is owned by default/fix-tests on node-1 for 12s
          - wanted: git:example.org/app/src/parser/**
        What you can do:
          - flyball wait fix-tests --for=finished
        ");
        insta::assert_snapshot!(document("default", "second", &answer), @r#"{"findings":["git:example.org/app/src/** is owned by default/fix-tests on node-1 for 12s","wanted: git:example.org/app/src/parser/**"],"headline":"another loop owns an overlapping resource","name":"second","namespace":"default","nextSteps":["flyball wait fix-tests --for=finished"],"phase":"Pending"}"#);
    }
}
