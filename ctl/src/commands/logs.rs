//! `flyball logs`: what the agent and the checks of an iteration wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use flyball_proto::v1::{GetLoopRequest, InfoRequest, LogData, ReadLogsRequest};
use serde_json::json;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

use super::context::Context;
use super::target::{Noun, name_of};
use crate::client::Clients;
use crate::objects::LoopDocument;
use crate::output::Format;
use crate::{Exit, Failure, Outcome};

/// Pause before a stream that has ended is opened again.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a scheduler may be away before following gives up: longer than a restart takes.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// Arguments of `logs`.
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// The loop.
    #[arg(value_name = "LOOP")]
    name: String,
    /// Go on until the loop has finished, from iteration to iteration and node to node.
    #[arg(short, long)]
    follow: bool,
    /// Iteration, from 1 [default: the newest].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    iteration: Option<u32>,
    /// Only this stream: agent, or check/NAME.
    #[arg(long, value_name = "STREAM", value_parser = stream)]
    stream: Option<String>,
    /// At most this many bytes from the end of each stream.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tail_bytes: Option<u64>,
    /// What the run with this token wrote, also one that was lost; 0: of no known run, as earlier versions wrote it
    /// [default: of each iteration the run whose result counts, and of the newest the run that has the loop].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    token: Option<i64>,
    /// With --token: the node to ask, if another one has the loop by now.
    #[arg(long, value_name = "NODE", requires = "token")]
    node: Option<String>,
}

fn stream(text: &str) -> Result<String, String> {
    let check = text.strip_prefix("check/").is_some_and(|name| !name.is_empty());
    match text == "agent" || check {
        true => Ok(text.to_owned()),
        false => Err("streams are agent and check/NAME".to_owned()),
    }
}

