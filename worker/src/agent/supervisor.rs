//! The rules for every agent: one that said its last word has a grace to go, one that says nothing while none of
//! its tools runs has stalled. Times are since its start and come from outside.

use std::collections::BTreeSet;
use std::time::Duration;

use flyball_core::model::{AgentAccount, AgentCut, AgentDefinition, AgentEnding, LastWord};
use flyball_core::quantity::Span;
use flyball_core::score::ExitKind;

use super::event::AgentEvent;
use super::lines::{Line, Lines};
use super::parse::Parser;

/// Most tools of one agent that are known to run at a time; whoever starts more is not waited for beyond these.
const TOOLS_MAX: usize = 256;

/// When an agent is ended by us, besides its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// So long after its last word.
    pub(crate) grace: Duration,
    /// After so long without a word, while none of its tools and no model call of it runs; `None`: never.
    pub(crate) stall: Option<Duration>,
}

impl Rules {
    pub(crate) fn of(definition: &AgentDefinition) -> Self {
        Self { grace: definition.grace.0, stall: definition.stall.map(|stall| stall.0) }
    }
}

/// What is known of one attempt of an agent.
#[derive(Debug)]
pub(crate) struct Supervisor {
    rules: Rules,
    parser: Parser,
    lines: Lines,
    tools: BTreeSet<String>,
    /// When it last gave a sign of life.
    sign: Duration,
    word: Option<(LastWord, Duration)>,
    said: String,
    account: AgentAccount,
    /// Output was dropped, so silence and a missing last word mean nothing.
    blind: bool,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conclusion {
    /// For the record.
    pub(crate) account: AgentAccount,
    /// What the governor is to see as its exit.
    pub(crate) exit: ExitKind,
    /// The ending and the exit in words.
    pub(crate) words: String,
    /// What it said last: its last word's message, or else its last text.
    pub(crate) said: String,
}

impl Supervisor {
    /// Of an agent that begins now, with this form of output.
    pub(crate) fn new(rules: Rules, output: &str) -> Self {
        Self {
            rules,
            parser: Parser::new(output),
            lines: Lines::default(),
            tools: BTreeSet::new(),
            sign: Duration::ZERO,
            word: None,
            said: String::new(),
            account: AgentAccount::default(),
            blind: false,
        }
    }

    /// The next bytes of its output, seen at `now`.
    pub(crate) fn on_output(&mut self, bytes: &[u8], now: Duration) {
        if bytes.is_empty() {
            return;
        }
        self.on_sign(now);
        // Taken out so that the closure may use the rest.
        let mut lines = std::mem::take(&mut self.lines);
        lines.feed(bytes, |line| self.on_line(&line, now));
        self.lines = lines;
    }

    /// Another sign of life: a model call of it is under way.
    pub(crate) fn on_sign(&mut self, now: Duration) {
        self.sign = self.sign.max(now);
    }

    /// Nobody sees all of its output any more: from now on only its time limit ends it.
    pub(crate) fn on_blind(&mut self) {
        self.blind = true;
    }

    /// Whether it is to be ended now, and why.
    pub(crate) fn look(&self, now: Duration) -> Option<AgentCut> {
        if self.blind {
            return None;
        }
        if let Some((_, at)) = &self.word {
            let over = now.saturating_sub(*at) >= self.rules.grace;
            return over.then(|| {
                let grace = Span(self.rules.grace);
                AgentCut::Hung(format!("still there {grace} after its last word"))
            });
        }
        let stall = self.rules.stall?;
        let silent = self.tools.is_empty() && now.saturating_sub(self.sign) >= stall;
        silent.then(|| {
            let stall = Span(stall);
            AgentCut::Stalled(format!("it said nothing for {stall} while none of its tools ran"))
        })
    }

    /// The file below its home that is to be read when it has ended.
    pub(crate) fn file(&self) -> Option<&'static str> {
        self.parser.file()
    }

    /// The verdict, once it has ended with `exit` or by our `cut`. `file` is what [`Supervisor::file`] names.
    pub(crate) fn conclude(
        mut self,
        exit: &ExitKind,
        cut: Option<&AgentCut>,
        file: Option<&[u8]>,
    ) -> Conclusion {
        let now = self.sign;
        let mut lines = std::mem::take(&mut self.lines);
        lines.finish(|line| self.on_line(&line, now));
        if let Some(bytes) = file {
            let events = self.parser.feed_file(bytes);
            events.into_iter().for_each(|event| self.on_event(event, now));
        }
        let word = self.word.as_ref().map(|(word, _)| word);
        let speaks = self.parser.speaks() && !self.blind;
        let ending = AgentEnding::of(word, speaks, exit, cut);
        let said = match word {
            Some(word) if !word.message.is_empty() => word.message.clone(),
            _ => self.said,
        };
        let kind = word.map(|word| word.kind.clone()).unwrap_or_default();
        let words = match (cut, kind.as_str()) {
            (Some(AgentCut::Hung(why) | AgentCut::Stalled(why)), _) => {
                format!("{}: {why}", ending.words())
            }
            (None, "") => exit.to_string(),
            (None, kind) => format!("{} ({kind}), {exit}", ending.words()),
        };
        Conclusion {
            account: AgentAccount { ending, word: kind, ..self.account },
            exit: ending.as_exit(exit, cut),
            words,
            said,
        }
    }

