//! Workers' reports off the wire. A worker may be newer than this scheduler, and a report that is
//! dropped would leave its run waiting for ever, so what can be read of a document is taken.

use flyball_core::ids::{LoopKey, Token};
use flyball_core::status::{Outcome, Phase, Progress, Reason};
use flyball_proto::v1::{RunEnded, RunUpdate};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::reactor::{Report, ReportBody, SessionId};

pub(super) fn of_update(session: SessionId, update: RunUpdate) -> Report {
    Report {
        session,
        from: None,
        sequence: update.sequence,
        key: LoopKey::new(update.namespace, update.r#loop),
        uid: update.uid.into(),
        token: Token(update.token),
        progress: progress(&update.progress_json),
        body: ReportBody::Update { event: update.event },
    }
}

pub(super) fn of_ended(session: SessionId, ended: RunEnded) -> Report {
    let outcome = outcome(&ended.outcome_json);
    Report {
        session,
        from: None,
        sequence: ended.sequence,
        key: LoopKey::new(ended.namespace, ended.r#loop),
        uid: ended.uid.into(),
        token: Token(ended.token),
        progress: progress(&ended.progress_json),
        body: ReportBody::Ended { outcome, stopped: ended.stopped },
    }
}

/// The progress without the fields that cannot be read; `None` if nothing can.
fn progress(json: &[u8]) -> Option<Progress> {
    let error = match serde_json::from_slice(json) {
        Ok(progress) => return Some(progress),
        Err(error) => error,
    };
    tracing::error!(%error, "a worker's progress can be read in part only");
    let mut fields: Map<String, Value> = serde_json::from_slice(json).ok()?;
    fields.retain(|name, value| {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        serde_json::from_value::<Progress>(Value::Object(alone)).is_ok()
    });
    serde_json::from_value(Value::Object(fields)).ok()
}

/// The outcome as far as it can be read. A run that ended in an unknown way leaves its loop to be
/// run again.
fn outcome(json: &[u8]) -> Outcome {
    let error = match serde_json::from_slice(json) {
        Ok(outcome) => return outcome,
        Err(error) => error,
    };
    tracing::error!(%error, "a worker's outcome can be read in part only");
    let mut fields: Map<String, Value> = serde_json::from_slice(json).unwrap_or_default();
    let unreadable = || "its run ended in a way that this scheduler cannot read".to_owned();
    Outcome {
        phase: field(&mut fields, "phase").unwrap_or(Phase::Pending),
        reason: field(&mut fields, "reason").unwrap_or(Reason::None),
        message: field(&mut fields, "message").unwrap_or_else(unreadable),
        evidence: field(&mut fields, "evidence").unwrap_or_default(),
        retry_after_ms: field(&mut fields, "retryAfterMs").unwrap_or_default(),
        need: field(&mut fields, "need"),
    }
}

fn field<T: DeserializeOwned>(fields: &mut Map<String, Value>, name: &str) -> Option<T> {
    serde_json::from_value(fields.remove(name)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_worker_says_is_read_as_far_as_possible() {
        let json = br#"{"iterations":3,"accepted":2,"recent":[{"decision":"Merged"}],"new":1}"#;
        let read = progress(json).unwrap();
        assert_eq!((read.iterations, read.accepted, read.recent.len()), (3, 2, 0));
        assert_eq!(read.unknown["new"], 1);
        assert_eq!(progress(b""), None);

        let read = outcome(br#"{"phase":"Failed","reason":"Eclipse","message":"dark"}"#);
        assert_eq!((read.phase, read.reason), (Phase::Failed, Reason::None));
        assert_eq!(read.message, "dark");
        assert_eq!(outcome(b"{").phase, Phase::Pending);
    }
}
