//! Effects as lines.

use flyball_core::status::LoopStatus;
use flyball_scheduler::reactor::{Effect, ToNode};
use flyball_store::{Mutation, OrphanKey, PutDuty};

pub(crate) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Commit { commit, mutation } => {
            format!("commit {}: {}", commit.0, self::mutation(mutation))
        }
        Effect::Resolve { commit, .. } => format!("resolve {}", commit.0),
        Effect::RequestSnapshot { revision_min } => format!("list at {revision_min} or later"),
        Effect::Send { session, message } => format!("send to {}: {}", session.0, to_node(message)),
        Effect::Close { session, reason, .. } => format!("close {}: {reason}", session.0),
        Effect::Emit(notice) => {
            format!("event {} {}: {}", notice.key, notice.reason, notice.message)
        }
    }
}

pub(crate) fn mutation(mutation: &Mutation) -> String {
    match mutation {
        Mutation::Assign(assign) => {
            let claim = &assign.claim;
            let resources = claim.resources.join(" ");
            format!(
                "assign {} to {}/{} [{resources}] attempt {}",
                claim.key, claim.node, claim.incarnation, claim.attempt
            )
        }
        Mutation::PutStatus(put) => format!("status {} {}", put.key, status(&put.status)),
        Mutation::Release(release) => {
            let status = status(&release.status);
            format!("release {} token {} {status}", release.key, release.token)
        }
        Mutation::RemoveLoop(remove) => {
            let duty = remove.duty.as_ref().map(|put| format!(" leaving {}", duty(put)));
            format!("remove {}{}", remove.key, duty.unwrap_or_default())
        }
        Mutation::PutDuty(put) => duty(put),
        Mutation::PutNode(put) => format!("node {} {:?}", put.record.name, put.record.mark),
        Mutation::RemoveOrphan(remove) => match &remove.orphan {
            OrphanKey::Claim(key) => {
                let duty = remove.duty.as_ref().map(|put| format!(" leaving {}", duty(put)));
                format!("remove orphan claim of {key}{}", duty.unwrap_or_default())
            }
            OrphanKey::Owner(owner) => format!("remove orphan owner of {}", owner.resource()),
        },
    }
}

fn duty(put: &PutDuty) -> String {
    let Some(duty) = &put.duty else { return format!("seal duty of {} ends", put.uid) };
    let runs: Vec<String> = duty.runs.iter().map(|run| run.token.to_string()).collect();
    format!("seal duty of {} [{}]", put.uid, runs.join(" "))
}

pub(crate) fn status(status: &LoopStatus) -> String {
    let mut line = format!("{}/{:?}", status.phase, status.reason);
    if status.runs_lost > 0 {
        line.push_str(&format!(" lost={}", status.runs_lost));
    }
    if status.start_faults > 0 {
        line.push_str(&format!(" faults={}", status.start_faults));
    }
    if status.progress.accepted > 0 {
        line.push_str(&format!(" accepted={}", status.progress.accepted));
    }
    for unsealed in &status.unsealed {
        line.push_str(&format!(" unsealed={}", unsealed.token));
    }
    line
}

fn to_node(message: &ToNode) -> String {
    match message {
        ToNode::Assign(assignment) => {
            let mut line = format!(
                "assign {} generation {} token {}",
                assignment.key, assignment.generation, assignment.token
            );
            for unsealed in &assignment.unsealed {
                line.push_str(&format!(" seal {}@{}", unsealed.loop_key, unsealed.token));
            }
            line
        }
        ToNode::Stop { token, reason, .. } => format!("stop token {token}: {}", reason.as_str()),
        ToNode::Ack { sequence, refused: "" } => format!("ack {sequence}"),
        ToNode::Ack { sequence, refused } => format!("refuse {sequence}: {refused}"),
    }
}
