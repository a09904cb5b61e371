//! The loop: ask, run the tools that the answer wants, tell what came of them, ask again.

use std::time::{Duration, Instant};

use flyball_core::model::Usage;

use crate::config::Config;
use crate::events::Events;
use crate::speak::{self, Item, Question, ToolResult, ToolSpec, Turn};
use crate::talk;
use crate::tools;

/// What every model is told first.
const SYSTEM: &str = "\
You are an engineer who works alone in a checked-out workspace, the current directory, without a network. You are \
given a brief and make one small change that brings the failing checks closer to passing. Look before you change: \
read what the checks print and the code that they touch. Change only what the brief allows, and never what it pins. \
Run the checks yourself where you can. When your change is made, call report. Whether the work is done is decided \
by the checks alone, so do not weaken them.";

/// What a model is told that stops without having called a tool in all its work.
const NUDGE: &str = "You have not used a tool yet. Make the change with them, then call report.";
/// In place of a result that is left out.
const LEFT_OUT: &str = "[left out: this was long ago; run it again if you need it]";

/// How the work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) ok: bool,
    /// `report`, `stop`, `turns`, `time`, `model` or `setting`.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Ended {
    fn well(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ok: true, reason, message: message.into() }
    }

    pub(crate) fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self { ok: false, reason, message: message.into() }
    }
}

/// One attempt.
pub(crate) struct Work<'a, 'b> {
    config: &'a Config,
    events: &'a mut Events<'b>,
    tools: Vec<ToolSpec>,
    items: Vec<Item>,
    usage: Usage,
    turns: u32,
    tools_run: u32,
    began: Instant,
}

impl<'a, 'b> Work<'a, 'b> {
    pub(crate) fn new(config: &'a Config, events: &'a mut Events<'b>) -> Self {
        Self {
            config,
            events,
            tools: tools::specs(),
            items: Vec::new(),
            usage: Usage::default(),
            turns: 0,
            tools_run: 0,
            began: Instant::now(),
        }
    }

    /// Works to the end; whether it was a good one.
    pub(crate) fn run(mut self) -> bool {
        self.events.began(&self.config.model, speak::name(self.config.protocol));
        let ended = self.work();
        self.events.ended(&ended, self.turns, &self.usage);
        ended.ok
    }

    fn work(&mut self) -> Ended {
        match std::fs::read_to_string(&self.config.brief) {
            Ok(brief) => self.items.push(Item::User(brief)),
            Err(error) => {
                return Ended::failed("setting", format!("cannot read the brief: {error}"));
            }
        }
        loop {
            if self.turns >= self.config.bounds.turns {
                let message = format!("no report within {} turns", self.turns);
                return Ended::failed("turns", message);
            }
            if self.time_left().is_zero() {
                return Ended::failed("time", "no report within its time");
            }
            self.fit();
            let turn = match self.ask() {
                Ok(turn) => turn,
                Err(error) => return Ended::failed("model", error.to_string()),
            };
            self.turns += 1;
            self.usage.add(&turn.usage);
            self.events.turn(self.turns, &turn, &self.usage);
            if let Some(ended) = self.follow(turn) {
                return ended;
            }
        }
    }

    fn ask(&mut self) -> Result<Turn, talk::TalkError> {
        let question = Question {
            model: &self.config.model,
            system: SYSTEM,
            items: &self.items,
            tools: &self.tools,
            output_tokens_max: self.config.bounds.output_tokens,
        };
        talk::ask(self.config, &question, self.events)
    }

    /// Does what an answer wants; the end, if it was the last one.
    fn follow(&mut self, turn: Turn) -> Option<Ended> {
        let (calls, text, cut_off) = (turn.calls.clone(), turn.text.clone(), turn.cut_off);
        self.items.push(Item::Assistant(turn));
        if calls.is_empty() {
            let more = match (cut_off, self.tools_run) {
                (true, _) => "You were cut off at your limit of tokens. Go on in smaller steps.",
                (false, 0) if self.turns == 1 => NUDGE,
                (false, _) => return Some(Ended::well("stop", text)),
            };
            self.items.push(Item::User(more.to_owned()));
            return None;
        }
        let mut results = Vec::new();
        for call in &calls {
            self.events.tool_began(call);
            self.tools_run += 1;
            let done = tools::run(call, self.time_left());
            self.events.tool_ended(call, done.ok, &done.text);
            if let Some(report) = done.report {
                return Some(self.reported(&report));
            }
            results.push(ToolResult { id: call.id.clone(), text: done.text, ok: done.ok });
        }
        self.items.push(Item::Results(results));
        None
    }

    fn reported(&self, report: &serde_json::Value) -> Ended {
        let note = report.get("note").and_then(serde_json::Value::as_str).unwrap_or_default();
        let written = match &self.config.report {
            Some(path) => std::fs::write(path, report.to_string()),
            None => Ok(()),
        };
        match written {
            Ok(()) => Ended::well("report", note),
            Err(error) => Ended::failed("report", format!("{note} (not written: {error})")),
        }
    }

    fn time_left(&self) -> Duration {
        Duration::from_secs(self.config.bounds.seconds).saturating_sub(self.began.elapsed())
    }

    /// Leaves the oldest results out until the conversation is small enough again. Half of the room is made at
    /// once, as what is said twice the same way costs less at most providers.
    fn fit(&mut self) {
        let mut bytes: usize = self.items.iter().map(size).sum();
        if bytes <= self.config.bounds.context_bytes {
            return;
        }
        for item in &mut self.items {
            let Item::Results(results) = item else { continue };
            for result in results.iter_mut().filter(|result| result.text.len() > LEFT_OUT.len()) {
                if bytes <= self.config.bounds.context_bytes / 2 {
                    return;
                }
                bytes -= result.text.len() - LEFT_OUT.len();
                LEFT_OUT.clone_into(&mut result.text);
            }
        }
    }
}

fn size(item: &Item) -> usize {
    match item {
        Item::User(text) => text.len(),
        Item::Assistant(turn) => {
            let raw: usize = turn.raw.iter().map(|item| item.to_string().len()).sum();
            let calls: usize = turn.calls.iter().map(|call| call.arguments.len()).sum();
            turn.text.len() + raw.max(calls)
        }
        Item::Results(results) => results.iter().map(|result| result.text.len()).sum(),
    }
}

#[cfg(test)]
mod tests;
