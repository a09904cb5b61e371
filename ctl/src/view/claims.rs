//! `get claims`: who owns what.

use flyball_proto::v1::ClaimInfo;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::words;
use crate::output::{Cell, Table};

/// Longest list of resources in a cell of the narrow table, in characters.
const RESOURCES_CHARS_MAX: usize = 60;

/// An empty table of claims.
pub(crate) fn table(wide: bool, namespace: bool) -> Table {
    let mut headers = Vec::new();
    if namespace {
        headers.push("NAMESPACE");
    }
    headers.extend(["LOOP", "NODE", "TOKEN", "SINCE", "LEASE LEFT", "DEADLINE", "RESOURCES"]);
    if wide {
        headers.extend(["INCARNATION", "LEASE", "UID"]);
    }
    Table::new(headers)
}

/// The row of one claim.
pub(crate) fn row(claim: &ClaimInfo, wide: bool, namespace: bool, now: Timestamp) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    if namespace {
        cells.push(claim.namespace.as_str().into());
    }
    let ttl = match claim.lease_ttl_seconds {
        ..0 => "unknown".to_owned(),
        seconds => format!("{seconds}s"),
    };
    // Of a bound a started tenth counts.
    let deadline = claim.deadline_left_ms.and_then(|left| u64::try_from(left).ok());
    let deadline = deadline.map(|left| words::duration(left.div_ceil(100) * 100));
    let chars_max = if wide { usize::MAX } else { RESOURCES_CHARS_MAX };
    cells.extend([
        claim.r#loop.as_str().into(),
        claim.node.as_str().into(),
        claim.token.to_string().into(),
        words::age(Timestamp::from_millisecond(claim.since_unix_ms).ok(), now).into(),
        ttl.into(),
        deadline.unwrap_or_else(|| "-".to_owned()).into(),
        words::names(&claim.resources, chars_max).into(),
    ]);
    if wide {
        cells.push(claim.incarnation.as_str().into());
        cells.push(format!("{:x}", claim.lease_id).into());
        cells.push(claim.uid.as_str().into());
    }
    cells
}

/// A claim as a document.
pub(crate) fn document(claim: &ClaimInfo) -> Value {
    let since = Timestamp::from_millisecond(claim.since_unix_ms).ok();
    let mut document = json!({
        "apiVersion": flyball_core::spec::API_VERSION,
        "kind": "Claim",
        "metadata": { "namespace": claim.namespace, "name": claim.r#loop },
        "claim": {
            "uid": claim.uid,
            "node": claim.node,
            "incarnation": claim.incarnation,
            "token": claim.token,
            "resources": claim.resources,
            "since": since.map(|since| since.to_string()),
            "leaseId": format!("{:x}", claim.lease_id),
            "leaseTtlSeconds": claim.lease_ttl_seconds,
        },
    });
    if let Some(left) = claim.deadline_left_ms {
        document["claim"]["deadlineLeftMs"] = left.into();
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    #[test]
    fn the_table_and_document_of_claims() {
        let mut table = table(false, true);
        table.row(row(&fixtures::claim(), false, true, fixtures::now()));
        let unknown = ClaimInfo { deadline_left_ms: None, ..fixtures::claim() };
        table.row(row(&unknown, false, true, fixtures::now()));
        assert_eq!(document(&unknown)["claim"].get("deadlineLeftMs"), None);
        let document = format!("{:#}", document(&fixtures::claim()));
        insta::assert_snapshot!(table.take(false, true) + "\n" + &document, @r#"
        NAMESPACE   LOOP        NODE     TOKEN   SINCE   LEASE LEFT   DEADLINE   RESOURCES
        default     fix-tests   node-1   57      2m      5s           5.4s       git:example.org/team/app/src/** +1
        default     fix-tests   node-1   57      2m      5s           -          git:example.org/team/app/src/** +1

        {
          "apiVersion": "flyball.dev/v1",
          "claim": {
            "deadlineLeftMs": 5380,
            "incarnation": "i-1",
            "leaseId": "2a",
            "leaseTtlSeconds": 5,
            "node": "node-1",
            "resources": [
              "git:example.org/team/app/src/**",
              "git:example.org/team/app/docs/* (read)"
            ],
            "since": "2026-03-01T11:58:00Z",
            "token": 57,
            "uid": "5b0f9d52"
          },
          "kind": "Claim",
          "metadata": {
            "name": "fix-tests",
            "namespace": "default"
          }
        }
        "#);
    }
}