    fn on_line(&mut self, line: &Line<'_>, now: Duration) {
        match line {
            Line::Whole(line) => {
                let events = self.parser.feed(line);
                events.into_iter().for_each(|event| self.on_event(event, now));
            }
            Line::TooLong => self.on_event(AgentEvent::Unread, now),
        }
    }

    fn on_event(&mut self, event: AgentEvent, now: Duration) {
        let account = &mut self.account;
        match event {
            AgentEvent::Began { version } => account.program = version,
            AgentEvent::Turn => account.turns = account.turns.saturating_add(1),
            AgentEvent::ToolBegan { id } => {
                account.tools = account.tools.saturating_add(1);
                if self.tools.len() < TOOLS_MAX {
                    self.tools.insert(id);
                }
            }
            AgentEvent::ToolEnded { id } => {
                self.tools.remove(&id);
            }
            AgentEvent::Said(text) => self.said = text,
            AgentEvent::Retries => account.retries = account.retries.saturating_add(1),
            AgentEvent::Used { usage, cost } => {
                account.reported = Some(usage);
                account.reported_cost = cost.or(account.reported_cost);
            }
            AgentEvent::Ended { word, turns } => {
                account.turns = turns.unwrap_or(account.turns);
                self.word = Some((word, now));
            }
            AgentEvent::Unread => account.unread = account.unread.saturating_add(1),
            AgentEvent::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { grace: Duration::from_secs(30), stall: Some(Duration::from_secs(600)) };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn codex() -> Supervisor {
        Supervisor::new(RULES, "codex")
    }

    const BEGAN: &[u8] =
        b"{\"type\":\"item.started\",\"item\":{\"id\":\"i1\",\"type\":\"command_execution\"}}\n";
    const ENDED: &[u8] =
        b"{\"type\":\"item.completed\",\"item\":{\"id\":\"i1\",\"type\":\"command_execution\"}}\n";
    const OVER: &[u8] =
        b"{\"type\":\"turn.completed\",\"usage\":{\"input_tokens\":7,\"output_tokens\":2}}\n";

    #[test]
    fn after_its_last_word_it_has_a_grace() {
        let mut agent = codex();
        agent.on_output(OVER, at(100));
        assert_eq!(agent.look(at(129)), None);
        // What it says besides does not put it off.
        agent.on_output(b"{\"type\":\"more\"}\n", at(129));
        let cut = agent.look(at(130)).unwrap();
        assert_eq!(cut, AgentCut::Hung("still there 30s after its last word".to_owned()));
        let end = agent.conclude(&ExitKind::Killed, Some(&cut), None);
        assert_eq!((end.account.ending, end.exit), (AgentEnding::Hung, ExitKind::Exited(0)));
        assert_eq!(end.account.reported.unwrap().tokens(), 9);
        assert!(end.words.contains("had to be killed: still there"), "{}", end.words);
    }

    #[test]
    fn silence_is_a_stall_but_not_while_a_tool_runs() {
        let mut agent = codex();
        assert_eq!(agent.look(at(599)), None);
        assert!(matches!(agent.look(at(600)), Some(AgentCut::Stalled(_))));
        agent.on_output(BEGAN, at(600));
        assert_eq!(agent.look(at(100_000)), None);
        agent.on_output(ENDED, at(100_000));
        assert_eq!(agent.look(at(100_599)), None);
        // A model call is no silence.
        agent.on_sign(at(100_500));
        assert_eq!(agent.look(at(101_099)), None);
        let cut = agent.look(at(101_100)).unwrap();
        let end = agent.conclude(&ExitKind::Killed, Some(&cut), None);
        assert_eq!(end.account.ending, AgentEnding::Stalled);
        assert!(matches!(end.exit, ExitKind::OverLimit(why) if why.contains("10m")));
    }

    #[test]
    fn one_whose_output_is_cut_off_is_left_to_its_time_limit() {
        let mut agent = codex();
        agent.on_output(OVER, at(1));
        agent.on_blind();
        assert_eq!(agent.look(at(10_000)), None);
        let mut agent = codex();
        agent.on_blind();
        let end = agent.conclude(&ExitKind::Exited(0), None, None);
        assert_eq!(end.account.ending, AgentEnding::Finished);
    }

    #[test]
    fn an_end_without_a_last_word_is_seen_whatever_the_exit() {
        let mut agent = codex();
        agent.on_output(BEGAN, at(1));
        let end = agent.conclude(&ExitKind::Exited(0), None, None);
        assert_eq!((end.account.ending, end.account.tools), (AgentEnding::Silent, 1));
        let plain = Supervisor::new(RULES, "lines");
        let end = plain.conclude(&ExitKind::Exited(3), None, None);
        assert_eq!((end.account.ending, end.words.as_str()), (AgentEnding::Failed, "exit 3"));
    }

    #[test]
    fn a_last_line_without_its_end_counts() {
        let mut agent = codex();
        agent.on_output(&OVER[..OVER.len() - 1], at(1));
        let end = agent.conclude(&ExitKind::Exited(0), None, None);
        assert_eq!(end.account.ending, AgentEnding::Finished);
        assert_eq!(end.words, "finished (turn.completed), exit 0");
    }

    #[test]
    fn tools_that_are_said_to_run_take_bounded_memory() {
        let mut agent = codex();
        for number in 0..10 * TOOLS_MAX {
            let line = String::from_utf8_lossy(BEGAN).replace("i1", &number.to_string());
            agent.on_output(line.as_bytes(), at(1));
        }
        assert_eq!(agent.tools.len(), TOOLS_MAX);
    }
}
