//! `flyball logs`: what the agent and the checks of an iteration wrote.

use clap::Args;
use flyball_proto::v1::{LogData, ReadLogsRequest};
use serde_json::json;

use super::context::Context;
use super::target::{Noun, name_of};
use crate::output::Format;
use crate::{Exit, Failure, Outcome};

/// Arguments of `logs`.
#[derive(Debug, Clone, Args)]
pub struct Logs {
    /// The loop.
    #[arg(value_name = "LOOP")]
    name: String,
    /// Go on while more is written.
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
        let request = ReadLogsRequest {
            namespace: context.namespace(),
            r#loop: name_of(Noun::Loops, &self.name)?,
            iteration: self.iteration.unwrap_or(0),
            stream: self.stream.clone().unwrap_or_default(),
            follow: self.follow,
            tail_bytes: self.tail_bytes.unwrap_or(0),
        };
        let mut clients = context.clients().await?;
        let mut chunks = clients.logs.read(request).await?.into_inner();
        let mut printer = Printer { headings: self.stream.is_none(), ..Printer::default() };
        while let Some(chunk) = chunks.message().await? {
            printer.print(context, &chunk)?;
        }
        Ok(Exit::Ok)
    }
}

/// Prints chunks as they are, with a heading wherever another stream begins.
#[derive(Debug, Default)]
struct Printer {
    headings: bool,
    current: Option<(u32, String)>,
    mid_line: bool,
}

impl Printer {
    fn print(&mut self, context: &mut Context<'_>, chunk: &LogData) -> Result<(), Failure> {
        if context.format() == Format::Json {
            let text = String::from_utf8_lossy(&chunk.data);
            return context.out.stream_document(&json!({
                "iteration": chunk.iteration, "stream": chunk.stream, "text": text,
            }));
        }
        if chunk.data.is_empty() {
            return Ok(());
        }
        let heading = self.heading(chunk);
        context.out.raw(heading.as_bytes())?;
        self.mid_line = !chunk.data.ends_with(b"\n");
        context.out.raw(&chunk.data)
    }

    /// In the manner of tail: `==> iteration 3, check/test <==`.
    fn heading(&mut self, chunk: &LogData) -> String {
        let key = (chunk.iteration, chunk.stream.clone());
        if !self.headings || self.current.as_ref() == Some(&key) {
            return String::new();
        }
        let before = match (&self.current, self.mid_line) {
            (None, _) => "",
            (Some(_), false) => "\n",
            (Some(_), true) => "\n\n",
        };
        self.current = Some(key);
        format!("{before}==> iteration {}, {} <==\n", chunk.iteration, chunk.stream)
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
    fn headings_stand_where_the_stream_changes() {
        let chunk = |iteration, stream: &str| LogData {
            stream: stream.to_owned(),
            data: Default::default(),
            iteration,
        };
        let mut printer = Printer { headings: true, ..Printer::default() };
        let mut headings = String::new();
        for (iteration, stream) in [(1, "agent"), (1, "agent"), (1, "check/a"), (2, "check/a")] {
            headings.push_str(&printer.heading(&chunk(iteration, stream)));
        }
        insta::assert_snapshot!(headings, @"
        ==> iteration 1, agent <==

        ==> iteration 1, check/a <==

        ==> iteration 2, check/a <==
        ");
    }
}
