//! What a governor remembers over takeovers, bounded.

use serde::{Deserialize, Serialize};

use super::words::{ADVICE_LINES_MAX, clip_line};
use crate::quantity::Distance;
use crate::record::Decision;

/// Version of the memory's form. Another one is not read.
const MEMORY_VERSION: u32 = 1;

/// Most bytes of a memory as JSON text: it is part of a status that is written at every iteration
/// and sent to every watcher.
pub const MEMORY_BYTES_MAX: usize = 8 * 1024;

/// Most trees and trades remembered. Circles longer than this are not recognised; patience ends
/// long before.
const VISITS_MAX: usize = 40;

/// Most lines of what was tried: what fits in a brief without hiding its goal.
pub const TRIED_LINES_MAX: usize = 12;

/// Everything that is not counted elsewhere. Counters of iterations and time are in the progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Memory {
    pub(super) version: u32,
    /// The checkpoint.
    pub(super) best: Option<Best>,
    /// Distance at the first observation.
    pub(super) initial: Option<Distance>,
    /// Iterations in a row without improvement.
    pub(super) stalled: u32,
    /// Iterations in a row that were not kept.
    pub(super) not_kept: u32,
    /// Trades seen again since the last improvement.
    pub(super) flaps: u32,
    /// Returns to a tree that had been left, since the last improvement.
    pub(super) returns: u32,
    /// What takes turns, in words.
    pub(super) circle: String,
    /// Iterations in a row in which the agent said "unreachable" and did not improve anything.
    pub(super) declared: u32,
    /// Why, in the agent's words.
    pub(super) declared_why: String,
    /// The tree that reached distance zero and was not proven.
    pub(super) unproven: Option<Unproven>,
    /// Times in a row that the repository could not be reached.
    pub(super) repository_failures: u32,
    /// Iterations in a row that ended because nobody answered the agent's model calls.
    pub(super) model_failures: u32,
    /// Iterations in a row that cost something and were taken back.
    pub(super) taken_back: u32,
    /// Trees seen, oldest first.
    pub(super) visits: Vec<Visit>,
    /// What was tried, oldest first.
    pub(super) tried: Vec<Attempt>,
    /// What to tell the agent next.
    pub(super) advice: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Best {
    pub(super) tree: String,
    pub(super) distance: Distance,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unproven {
    pub(super) tree: String,
    pub(super) times: u32,
}

/// One tree that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Visit {
    /// Short hash of the tree.
    pub(super) tree: u32,
    /// Signature of what failed before.
    pub(super) before: u32,
    /// Signature of what failed then.
    pub(super) after: u32,
    /// It was a checkpoint.
    pub(super) kept: bool,
}

/// Something that was tried, maybe several times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// First iteration.
    pub(super) number: u32,
    /// Last iteration.
    pub(super) last: u32,
    pub(super) times: u32,
    pub(super) tree: u32,
    pub(super) decision: Decision,
    pub(super) text: String,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            version: MEMORY_VERSION,
            best: None,
            initial: None,
            stalled: 0,
            not_kept: 0,
            flaps: 0,
            returns: 0,
            circle: String::new(),
            declared: 0,
            declared_why: String::new(),
            unproven: None,
            repository_failures: 0,
            model_failures: 0,
            taken_back: 0,
            visits: Vec::new(),
            tried: Vec::new(),
            advice: Vec::new(),
        }
    }
}

impl Memory {
    pub(super) fn from_json(value: &serde_json::Value) -> Self {
        let read: Option<Self> = serde_json::from_value(value.clone()).ok();
        let mut memory = read.filter(|memory| memory.version == MEMORY_VERSION).unwrap_or_default();
        memory.trim();
        memory
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        let mut bounded = self.clone();
        bounded.trim();
        loop {
            let value = serde_json::to_value(&bounded).unwrap_or_default();
            if value.to_string().len() <= MEMORY_BYTES_MAX || !bounded.forget_something() {
                return value;
            }
        }
    }

    /// Gives up the oldest of what takes most room. False when there is nothing left to forget.
    fn forget_something(&mut self) -> bool {
        if !self.tried.is_empty() {
            self.tried.remove(0);
        } else if !self.visits.is_empty() {
            self.visits.remove(0);
        } else {
            return self.advice.pop().is_some();
        }
        true
    }

    fn trim(&mut self) {
        let drop_oldest = self.visits.len().saturating_sub(VISITS_MAX);
        self.visits.drain(..drop_oldest);
        let drop_oldest = self.tried.len().saturating_sub(TRIED_LINES_MAX);
        self.tried.drain(..drop_oldest);
        self.advice.truncate(ADVICE_LINES_MAX);
        let lines = self.advice.iter_mut().chain([&mut self.circle, &mut self.declared_why]);
        for line in lines.chain(self.tried.iter_mut().map(|attempt| &mut attempt.text)) {
            *line = clip_line(line);
        }
        if let Some(best) = &mut self.best {
            best.tree = clip_line(&best.tree);
        }
        if let Some(unproven) = &mut self.unproven {
            unproven.tree = clip_line(&unproven.tree);
        }
    }

    pub(super) fn visit(&mut self, visit: Visit) {
        self.visits.retain(|old| *old != visit);
        self.visits.push(visit);
        let surplus = self.visits.len().saturating_sub(VISITS_MAX);
        self.visits.drain(..surplus);
    }

    /// Writes down what was tried; the same again is counted, not repeated.
    pub(super) fn note_attempt(&mut self, attempt: Attempt) {
        let same = |old: &&mut Attempt| {
            old.tree == attempt.tree && old.decision == attempt.decision && old.text == attempt.text
        };
        if let Some(old) = self.tried.iter_mut().find(same) {
            old.times = old.times.saturating_add(1);
            old.last = attempt.number;
            return;
        }
        self.tried.push(attempt);
        let surplus = self.tried.len().saturating_sub(TRIED_LINES_MAX);
        self.tried.drain(..surplus);
    }

    /// How often this tree was tried and not kept.
    pub(super) fn times_tried(&self, tree: u32) -> u32 {
        let attempts = self.tried.iter().filter(|attempt| attempt.tree == tree);
        attempts.filter(|a| a.decision == Decision::Reverted).map(|attempt| attempt.times).sum()
    }

    pub(super) fn tried_lines(&self) -> Vec<String> {
        let lines = self.tried.iter().map(|attempt| {
            let Attempt { number, last, times, text, .. } = attempt;
            match times {
                0 | 1 => format!("#{number} {text}"),
                _ => format!("#{number} {text}; the same {times} times, last in #{last}"),
            }
        });
        lines.collect()
    }

    /// Something got better: whatever went in circles or stood still is over.
    pub(super) fn on_improvement(&mut self) {
        self.stalled = 0;
        self.flaps = 0;
        self.returns = 0;
        self.circle.clear();
        self.declared = 0;
        self.declared_why.clear();
    }
}
