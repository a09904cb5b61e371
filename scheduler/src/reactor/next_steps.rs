//! What a user can do about a loop, for every reason it can be where it is.

use flyball_core::ids::LoopKey;
use flyball_core::model::{Amount, Limits, Money};
use flyball_core::spec::DEFAULT_NAMESPACE;
use flyball_core::status::{LoopStatus, Phase, Reason, Unsealed};

/// A command about a loop, as it is typed by whoever asked about `from`.
pub(super) fn command(verb: &str, key: &LoopKey, from: &LoopKey) -> String {
    if key.namespace == from.namespace {
        format!("flyball {verb} {}", key.name)
    } else {
        format!("flyball {verb} {} -n {}", key.name, key.namespace)
    }
}

/// The way out if a journal can never be sealed.
pub(super) fn abandon(run: &Unsealed) -> String {
    format!(
        "only if {} is gone for good and no process of that run can be alive: flyball seal abandon {} \
         --reason \"…\"",
        run.repository, run.loop_uid
    )
}

/// The command that makes room for a call of this size in a budget.
pub(super) fn extend(
    name: &str,
    namespace: &str,
    limits: Limits,
    used: Amount,
    need: Amount,
) -> String {
    let missing = used.plus(need).minus(limits.left(Amount::default()));
    let mut command = format!("flyball budget extend {name}");
    if !namespace.is_empty() && namespace != DEFAULT_NAMESPACE {
        command.push_str(&format!(" -n {namespace}"));
    }
    if missing.money > Money::ZERO {
        command.push_str(&format!(" --money {}", missing.money.to_string().replace(' ', "")));
    }
    if missing.tokens > 0 {
        command.push_str(&format!(" --tokens {}", missing.tokens));
    }
    if missing.calls > 0 {
        command.push_str(&format!(" --calls {}", missing.calls));
    }
    format!("give it at least so much more: {command}")
}

/// The next step for the reason of a status.
pub(super) fn of_reason(key: &LoopKey, status: &LoopStatus) -> String {
    let about = |verb: &str| command(verb, key, key);
    let nodes = "flyball get nodes -o wide";
    match status.reason {
        Reason::None | Reason::Submitted => of_phase(key, status.phase),
        Reason::ResourcesOwned => "wait, or end the loop that owns the resources: flyball get \
                                   claims -A shows who does"
            .to_owned(),
        Reason::Unsealed => {
            "make its repository reachable: the next owner seals the journal by itself".to_owned()
        }
        Reason::NoNode => format!("wait for room, or add or uncordon a node: {nodes}"),
        Reason::NeverFits => {
            format!("change what it needs, or add a node that has it: {nodes}")
        }
        Reason::RunLost => format!(
            "nothing has to be done: it goes on from its checkpoint; what became of the node: {nodes}"
        ),
        Reason::CannotStart => of_node_fault(nodes),
        Reason::Drained => {
            format!(
                "nothing has to be done if another node has room; else uncordon a node: {nodes}"
            )
        }
        Reason::Approval => {
            format!("look at what it asks for, and decide: {}", about("describe loop"))
        }
        Reason::Budget => more_budget(&about("budget extend")),
        Reason::Quota => QUOTA.to_owned(),
        Reason::Backoff => format!(
            "it tries again by itself; if it stays so, mend what the message names, or {}",
            about("cancel")
        ),
        Reason::Hold => {
            "mend what the message names, then apply a changed spec to go on".to_owned()
        }
        Reason::StoreBehindJournal => STORE_BEHIND.to_owned(),
        Reason::OtherInstallation => OTHER_INSTALLATION.to_owned(),
        Reason::RunsLost => {
            format!("look at {}, then apply a changed spec to go on", about("logs"))
        }
        Reason::NoProgress | Reason::Flapping | Reason::Declared => format!(
            "read the evidence and {}, then apply another goal, check or agent",
            about("logs")
        ),
        Reason::Iterations => {
            "raise spec.governor.iterations and apply it again; it starts over".to_owned()
        }
        Reason::WallTime => {
            "raise spec.governor.wallTime and apply it again; it starts over".to_owned()
        }
        Reason::AgentCannotStart => "mend spec.agent, or install its program on the nodes, then \
                                     apply it again"
            .to_owned(),
        Reason::CheckCannotStart => "mend the check's command, or install its program on the \
                                     nodes, then apply it again"
            .to_owned(),
        Reason::MissingRef => {
            "make the ref, or name another one in spec.workspace.git.ref, and apply it again"
                .to_owned()
        }
        Reason::RepositoryUnreachable => "check spec.workspace.git.url, and that the nodes reach \
                                          it and it has room, then apply it again"
            .to_owned(),
        Reason::InvalidWork => "mend what the message names and apply it again".to_owned(),
        Reason::ByUser => "apply a changed spec to start over, or delete it".to_owned(),
    }
}

