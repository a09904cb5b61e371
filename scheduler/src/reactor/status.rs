//! The next status of a loop for each thing that can happen to it. What each move writes is decided
//! by core's transition table; here is only which moves follow from which news.

use flyball_core::ids::Token;
use flyball_core::lifecycle::{LoopEvent, apply};
use flyball_core::status::{LoopStatus, Outcome, Phase, Progress, Reason, Unsealed};
use flyball_store::{ClaimRecord, LoopRecord};
use jiff::Timestamp;

/// The status after these events, one after the other; those that do not fit are left out and
/// logged, since a status must never keep a loop from moving on.
fn after(old: &LoopStatus, events: &[LoopEvent], now: Timestamp) -> LoopStatus {
    let mut status = old.clone();
    for event in events {
        match apply(&status, event, now) {
            Ok(next) => status = next,
            Err(error) => tracing::warn!(%error, "an event does not fit the loop's phase"),
        }
    }
    status
}

/// Given to a node.
pub(super) fn assigned(old: &LoopStatus, claim: &ClaimRecord, now: Timestamp) -> LoopStatus {
    let event = LoopEvent::Assigned {
        node: claim.node.clone(),
        incarnation: claim.incarnation.clone(),
        attempt: claim.attempt.clone(),
    };
    after(old, &[event], now)
}

/// The owner reports progress: it has sealed what it had to seal.
pub(super) fn progressed(old: &LoopStatus, progress: &Progress, now: Timestamp) -> LoopStatus {
    let progressed = LoopEvent::Progressed(progress.clone());
    if old.phase == Phase::Assigned {
        after(old, &[LoopEvent::Started, progressed], now)
    } else {
        after(old, &[progressed], now)
    }
}

/// The run is over. A loop that is to be cancelled does not go back to waiting.
pub(super) fn ended(
    old: &LoopStatus,
    progress: &Progress,
    outcome: &Outcome,
    unproven: Option<Unsealed>,
    cancel: Option<&str>,
    now: Timestamp,
) -> LoopStatus {
    let event = |outcome: Outcome| LoopEvent::Ended {
        outcome,
        progress: progress.clone(),
        unproven: unproven.clone(),
    };
    let mut outcome = outcome.clone();
    if let (Phase::Cancelled, Some(reason)) =
        (outcome.phase, cancel.filter(|text| !text.is_empty()))
    {
        // The worker only knows that it was to end; why is in the user's words.
        outcome.message = format!("cancelled: {reason}");
    }
    let status = apply(old, &event(outcome), now).unwrap_or_else(|error| {
        // The worker has lost its way; the loop has not.
        tracing::warn!(%error, "a run ended in a way that its loop cannot end in");
        let message = format!("its run ended with an outcome that does not fit: {error}");
        let outcome = Outcome {
            phase: Phase::Pending,
            reason: Reason::None,
            message,
            evidence: Vec::new(),
            retry_after_ms: 0,
            need: None,
        };
        after(old, &[event(outcome)], now)
    });
    match cancel {
        Some(reason) if !status.phase.is_terminal() => cancelled(&status, reason, now),
        _ => status,
    }
}

/// The assignment was taken back before its node was told of it.
pub(super) fn unassigned(old: &LoopStatus, now: Timestamp) -> LoopStatus {
    let outcome = Outcome {
        phase: Phase::Pending,
        reason: Reason::None,
        message: "taken back before it began".to_owned(),
        evidence: Vec::new(),
        retry_after_ms: 0,
        need: None,
    };
    let progress = old.progress.clone();
    after(old, &[LoopEvent::Ended { outcome, progress, unproven: None }], now)
}

/// The run was lost with its claim.
pub(super) fn lost(old: &LoopStatus, unproven: Option<Unsealed>, now: Timestamp) -> LoopStatus {
    let node = old.node.clone().unwrap_or_default();
    let message = format!("its run was lost with {node}");
    after(old, &[LoopEvent::RunLost { unproven, message }], now)
}

/// Ended by a user while nobody owned it.
pub(super) fn cancelled(old: &LoopStatus, reason: &str, now: Timestamp) -> LoopStatus {
    let reason = if reason.is_empty() { "cancelled" } else { reason };
    after(old, &[LoopEvent::CancelRequested { reason: reason.to_owned() }], now)
}

/// The pause is over.
pub(super) fn park_due(old: &LoopStatus, now: Timestamp) -> LoopStatus {
    after(old, &[LoopEvent::ParkDue], now)
}

/// What it waited for has come.
pub(super) fn resumed(old: &LoopStatus, message: &str, now: Timestamp) -> LoopStatus {
    after(old, &[LoopEvent::Resumed { message: message.to_owned() }], now)
}

/// The spec changed while nobody owned the loop: it starts over.
pub(super) fn respecified(old: &LoopStatus, record: &LoopRecord, now: Timestamp) -> LoopStatus {
    after(old, &[LoopEvent::Respecified { generation: record.generation }], now)
}

/// The loop's own journal was sealed by another loop's run.
pub(super) fn sealed(
    old: &LoopStatus,
    record: &LoopRecord,
    sealed: &[(String, Token)],
    now: Timestamp,
) -> LoopStatus {
    let event = |(repository, through): &(String, Token)| LoopEvent::Sealed {
        loop_uid: record.uid.clone(),
        repository: repository.clone(),
        through: *through,
    };
    after(old, &sealed.iter().map(event).collect::<Vec<_>>(), now)
}
