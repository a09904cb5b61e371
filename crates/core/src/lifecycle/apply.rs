//! What each move of the life cycle writes to the status.

use jiff::{SignedDuration, Timestamp};

use super::{
    IllegalTransition, LoopEvent, RUNS_LOST_MAX, START_FAULTS_MAX, is_node_fault, is_start_fault,
    transition,
};
use crate::model::{Amount, Money};
use crate::seal::add_unsealed;
use crate::status::{LoopStatus, Outcome, Phase, Progress, RECENT_MAX, Reason, Unsealed};

/// Longest message in a status, bytes: one line for people, in a document of at most some tens of
/// kilobytes that every watcher gets.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Most lines of evidence in a status: enough for every check and the last tries.
pub const EVIDENCE_LINES_MAX: usize = 64;

/// Most unsealed runs of one journal kept apart. More can only come from losing runs faster than any
/// of them is sealed; they are then folded into one, which loses nothing: sealing a journal for a
/// token shuts out all lower ones, and the resources of all stay blocked. Only a changed repository
/// adds another journal, which takes a user each time.
pub const UNSEALED_MAX: usize = 16;

/// Makes the status that follows from an event. `now` is only written down for display and for the
/// timers that are read off a status; nothing is decided by it.
///
/// # Errors
/// [`IllegalTransition`] as [`transition`] says; the status is then as it was.
pub fn apply(
    status: &LoopStatus,
    event: &LoopEvent,
    now: Timestamp,
) -> Result<LoopStatus, IllegalTransition> {
    let target = transition(status, event)?;
    let mut next = status.clone();
    match event {
        LoopEvent::Assigned { node, incarnation, attempt } => {
            next.node = Some(node.clone());
            next.incarnation = Some(incarnation.clone());
            next.attempt = Some(attempt.clone());
            next.runs = next.runs.saturating_add(1);
            explain(&mut next, Reason::None, &format!("assigned to {node}"));
        }
        LoopEvent::Started => {
            // The owner sealed its own journal before it began, which shuts out all earlier runs.
            next.unsealed.clear();
            start(&mut next, now);
        }
        LoopEvent::Progressed(progress) => {
            start(&mut next, now);
            take_progress(&mut next, progress);
        }
        LoopEvent::Ended { outcome, progress, unproven } => {
            take_progress(&mut next, progress);
            leave_unsealed(&mut next, unproven.as_ref());
            if is_start_fault(outcome) {
                fail_start(&mut next, &outcome.message, target);
            } else if is_node_fault(outcome) {
                lose_run(&mut next, &outcome.message, target);
            } else {
                end_run(&mut next, outcome, now);
            }
        }
        LoopEvent::RunLost { unproven, message } => {
            leave_unsealed(&mut next, unproven.as_ref());
            lose_run(&mut next, message, target);
        }
        LoopEvent::Blocked { reason, message } => explain(&mut next, *reason, message),
        LoopEvent::ParkDue => explain(&mut next, Reason::None, "the pause is over"),
        LoopEvent::Resumed { message } => {
            // Somebody looked at it: the next losses are counted anew.
            next.runs_lost = 0;
            next.start_faults = 0;
            explain(&mut next, Reason::None, message);
        }
        LoopEvent::Held { message } => hold(&mut next, message),
        LoopEvent::Respecified { generation } => respecify(&mut next, *generation),
        LoopEvent::CancelRequested { reason } => cancel(&mut next, reason),
        LoopEvent::Sealed { loop_uid, repository, through } => {
            let sealed = |run: &Unsealed| {
                run.loop_uid == *loop_uid && run.repository == *repository && run.token <= *through
            };
            next.unsealed.retain(|run| !sealed(run));
        }
    }
    enter(&mut next, status.phase, target, now);
    Ok(next)
}

/// The fields that depend on the phase alone.
fn enter(next: &mut LoopStatus, from: Phase, target: Phase, now: Timestamp) {
    next.phase = target;
    if target == from {
        return;
    }
    next.since = Some(now);
    if target != Phase::Parked {
        next.parked_until = None;
        next.budget_need = None;
    }
    if !target.is_owned() {
        // The node stays, as the one that owned it last.
        next.incarnation = None;
        next.attempt = None;
        next.progress.activity.clear();
    }
    next.finished_at = target.is_terminal().then_some(now);
}