const STORE_BEHIND: &str =
    "restore the store's newest state, or apply a changed spec to go on under the journal";
/// A deleted journal fences: every push compares where it was.
const OTHER_INSTALLATION: &str = "see that nothing of that installation runs any more, or take its loop \
                                  or this one off the paths; then delete the journal: git push \
                                  REPOSITORY --delete JOURNAL, which also shuts out what is left; it \
                                  goes on by itself";
const QUOTA: &str = "it tries again by itself; who waits for which provider: flyball quota list";

fn more_budget(command: &str) -> String {
    format!(
        "raise its budget: {command} --money 5USD, or apply it with a larger spec.budget; it goes on where it was"
    )
}

fn of_node_fault(nodes: &str) -> String {
    format!(
        "it is tried again after a pause, on another node if one has room; what ails the node: \
         flyball doctor --local there, and {nodes}"
    )
}

/// Where nothing is in the way.
fn of_phase(key: &LoopKey, phase: Phase) -> String {
    let about = |verb: &str| command(verb, key, key);
    match phase {
        Phase::Pending => format!("it is placed as soon as it can be: {} -w", about("get loop")),
        Phase::Assigned | Phase::Running => format!("follow it: {}", about("logs -f")),
        Phase::Parked => format!("look at it: {}", about("describe loop")),
        Phase::Converged => format!("look at what was done: {}", about("get iterations")),
        Phase::Unreachable | Phase::Exhausted | Phase::Failed | Phase::Cancelled => {
            format!("look at {}, then apply a changed spec", about("logs"))
        }
    }
}

#[cfg(test)]
mod tests {
    use flyball_core::lifecycle::{PHASES, reason_fits};

    use super::*;

    const REASONS: [Reason; 28] = [
        Reason::None,
        Reason::Submitted,
        Reason::ResourcesOwned,
        Reason::Unsealed,
        Reason::NoNode,
        Reason::NeverFits,
        Reason::RunLost,
        Reason::CannotStart,
        Reason::Drained,
        Reason::Approval,
        Reason::Budget,
        Reason::Quota,
        Reason::Backoff,
        Reason::Hold,
        Reason::StoreBehindJournal,
        Reason::OtherInstallation,
        Reason::RunsLost,
        Reason::NoProgress,
        Reason::Flapping,
        Reason::Declared,
        Reason::Iterations,
        Reason::WallTime,
        Reason::AgentCannotStart,
        Reason::CheckCannotStart,
        Reason::MissingRef,
        Reason::RepositoryUnreachable,
        Reason::InvalidWork,
        Reason::ByUser,
    ];

    #[test]
    fn every_reason_of_every_phase_has_a_next_step() {
        let key = LoopKey::new("team", "x");
        for phase in PHASES {
            for reason in REASONS.into_iter().filter(|reason| reason_fits(phase, *reason)) {
                let status = LoopStatus { phase, reason, ..LoopStatus::default() };
                let step = of_reason(&key, &status);
                assert!(step.len() > 10 && !step.contains("  "), "{phase} {reason:?}: {step:?}");
            }
        }
    }

    #[test]
    fn commands_name_a_namespace_only_if_it_is_another_one() {
        let (one, two) = (LoopKey::new("a", "x"), LoopKey::new("b", "y"));
        assert_eq!(command("explain", &one, &one), "flyball explain x");
        assert_eq!(command("explain", &two, &one), "flyball explain y -n b");
    }
}
