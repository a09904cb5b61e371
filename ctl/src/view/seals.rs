//! `seal list`: whose journals are still to be sealed.

use flyball_proto::v1::SealInfo;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::words;
use crate::output::{Cell, Table};

/// Longest list of resources in a cell of the narrow table, in characters.
const RESOURCES_CHARS_MAX: usize = 60;

/// An empty table of seals.
pub(crate) fn table(namespace: bool) -> Table {
    let headers = ["LOOP", "STATE", "RUNS", "LAST TOKEN", "REPOSITORY", "BLOCKED", "UID"];
    let first = namespace.then_some("NAMESPACE");
    Table::new(first.into_iter().chain(headers).collect::<Vec<_>>())
}

/// The row of what is to be sealed of one loop.
pub(crate) fn row(seal: &SealInfo, wide: bool, namespace: bool) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    if namespace {
        cells.push(seal.namespace.as_str().into());
    }
    let state = match (seal.given_up_by.is_empty(), seal.removed) {
        (false, _) => "given up",
        (true, true) => "removed",
        (true, false) => "listed",
    };
    let chars_max = if wide { usize::MAX } else { RESOURCES_CHARS_MAX };
    let tokens = seal.runs.iter().map(|run| run.token).max().unwrap_or_default();
    cells.extend([
        seal.r#loop.as_str().into(),
        state.into(),
        seal.runs.len().to_string().into(),
        tokens.to_string().into(),
        words::names(&repositories(seal), chars_max).into(),
        words::names(&resources(seal), chars_max).into(),
        seal.uid.as_str().into(),
    ]);
    cells
}

/// The repositories that its journals are in.
pub(crate) fn repositories(seal: &SealInfo) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> =
        seal.runs.iter().map(|run| &run.repository).collect();
    all.into_iter().cloned().collect()
}

/// The resources that are blocked until then.
pub(crate) fn resources(seal: &SealInfo) -> Vec<String> {
    let all: std::collections::BTreeSet<&String> =
        seal.runs.iter().flat_map(|run| &run.resources).collect();
    all.into_iter().cloned().collect()
}

/// What is to be sealed of one loop as a document.
pub(crate) fn document(seal: &SealInfo) -> Value {
    let since = Timestamp::from_millisecond(seal.since_unix_ms).ok();
    let since = since.filter(|_| seal.since_unix_ms != 0).map(|since| since.to_string());
    let runs: Vec<Value> = seal
        .runs
        .iter()
        .map(|run| {
            json!({
                "token": run.token, "repository": run.repository, "resources": run.resources,
            })
        })
        .collect();
    let by = (!seal.given_up_by.is_empty()).then_some(&seal.given_up_by);
    json!({
        "apiVersion": flyball_core::spec::API_VERSION,
        "kind": "Seal",
        "metadata": { "namespace": seal.namespace, "name": seal.r#loop },
        "seal": {
            "uid": seal.uid,
            "removed": seal.removed,
            "since": since,
            "runs": runs,
            "givenUp": by.map(|by| json!({ "by": by, "reason": seal.given_up_reason })),
        },
    })
}

#[cfg(test)]
mod tests {
    use flyball_proto::v1::UnsealedRun;

    use super::*;

    #[test]
    fn the_table_and_document_of_seals() {
        let run = |token, resource: &str| UnsealedRun {
            token,
            repository: "https://example.org/r".to_owned(),
            resources: vec![resource.to_owned()],
        };
        let seal = SealInfo {
            uid: "5b0f9d52".to_owned(),
            namespace: "default".to_owned(),
            r#loop: "fix-tests".to_owned(),
            removed: true,
            runs: vec![run(57, "env:staging"), run(61, "env:test")],
            since_unix_ms: 1_772_366_280_000,
            ..SealInfo::default()
        };
        let mut table = table(true);
        table.row(row(&seal, false, true));
        let document = format!("{:#}", document(&seal));
        insta::assert_snapshot!(table.take(false, true) + "\n" + &document, @r#"
        NAMESPACE   LOOP        STATE     RUNS   LAST TOKEN   REPOSITORY              BLOCKED                UID
        default     fix-tests   removed   2      61           https://example.org/r   env:staging,env:test   5b0f9d52

        {
          "apiVersion": "flyball.dev/v1",
          "kind": "Seal",
          "metadata": {
            "name": "fix-tests",
            "namespace": "default"
          },
          "seal": {
            "givenUp": null,
            "removed": true,
            "runs": [
              {
                "repository": "https://example.org/r",
                "resources": [
                  "env:staging"
                ],
                "token": 57
              },
              {
                "repository": "https://example.org/r",
                "resources": [
                  "env:test"
                ],
                "token": 61
              }
            ],
            "since": "2026-03-01T11:58:00Z",
            "uid": "5b0f9d52"
          }
        }
        "#);
    }
}