fn explain(next: &mut LoopStatus, reason: Reason, message: &str) {
    next.reason = reason;
    next.message = clip(message, MESSAGE_BYTES_MAX);
}

fn start(next: &mut LoopStatus, now: Timestamp) {
    if next.started_at.is_none() {
        next.started_at = Some(now);
    }
    if next.phase == Phase::Assigned {
        let node = next.node.clone().unwrap_or_default();
        explain(next, Reason::None, &format!("running on {node}"));
    }
}

fn take_progress(next: &mut LoopStatus, progress: &Progress) {
    if progress.accepted > next.progress.accepted {
        next.runs_lost = 0;
    }
    // Its processes were started.
    if progress.iterations > next.progress.iterations {
        next.start_faults = 0;
    }
    next.progress = progress.clone();
    let surplus = next.progress.recent.len().saturating_sub(RECENT_MAX);
    next.progress.recent.drain(..surplus);
}

fn end_run(next: &mut LoopStatus, outcome: &Outcome, now: Timestamp) {
    next.start_faults = 0;
    explain(next, outcome.reason, &outcome.message);
    let lines = outcome.evidence.iter().take(EVIDENCE_LINES_MAX);
    next.evidence = lines.map(|line| clip(line, MESSAGE_BYTES_MAX)).collect();
    if outcome.phase == Phase::Parked && outcome.reason == Reason::Budget {
        // Whoever does not say it needs some, or it would go on at once without room for anything.
        let least = Amount { tokens: 1, money: Money(1), calls: 1 };
        next.budget_need = outcome.need.filter(|need| !need.is_zero()).or(Some(least));
    }
    if outcome.phase == Phase::Parked && outcome.reason.is_timed() {
        let pause = i64::try_from(outcome.retry_after_ms).unwrap_or(i64::MAX);
        let until = now.checked_add(SignedDuration::from_millis(pause));
        next.parked_until = Some(until.unwrap_or(Timestamp::MAX));
    }
}

fn fail_start(next: &mut LoopStatus, message: &str, target: Phase) {
    next.start_faults = next.start_faults.saturating_add(1);
    let faults = next.start_faults;
    if target == Phase::Parked {
        let message = format!(
            "{faults} starts in a row failed (limit {START_FAULTS_MAX}); the last: {message}"
        );
        explain(next, Reason::RunsLost, &message);
    } else {
        let message = format!("{message} (failed start {faults} of {START_FAULTS_MAX})");
        explain(next, Reason::CannotStart, &message);
    }
}

fn lose_run(next: &mut LoopStatus, message: &str, target: Phase) {
    next.runs_lost = next.runs_lost.saturating_add(1);
    if target == Phase::Parked {
        let lost = next.runs_lost;
        let message = format!(
            "{lost} runs lost without an accepted iteration (limit {RUNS_LOST_MAX}); the last: \
             {message}"
        );
        explain(next, Reason::RunsLost, &message);
    } else {
        explain(next, Reason::RunLost, message);
    }
}

fn hold(next: &mut LoopStatus, message: &str) {
    if next.phase.is_owned() {
        next.message = clip(&format!("holding: {message}"), MESSAGE_BYTES_MAX);
    } else {
        explain(next, Reason::Hold, message);
        next.parked_until = None;
    }
}

fn cancel(next: &mut LoopStatus, reason: &str) {
    if next.phase.is_owned() {
        next.message = clip(&format!("cancelling: {reason}"), MESSAGE_BYTES_MAX);
    } else {
        explain(next, Reason::ByUser, reason);
    }
}

fn respecify(next: &mut LoopStatus, generation: u64) {
    if next.phase.is_owned() {
        // The run goes on under the spec it was given; `observed_generation` keeps saying so.
        next.message = format!("generation {generation} of the spec waits for the end of this run");
        return;
    }
    next.observed_generation = generation;
    next.progress = Progress::default();
    next.evidence.clear();
    next.runs_lost = 0;
    next.start_faults = 0;
    next.started_at = None;
    explain(next, Reason::Submitted, &format!("generation {generation} of the spec starts over"));
}

fn leave_unsealed(next: &mut LoopStatus, run: Option<&Unsealed>) {
    if let Some(run) = run {
        add_unsealed(&mut next.unsealed, run);
    }
}

/// Cuts at a character's edge.
fn clip(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mark = "…";
    let mut end = bytes_max - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}
