//! One loop name as a client may see it: absent, or present with an identity, a generation and perhaps
//! an end. Ends and removals come by themselves; the first client that sees one fixes it.

use std::collections::BTreeMap;

use super::results::is_terminal;
use crate::history::{Answer, Call};

/// A word's number: comparing and hashing numbers is what makes the search fast.
type Word = u32;

/// What may be observed of a loop, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    uid: Word,
    generation: u64,
    /// Digest of the manifest, if told.
    digest: Option<Word>,
    /// Phase and result, if it is over.
    end: Option<(Word, Word)>,
}

/// A call with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    /// Submitted; `None`: whether it was done is unknown.
    Apply { digest: Word, seen: Option<Seen> },
    /// Read, or cancelled: cancelling shows the loop as it was and ends it some time later.
    Look(Seen),
    /// Deleted: it goes some time later.
    Delete,
    /// Deleted, or not: unknown.
    PerhapsDelete,
    /// It was not there.
    Absent,
}

/// State of a loop name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    present: Option<Present>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Present {
    /// `None`: made by a call whose answer was lost; whoever sees it first fixes it.
    uid: Option<Word>,
    generation: Option<u64>,
    digest: Word,
    end: Option<(Word, Word)>,
    /// The end of an earlier generation, shown until the new one begins.
    stale: Option<(Word, Word)>,
    /// Goes at any time.
    deleting: bool,
}

/// Numbers for words.
#[derive(Default)]
pub(super) struct Words<'a>(BTreeMap<&'a str, Word>);

impl<'a> Words<'a> {
    fn word(&mut self, text: &'a str) -> Word {
        // Far fewer words than 2^32 fit into memory.
        let next = Word::try_from(self.0.len()).unwrap_or(Word::MAX);
        *self.0.entry(text).or_insert(next)
    }

    /// The operation that a call and its answer are. `None` if it says nothing: refused, or unknown
    /// without a lasting effect.
    pub(super) fn operation(
        &mut self,
        call: &'a Call,
        answer: Option<&'a Answer>,
    ) -> Option<Operation> {
        let answer = answer.filter(|answer| !matches!(answer, Answer::Unknown { .. }));
        match (call, answer) {
            (_, Some(Answer::Refused { .. })) => None,
            (_, Some(Answer::NotFound)) => Some(Operation::Absent),
            (Call::Delete { .. }, Some(_)) => Some(Operation::Delete),
            (Call::Delete { .. }, None) => Some(Operation::PerhapsDelete),
            (Call::Apply { digest, .. }, answer) => {
                let digest = self.word(digest);
                Some(Operation::Apply { digest, seen: answer.and_then(|it| self.seen(it)) })
            }
            (_, Some(answer)) => self.seen(answer).map(Operation::Look),
            (_, None) => None,
        }
    }

    fn seen(&mut self, answer: &'a Answer) -> Option<Seen> {
        let Answer::Object { uid, generation, digest, phase, result } = answer else { return None };
        let end = is_terminal(phase).then(|| (self.word(phase), self.word(result)));
        let digest = (!digest.is_empty()).then(|| self.word(digest));
        Some(Seen { uid: self.word(uid), generation: *generation, digest, end })
    }
}

/// The state after the operation. `None` if its answer cannot come from this state.
pub(super) fn apply(operation: &Operation, state: &State) -> Option<State> {
    let present = state.present.as_ref();
    match operation {
        // Applied to nothing, or to one that goes: its answer comes from nothing then.
        Operation::Absent => present.is_none_or(|present| present.deleting).then(State::default),
        Operation::Delete => present.map(gone),
        Operation::PerhapsDelete => Some(present.map_or_else(State::default, gone)),
        Operation::Look(seen) => present.and_then(|present| look(present, seen)),
        Operation::Apply { digest, seen } => Some(match (present, seen) {
            (None, seen) => made(*digest, seen.as_ref()),
            (Some(present), None) if present.deleting => {
                // Refused, made anew, or kept after all: all of it is possible from here on.
                let present = Present { uid: None, generation: None, end: None, ..present.clone() };
                State { present: Some(present) }
            }
            (Some(present), None) => update(present, *digest, None)?,
            (Some(present), Some(seen)) if present.deleting => {
                let same = present.uid == Some(seen.uid);
                let kept = Present { deleting: false, ..present.clone() };
                if same { update(&kept, *digest, Some(seen))? } else { made(*digest, Some(seen)) }
            }
            (Some(present), Some(seen)) => update(present, *digest, Some(seen))?,
        }),
    }
}

fn gone(present: &Present) -> State {
    State { present: Some(Present { deleting: true, ..present.clone() }) }
}

fn made(digest: Word, seen: Option<&Seen>) -> State {
    State {
        present: Some(Present {
            uid: seen.map(|seen| seen.uid),
            generation: seen.map(|seen| seen.generation),
            digest,
            end: seen.and_then(|seen| seen.end),
            stale: None,
            deleting: false,
        }),
    }
}

/// The loop is as it is if the manifest is the same, and of a later generation otherwise.
fn update(present: &Present, digest: Word, seen: Option<&Seen>) -> Option<State> {
    let mut next = present.clone();
    if present.digest != digest {
        next.digest = digest;
        next.generation = match (present.generation, seen) {
            (Some(old), Some(seen)) if seen.generation <= old => return None,
            (_, seen) => seen.map(|seen| seen.generation),
        };
        next.stale = present.end.or(present.stale);
        next.end = None;
    }
    match seen {
        Some(seen) => look(&next, seen),
        None => Some(State { present: Some(next) }),
    }
}

/// The loop is what is seen; what was open is fixed by it.
fn look(present: &Present, seen: &Seen) -> Option<State> {
    let fits = present.uid.is_none_or(|uid| uid == seen.uid)
        && present.generation.is_none_or(|generation| generation == seen.generation)
        && seen.digest.is_none_or(|digest| digest == present.digest || present.deleting);
    if !fits {
        return None;
    }
    let mut next = present.clone();
    next.uid = Some(seen.uid);
    next.generation = Some(seen.generation);
    match (present.end, seen.end) {
        (Some(old), Some(new)) if old != new => return None,
        (Some(_), None) => return None,
        (None, Some(new)) if present.stale != Some(new) => next.end = Some(new),
        _ => {}
    }
    Some(State { present: Some(next) })
}