impl Logs {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let name = name_of(Noun::Loops, &self.name)?;
        let mut source = Source {
            clients: context.clients().await?,
            request: ReadLogsRequest {
                namespace: context.namespace(),
                r#loop: name.clone(),
                iteration: self.iteration.unwrap_or(0),
                stream: self.stream.clone().unwrap_or_default(),
                follow: self.follow,
                tail_bytes: self.tail_bytes.unwrap_or(0),
                token: self.token,
                node: self.node.clone().unwrap_or_default(),
            },
        };
        let mut printer = Printer { headings: self.stream.is_none(), ..Printer::default() };
        if self.follow && self.iteration.is_none() && self.token.is_none() {
            return source.follow(context, &mut printer).await;
        }
        match source.read(context, &mut printer).await {
            Ok(()) => Ok(Exit::Ok),
            Err(failure) if failure.code == "not-found" && !self.follow => {
                // A loop that has finished, or that there is none of, writes nothing any more.
                match source.state().await {
                    Ok((false, _)) => {
                        Err(failure.hint(format!("wait for output: flyball logs -f {name}")))
                    }
                    Ok((true, _)) | Err(_) => Err(failure),
                }
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Where output comes from.
struct Source {
    clients: Clients,
    request: ReadLogsRequest,
}

impl Source {
    /// Reads one stream to its end.
    async fn read(
        &mut self,
        context: &mut Context<'_>,
        printer: &mut Printer,
    ) -> Result<(), Failure> {
        printer.begin_stream();
        let mut chunks = self.open(context).await?;
        while let Some(chunk) = chunks.message().await? {
            if self.request.token.is_some_and(|token| token != chunk.token) {
                let message = "the scheduler does not tell output of runs apart by their tokens";
                return Err(Status::unimplemented(message).into());
            }
            printer.take(context, chunk)?;
        }
        Ok(())
    }

    /// Output comes through the leader. Any other scheduler says so, and who leads, each time anew: leaders change.
    async fn open(&mut self, context: &Context<'_>) -> Result<Streaming<LogData>, Failure> {
        let refused = match self.clients.logs.read(self.request.clone()).await {
            Ok(chunks) => return Ok(chunks.into_inner()),
            Err(status) => status,
        };
        let info = refused.get_details_error_info();
        if info.is_none_or(|info| info.reason != "NOT_LEADER") {
            return Err(refused.into());
        }
        let info = self.clients.server.info(InfoRequest {}).await?.into_inner();
        let Ok(address) = info.leader_address.parse() else { return Err(refused.into()) };
        let mut leader = context.clients_at(&address).await?;
        Ok(leader.logs.read(self.request.clone()).await?.into_inner())
    }

    /// Follows the loop from run to run and from node to node, until it has finished. A stream ends
    /// with the run it comes from; there is none before the first run has begun.
    async fn follow(&mut self, context: &mut Context<'_>, printer: &mut Printer) -> Outcome {
        let mut away_since = None;
        loop {
            // Asked before reading: what was written until the end is read then.
            let asked = self.state().await;
            if let Ok((_, node)) = &asked {
                printer.on_node(node);
            }
            let read = self.read(context, printer).await;
            match (asked, read) {
                (Ok((true, _)), read) => return read.map(|()| Exit::Ok),
                (Ok((false, _)), Ok(())) => away_since = None,
                (Ok((false, _)), Err(failure)) if is_passing(&failure) => away_since = None,
                (Ok((false, _)), Err(failure)) => return Err(failure),
                (Err(failure), _) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    if failure.code != "unavailable" || since.elapsed() > AWAY_MAX {
                        return Err(failure);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the loop has finished, and which node has it or had it last.
    async fn state(&mut self) -> Result<(bool, String), Failure> {
        let (namespace, name) = (self.request.namespace.clone(), self.request.r#loop.clone());
        let object = self.clients.loops.get(GetLoopRequest { namespace, name }).await?;
        let document = LoopDocument::read(&object.into_inner())?;
        let node = document.status.node.as_ref().map(ToString::to_string).unwrap_or_default();
        Ok((document.status.phase.is_terminal() && document.is_current(), node))
    }
}

/// Failures that pass when the loop begins, goes on elsewhere or the scheduler is back.
fn is_passing(failure: &Failure) -> bool {
    ["not-found", "not-now", "unavailable", "internal"].contains(&failure.code)
}

/// Prints chunks as they are, with a heading wherever another stream begins.
#[derive(Debug, Default)]
struct Printer {
    headings: bool,
    current: Option<Key>,
    mid_line: bool,
    node: String,
    /// Bytes printed of each stream of the node.
    printed: BTreeMap<Key, u64>,
    /// Bytes still to pass over in a stream that comes once more from its start.
    repeated: BTreeMap<Key, u64>,
}

/// Token of the run, iteration and name of a stream.
type Key = (i64, u32, String);

fn key_of(chunk: &LogData) -> Key {
    (chunk.token, chunk.iteration, chunk.stream.clone())
}

impl Printer {
    /// Another node writes other streams, though iterations may have the same numbers. Where runs are known it does
    /// not matter: they are told apart by their tokens.
    fn on_node(&mut self, node: &str) {
        if self.node != node {
            node.clone_into(&mut self.node);
            self.printed.retain(|(token, ..), _| *token != 0);
            // No stream has this key: the next one gets a heading.
            self.current = self.current.take().map(|(token, ..)| (token, 0, String::new()));
        }
    }

    fn begin_stream(&mut self) {
        self.repeated = self.printed.clone();
    }

    fn take(&mut self, context: &mut Context<'_>, mut chunk: LogData) -> Result<(), Failure> {
        self.drop_repeated(&mut chunk);
        if chunk.data.is_empty() {
            return Ok(());
        }
        if context.format() == Format::Json {
            let text = String::from_utf8_lossy(&chunk.data);
            return context.out.stream_document(&json!({
                "iteration": chunk.iteration, "token": chunk.token, "stream": chunk.stream, "text": text,
            }));
        }
        let heading = self.heading(&chunk);
        context.out.raw(heading.as_bytes())?;
        self.mid_line = !chunk.data.ends_with(b"\n");
        context.out.raw(&chunk.data)
    }

    /// Cuts off what was printed before the stream was opened again.
    fn drop_repeated(&mut self, chunk: &mut LogData) {
        let key = key_of(chunk);
        let repeated = self.repeated.entry(key.clone()).or_default();
        let known = usize::try_from(*repeated).unwrap_or(usize::MAX).min(chunk.data.len());
        *repeated -= known as u64;
        chunk.data = chunk.data.slice(known..);
        *self.printed.entry(key).or_default() += chunk.data.len() as u64;
    }

    /// In the manner of tail: `==> iteration 3, check/test <==`; the run is named where another one goes on.
    fn heading(&mut self, chunk: &LogData) -> String {
        let key = key_of(chunk);
        if !self.headings || self.current.as_ref() == Some(&key) {
            return String::new();
        }
        let before = match (&self.current, self.mid_line) {
            (None, _) => "",
            (Some(_), false) => "\n",
            (Some(_), true) => "\n\n",
        };
        let run = match &self.current {
            Some((token, ..)) if *token != chunk.token => format!(" (token {})", chunk.token),
            _ => String::new(),
        };
        self.current = Some(key);
        format!("{before}==> iteration {}, {}{run} <==\n", chunk.iteration, chunk.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_agent_or_a_check() {
        assert!(stream("agent").is_ok() && stream("check/test").is_ok());
        assert!(stream("check/").is_err() && stream("stderr").is_err());
    }

    #[test]
    fn what_comes_again_is_passed_over_unless_another_run_wrote_it() {
        let mut printer = Printer::default();
        let mut printed = |node: &str, token: i64, text: &str| {
            printer.on_node(node);
            printer.begin_stream();
            let data = text.to_owned().into();
            let mut chunk = LogData { stream: "agent".to_owned(), data, iteration: 1, token };
            printer.drop_repeated(&mut chunk);
            String::from_utf8(chunk.data.to_vec()).unwrap()
        };
        assert_eq!(printed("a", 0, "one"), "one");
        assert_eq!(printed("a", 0, "one two"), " two");
        assert_eq!(printed("a", 0, "one"), "");
        assert_eq!(printed("b", 0, "one"), "one");
        // Known runs are told apart on the same node, and known again after another node was heard of.
        assert_eq!(printed("b", 7, "one"), "one");
        assert_eq!(printed("b", 12, "one"), "one");
        assert_eq!(printed("c", 12, "one two"), " two");
    }

    #[test]
    fn headings_stand_where_the_stream_changes() {
        let chunk = |token, iteration, stream: &str| LogData {
            stream: stream.to_owned(),
            data: Default::default(),
            iteration,
            token,
        };
        let mut printer = Printer { headings: true, ..Printer::default() };
        let mut headings = String::new();
        let chunks = [
            (7, 1, "agent"),
            (7, 1, "agent"),
            (7, 1, "check/a"),
            (7, 2, "check/a"),
            (12, 2, "check/a"),
            (12, 3, "agent"),
        ];
        for (token, iteration, stream) in chunks {
            headings.push_str(&printer.heading(&chunk(token, iteration, stream)));
        }
        insta::assert_snapshot!(headings, @"
        ==> iteration 1, agent <==

        ==> iteration 1, check/a <==

        ==> iteration 2, check/a <==

        ==> iteration 2, check/a (token 12) <==

        ==> iteration 3, agent <==
        ");
    }
}
