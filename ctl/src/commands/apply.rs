//! `flyball apply`: creates or updates everything that manifests declare.

use std::path::PathBuf;

use clap::Args;
use flyball_core::status::{Phase, Reason};
use flyball_proto::v1::{ApplyRequest, ApplyResponse, WatchLoopsRequest};

use super::context::Context;
use super::{access, definitions};
use crate::client::Clients;
use crate::documents::{self, Document};
use crate::follow::{LoopWatch, Seen};
use crate::objects::{self, LoopDocument};
use crate::output::Format;
use tracing::Instrument;

use crate::{Exit, Failure, Outcome, retry, trace, view};

/// Arguments of `apply`.
#[derive(Debug, Clone, Args)]
pub struct Apply {
    /// Manifest file, with one or several documents; - is standard input. May be repeated.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Let the scheduler check and answer as if applied, but change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Follow the loops until all have finished; the exit code tells how.
    #[arg(short, long, conflicts_with = "dry_run")]
    wait: bool,
}

impl Apply {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let documents = documents::read(&self.files, context.global.namespace.as_deref())?;
        let clients = context.clients().await?;
        let mut first_failure = None;
        let mut applied = Vec::new();
        for document in &documents.access {
            match access::apply(context, &clients, document, self.dry_run).await {
                Ok(()) => {}
                Err(failure) if first_failure.is_none() => first_failure = Some(failure),
                Err(failure) => drop(context.out.failure(&failure)),
            }
        }
        for document in &documents.definitions {
            match definitions::apply(context, &clients, document, self.dry_run).await {
                Ok(()) => {}
                Err(failure) if first_failure.is_none() => first_failure = Some(failure),
                Err(failure) => drop(context.out.failure(&failure)),
            }
        }
        for document in documents.loops {
            match self.apply(context, &clients, &document).await {
                Ok(answer) => {
                    self.show(context, &document, &answer)?;
                    applied.push(document);
                }
                // The other documents stand for themselves, as with kubectl.
                Err(failure) if first_failure.is_none() => first_failure = Some(failure),
                Err(failure) => drop(context.out.failure(&failure)),
            }
        }
        if let Some(failure) = first_failure {
            return Err(failure);
        }
        match self.wait {
            true => follow_all(context, &clients, &applied).await,
            false => Ok(Exit::Ok),
        }
    }

    async fn apply(
        &self,
        context: &mut Context<'_>,
        clients: &Clients,
        document: &Document,
    ) -> Result<ApplyResponse, Failure> {
        let span = tracing::info_span!("apply", otel.name = "loop.apply");
        let request = ApplyRequest {
            manifest_json: document.json.to_string().into(),
            dry_run: self.dry_run,
            expected_generation: 0,
            traceparent: trace::traceparent(&span),
        };
        let send = || {
            let (mut loops, request) = (clients.loops.clone(), request.clone());
            async move { loops.apply(request).await }
        };
        let note = |text| context.out.note(text);
        let answered = retry::until_answered(send, note).instrument(span).await;
        answered.into_result().map_err(|mut failure| {
            let name = &document.manifest.metadata.name;
            failure.message = format!("loop/{name} ({}): {}", document.source, failure.message);
            failure
        })
    }

    fn show(
        &self,
        context: &mut Context<'_>,
        document: &Document,
        answer: &ApplyResponse,
    ) -> Result<(), Failure> {
        let own = document.warnings();
        own.iter().for_each(|warning| context.out.note(warning));
        for warning in &answer.warnings {
            context.out.note(format!("warning: {warning}"));
        }
        let name = &document.manifest.metadata.name;
        match context.format() {
            Format::Json | Format::Yaml => match &answer.object {
                Some(object) => {
                    let mut json = objects::json(&object.object_json)?;
                    let all =
                        own.iter().map(|text| text.trim_start_matches("warning: ").to_owned());
                    let all: Vec<String> = all.chain(answer.warnings.iter().cloned()).collect();
                    if let Some(fields) = json.as_object_mut().filter(|_| !all.is_empty()) {
                        fields.insert("warnings".to_owned(), all.into());
                    }
                    context.out.document(&json)
                }
                None => Ok(()),
            },
            Format::Name => context.out.line(format!("loop/{name}")),
            Format::Table | Format::Wide => {
                let dry_run = if self.dry_run { " (dry run)" } else { "" };
                context.out.line(format!("loop/{name} {}{dry_run}", answer.outcome))
            }
        }
    }
}

/// Follows loops until all have finished, or one cannot go on; the worst outcome is the answer.
async fn follow_all(
    context: &mut Context<'_>,
    clients: &Clients,
    documents: &[Document],
) -> Outcome {
    let mut worst = Exit::Ok;
    for document in documents {
        let exit = follow(context, clients, document).await?;
        worst = worst.max(exit);
    }
    Ok(worst)
}

async fn follow(context: &mut Context<'_>, clients: &Clients, document: &Document) -> Outcome {
    let metadata = &document.manifest.metadata;
    let request = WatchLoopsRequest {
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        labels: Default::default(),
    };
    let mut watch = LoopWatch::new(clients, request);
    let mut last_line = String::new();
    loop {
        match watch.next().await? {
            Seen::Object(object) => {
                let seen = LoopDocument::read(&object)?;
                let line = view::loops::progress_line(&seen);
                if line != last_line {
                    // Progress is for people; the result on stdout stays readable by programs.
                    context.out.note(&line);
                    last_line = line;
                }
                if let Some(exit) = verdict(&seen) {
                    return Ok(exit);
                }
            }
            Seen::Deleted(_) => {
                let message = format!("loop/{} was deleted", metadata.name);
                return Err(Failure::new("not-found", message));
            }
            Seen::Synced => {}
        }
    }
}

/// How to end, if the loop will not go on by itself.
fn verdict(document: &LoopDocument) -> Option<Exit> {
    let status = &document.status;
    if !document.is_current() {
        return None;
    }
    match (status.phase, status.reason) {
        (Phase::Converged, _) => Some(Exit::Ok),
        (phase, _) if phase.is_terminal() => Some(Exit::Unsuccessful),
        (Phase::Pending, Reason::NeverFits) => Some(Exit::NotPlaced),
        (Phase::Parked, Reason::Budget) => Some(Exit::Budget),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::fixtures;

    #[test]
    fn verdicts_map_to_exit_codes() {
        let of = |phase, reason| {
            let mut document = fixtures::running();
            (document.status.phase, document.status.reason) = (phase, reason);
            verdict(&document)
        };
        assert_eq!(of(Phase::Running, Reason::None), None);
        assert_eq!(of(Phase::Parked, Reason::Backoff), None);
        assert_eq!(of(Phase::Parked, Reason::Quota), None, "it goes on by itself");
        assert_eq!(of(Phase::Converged, Reason::None), Some(Exit::Ok));
        assert_eq!(of(Phase::Exhausted, Reason::Iterations), Some(Exit::Unsuccessful));
        assert_eq!(of(Phase::Pending, Reason::NeverFits), Some(Exit::NotPlaced));
        assert_eq!(of(Phase::Parked, Reason::Budget), Some(Exit::Budget));
    }
}
