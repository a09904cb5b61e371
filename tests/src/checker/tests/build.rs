//! Histories by hand, in short.

use super::super::{Verdict, judge, number};
use crate::history::{Answer, Call, Entry, Event};

/// A history under construction; every line is a millisecond after the one before it.
#[derive(Debug, Clone)]
pub(super) struct History {
    entries: Vec<Entry>,
    op: u64,
    unfinished: Vec<String>,
}

fn text(word: &str) -> String {
    word.to_owned()
}

fn uid_of(name: &str) -> String {
    format!("uid-{name}")
}

impl History {
    /// Begins one of a scenario.
    pub(super) fn of(scenario: &str) -> Self {
        Self { entries: Vec::new(), op: 0, unfinished: Vec::new() }.line(Event::Start {
            scenario: text(scenario),
            seed: 1,
            ttl_ms: 2000,
            kill_budget_ms: 100,
            settle_ms: 1000,
            slots: 2,
        })
    }

    /// Begins one without faults.
    pub(super) fn new() -> Self {
        Self::of("by hand")
    }

    pub(super) fn line(mut self, event: Event) -> Self {
        let at_us = self.entries.last().map_or(1000, |last| last.at_us + 1000);
        self.entries.push(Entry { at_us, event });
        self
    }

    /// Lets time pass.
    pub(super) fn after_ms(mut self, ms: u64) -> Self {
        let last = self.entries.last_mut().unwrap();
        let at_us = last.at_us + ms * 1000;
        self.entries.push(Entry { at_us, event: Event::Bite { what: text("time passes") } });
        self
    }

    pub(super) fn claimed(self, name: &str, node: &str, token: i64, set: &[&str]) -> Self {
        self.claim(name, node, (token, token, 7), set)
    }

    /// Token, revision, lease.
    pub(super) fn claim(
        self,
        name: &str,
        node: &str,
        (token, revision, lease): (i64, i64, i64),
        set: &[&str],
    ) -> Self {
        self.line(Event::Claimed {
            key: text(name),
            uid: uid_of(name),
            node: text(node),
            incarnation: format!("{node}-1"),
            token,
            lease,
            resources: set.iter().map(|entry| text(entry)).collect(),
            revision,
        })
    }

    pub(super) fn unclaimed(self, name: &str, token: i64, revision: i64) -> Self {
        self.line(Event::Unclaimed { key: text(name), token, revision })
    }

    pub(super) fn status(self, name: &str, phase: &str, result: &str, revision: i64) -> Self {
        self.status_of(name, 1, phase, result, &[], revision)
    }

    pub(super) fn status_of(
        self,
        name: &str,
        generation: u64,
        phase: &str,
        result: &str,
        unsealed: &[i64],
        revision: i64,
    ) -> Self {
        self.line(Event::Status {
            key: text(name),
            uid: uid_of(name),
            generation,
            phase: text(phase),
            result: text(result),
            unsealed: unsealed.to_vec(),
            revision,
        })
    }

    pub(super) fn leader(self, id: &str, revision: i64) -> Self {
        self.line(Event::Leader { id: text(id), revision })
    }

    pub(super) fn push(self, name: &str, token: i64, sequence: u64) -> Self {
        self.pushed(name, token, sequence, "iteration", true)
    }

    pub(super) fn pushed(
        self,
        name: &str,
        token: i64,
        sequence: u64,
        record: &str,
        accepted: bool,
    ) -> Self {
        let refs = vec![text("refs/heads/out")];
        self.push_with(name, (token, sequence, record), refs, accepted)
    }

    /// Another loop's owner seals the journal.
    pub(super) fn seal(self, name: &str, token: i64, sequence: u64) -> Self {
        self.push_with(name, (token, sequence, "sealed-by-other"), Vec::new(), true)
    }

    fn push_with(
        self,
        name: &str,
        (token, sequence, record): (i64, u64, &str),
        refs: Vec<String>,
        accepted: bool,
    ) -> Self {
        self.line(Event::Push {
            repo: text("repo"),
            uid: uid_of(name),
            token,
            sequence,
            record: text(record),
            refs,
            accepted,
        })
    }

    pub(super) fn alive(self, name: &str, token: i64, node: &str) -> Self {
        self.line(Event::Alive { uid: uid_of(name), token, node: text(node), pid: 4 })
    }

    pub(super) fn invoke(mut self, client: &str, call: Call) -> Self {
        self.op += 1;
        let op = self.op;
        self.line(Event::Invoke { op, client: text(client), call })
    }

    pub(super) fn answer(self, op: u64, answer: Answer) -> Self {
        self.line(Event::Return { op, answer })
    }

    /// A call and its answer.
    pub(super) fn call(self, call: Call, answer: Answer) -> Self {
        let history = self.invoke("c", call);
        let op = history.op;
        history.answer(op, answer)
    }

    pub(super) fn fault(self) -> Self {
        self.line(Event::FaultBegins { fault: text("kill") })
            .line(Event::Bite { what: text("it died") })
            .line(Event::FaultEnds { fault: text("kill") })
    }

    pub(super) fn unfinished(mut self, name: &str) -> Self {
        self.unfinished.push(text(name));
        self
    }

    pub(super) fn judge(self) -> Verdict {
        let unfinished = self.unfinished.clone();
        let history = self.line(Event::End { unfinished });
        history.judge_as_it_is()
    }

    pub(super) fn judge_as_it_is(self) -> Verdict {
        judge(&number(self.entries))
    }
}

pub(super) fn apply(name: &str, digest: &str) -> Call {
    Call::Apply { key: text(name), digest: text(digest) }
}

pub(super) fn get(name: &str) -> Call {
    Call::Get { key: text(name) }
}

pub(super) fn delete(name: &str) -> Call {
    Call::Delete { key: text(name) }
}

pub(super) fn object(uid: &str, phase: &str, result: &str) -> Answer {
    Answer::Object {
        uid: text(uid),
        generation: 1,
        digest: text("d"),
        phase: text(phase),
        result: text(result),
    }
}

pub(super) fn unknown() -> Answer {
    Answer::Unknown { message: text("the answer was lost") }
}
