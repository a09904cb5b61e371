//! `flyball wait`: waits until loops reach a state.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use flyball_core::quantity::Span;
use flyball_core::spec::KIND_LOOP;
use flyball_core::status::Phase;
use flyball_proto::v1::WatchLoopsRequest;
use serde_json::{Value, json};

use super::context::Context;
use super::target::{Noun, names_of};
use crate::client::Clients;
use crate::follow::{LoopWatch, Seen};
use crate::objects::{self, LoopDocument};
use crate::output::Format;
use crate::{Exit, Failure, Outcome};

/// Arguments of `wait`.
#[derive(Debug, Clone, Args)]
pub struct Wait {
    /// The loops; all of them must get there.
    #[arg(value_name = "LOOP", required = true)]
    names: Vec<String>,
    /// What to wait for: converged, finished, delete or phase=PHASE.
    #[arg(long = "for", value_name = "STATE", default_value = "finished")]
    goal: Goal,
    /// Give up after this long, with exit code 7 [default: never].
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    Converged,
    Finished,
    Delete,
    Phase(Phase),
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = "converged, finished, delete or phase=PHASE";
        match text.split_once('=') {
            None if text.eq_ignore_ascii_case("converged") => Ok(Self::Converged),
            None if text.eq_ignore_ascii_case("finished") => Ok(Self::Finished),
            None if text.eq_ignore_ascii_case("delete") => Ok(Self::Delete),
            Some(("phase", name)) => phase(name).map(Self::Phase),
            _ => Err(format!("must be {known}")),
        }
    }
}

const PHASES: [Phase; 9] = [
    Phase::Pending,
    Phase::Assigned,
    Phase::Running,
    Phase::Parked,
    Phase::Converged,
    Phase::Unreachable,
    Phase::Exhausted,
    Phase::Failed,
    Phase::Cancelled,
];

fn phase(name: &str) -> Result<Phase, String> {
    let names: Vec<_> = PHASES.iter().map(ToString::to_string).collect();
    let found = PHASES.into_iter().find(|phase| phase.to_string().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("phases are {}", names.join(", ")))
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Converged => f.write_str("converged"),
            Self::Finished => f.write_str("finished"),
            Self::Delete => f.write_str("deleted"),
            Self::Phase(phase) => write!(f, "in phase {phase}"),
        }
    }
}

impl Goal {
    /// How the wait for one loop ends, if it does.
    fn judge(&self, document: &LoopDocument) -> Option<Exit> {
        let status = &document.status;
        let met = match self {
            Self::Delete => return None,
            Self::Converged | Self::Finished => status.phase == Phase::Converged,
            Self::Phase(phase) => status.phase == *phase,
        };
        if !document.is_current() {
            return None;
        }
        match (met, status.phase.is_terminal()) {
            (true, _) => Some(Exit::Ok),
            // It has ended another way and cannot get there any more.
            (false, true) => Some(Exit::Unsuccessful),
            (false, false) => None,
        }
    }
}

impl Wait {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let names = names_of(Noun::Loops, &self.names)?;
        let clients = context.clients().await?;
        // The bound is the user's; without one, a year stands for never.
        let bound = self.timeout.unwrap_or(Span::from_secs(365 * 24 * 3600));
        match tokio::time::timeout(bound.0, self.all(context, &clients, &names)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let message = format!(
                    "timed out after {bound}: not every loop is {}: {}",
                    self.goal,
                    names.join(", ")
                );
                Err(Failure::new("timeout", message)
                    .exit(Exit::WaitTimeout)
                    .hint(format!("flyball explain {}", names[0])))
            }
        }
    }

    async fn all(&self, context: &mut Context<'_>, clients: &Clients, names: &[String]) -> Outcome {
        let mut worst = Exit::Ok;
        for name in names {
            worst = worst.max(self.one(context, clients, name).await?);
        }
        Ok(worst)
    }

    async fn one(&self, context: &mut Context<'_>, clients: &Clients, name: &str) -> Outcome {
        let request = WatchLoopsRequest {
            namespace: context.namespace(),
            name: name.to_owned(),
            labels: Default::default(),
        };
        let mut watch = LoopWatch::new(clients, request);
        let mut found = false;
        loop {
            match (watch.next().await?, &self.goal) {
                (Seen::Object(object), goal) => {
                    found = true;
                    let document = LoopDocument::read(&object)?;
                    if let Some(exit) = goal.judge(&document) {
                        let json = objects::json(&object.object_json)?;
                        report(context, name, (&document, json), goal, exit)?;
                        return Ok(exit);
                    }
                }
                (Seen::Deleted(_), Goal::Delete) => return report_deleted(context, name),
                (Seen::Synced, Goal::Delete) if !found && !watch.exists(name).await? => {
                    return report_deleted(context, name);
                }
                (Seen::Deleted(_), _) => {
                    return Err(Failure::new("not-found", format!("loop/{name} was deleted")));
                }
                (Seen::Synced, _) if !found && !watch.exists(name).await? => {
                    return Err(Failure::new("not-found", format!("there is no loop {name}")));
                }
                (Seen::Synced, _) => {}
            }
        }
    }
}

fn report(
    context: &mut Context<'_>,
    name: &str,
    (document, json): (&LoopDocument, Value),
    goal: &Goal,
    exit: Exit,
) -> Result<(), Failure> {
    if context.format().is_structured() {
        // The loop as it is now, however it ended: the exit code tells which.
        context.out.document(&json)?;
    }
    if exit != Exit::Ok {
        context.out.note(crate::view::loops::progress_line(document));
        context.out.note(format!("hint: flyball explain {name}"));
        return Ok(());
    }
    match context.format() {
        Format::Json | Format::Yaml => Ok(()),
        Format::Name => context.out.line(format!("loop/{name}")),
        Format::Table | Format::Wide => context.out.line(format!("loop/{name} {goal}")),
    }
}

fn report_deleted(context: &mut Context<'_>, name: &str) -> Outcome {
    match context.format() {
        Format::Json | Format::Yaml => {
            let metadata = json!({ "name": name, "namespace": context.namespace() });
            context
                .out
                .document(&json!({ "kind": KIND_LOOP, "metadata": metadata, "deleted": true }))?;
        }
        Format::Name => context.out.line(format!("loop/{name}"))?,
        Format::Table | Format::Wide => context.out.line(format!("loop/{name} deleted"))?,
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    #[test]
    fn goals_are_read() {
        let read = |text: &str| text.parse::<Goal>();
        assert_eq!(read("Converged"), Ok(Goal::Converged));
        assert_eq!(read("phase=running"), Ok(Goal::Phase(Phase::Running)));
        assert!(read("phase=walking").unwrap_err().contains("Pending, Assigned"));
        assert!(read("done").unwrap_err().contains("converged"));
        assert!(read("condition=X").is_err());
    }

    #[test]
    fn every_phase_can_be_waited_for() {
        for phase in PHASES {
            assert_eq!(format!("phase={phase}").parse(), Ok(Goal::Phase(phase)));
        }
    }

    #[test]
    fn a_goal_that_cannot_be_met_any_more_ends_the_wait() {
        let (running, ended) = (fixtures::running(), fixtures::unreachable());
        assert_eq!(Goal::Finished.judge(&running), None);
        assert_eq!(Goal::Finished.judge(&ended), Some(Exit::Unsuccessful));
        assert_eq!(Goal::Phase(Phase::Unreachable).judge(&ended), Some(Exit::Ok));
        assert_eq!(Goal::Phase(Phase::Running).judge(&ended), Some(Exit::Unsuccessful));
        assert_eq!(Goal::Delete.judge(&ended), None);
    }
}
