//! I1: at the repositories, tokens never go down, neither per journal nor per resource, and only tokens
//! are accepted that the store gave; under another loop's token a journal is sealed, and nothing else.

use std::collections::BTreeMap;

use super::facts::{ClaimId, Facts};
use super::lines::Line;
use super::resources::PatternId;
use super::verdict::{Invariant, Verdict};
use crate::history::Event;

/// The record by which the owner of an overlapping set shuts out a run that was never proven to have ended:
/// all that it may do in a journal that is not its own.
const SEAL: &str = "sealed-by-other";

/// The newest accepted record of a journal.
struct Tip {
    token: i64,
    sequence: u64,
    line: usize,
}

/// Effects under a claim on the patterns it holds.
#[derive(Default)]
struct Seen {
    /// Highest token with an accepted push, exclusive and shared: with claim and line.
    highest: [Option<(i64, ClaimId, usize)>; 2],
    /// Claims that nobody with a later token has sealed yet, exclusive and shared.
    open: [Vec<ClaimId>; 2],
}

#[derive(Default)]
struct Effects<'a> {
    tips: BTreeMap<(&'a str, &'a str), Tip>,
    patterns: BTreeMap<PatternId, Seen>,
    /// Claims under which something was accepted.
    begun: BTreeMap<ClaimId, ()>,
    /// Claims after which somebody with a later token had something accepted: who, in which line.
    sealed: BTreeMap<ClaimId, (ClaimId, usize)>,
}

pub(super) fn judge(lines: &[Line], facts: &mut Facts<'_>, verdict: &mut Verdict) {
    let mut effects = Effects::default();
    for line in lines {
        let Event::Push { repo, uid, token, sequence, record, refs, accepted } = &line.event else {
            continue;
        };
        if !accepted {
            verdict.count("refused pushes", 1);
            continue;
        }
        verdict.count("accepted pushes", 1);
        if record.is_empty() {
            let message = format!(
                "{repo} let token {token} of loop {uid} move {refs:?} without a record in its journal: nothing fences such a push"
            );
            verdict.add(Invariant::I1, &[line.number], message);
        } else {
            let tip = Tip { token: *token, sequence: *sequence, line: line.number };
            effects.append((repo, uid), tip, verdict);
        }
        let own = facts.given(uid, *token);
        let Some(claim) = own.or_else(|| overlapping(facts, uid, *token)) else {
            let message = format!(
                "{repo} accepted token {token} for loop {uid}, a token that the store gave neither to it nor to a loop whose set overlaps"
            );
            verdict.add(Invariant::I1, &[line.number], message);
            continue;
        };
        if own.is_none() && !(record == SEAL && refs.is_empty()) {
            let message = format!(
                "{repo} accepted a record {record:?} that moves {refs:?} for loop {uid} under token {token} of {}: whose set overlaps may seal, and nothing else",
                facts.claims[claim].key
            );
            verdict.add(Invariant::I1, &[line.number], message);
        }
        effects.of_claim(facts, claim, line.number, verdict);
    }
    verdict.count("tenures with effects", effects.begun.len());
}

/// A claim of this token that is another loop's, whose set overlaps one that this loop has or had.
fn overlapping(facts: &mut Facts<'_>, uid: &str, token: i64) -> Option<ClaimId> {
    let own: Vec<ClaimId> = facts.by_uid.get(uid)?.values().copied().collect();
    let candidates = facts.by_token.get(&token).cloned().unwrap_or_default();
    candidates.into_iter().find(|other| own.iter().any(|own| facts.conflict(*own, *other)))
}

impl<'a> Effects<'a> {
    fn append(&mut self, journal: (&'a str, &'a str), new: Tip, verdict: &mut Verdict) {
        let (repo, uid) = journal;
        if let Some(old) = self.tips.get(&journal) {
            let lines = [old.line, new.line];
            if new.token < old.token {
                let message = format!(
                    "the journal of loop {uid} in {repo} accepted token {} after token {}",
                    new.token, old.token
                );
                verdict.add(Invariant::I1, &lines, message);
            }
            if new.sequence != old.sequence + 1 {
                let message = format!(
                    "the journal of loop {uid} in {repo} has record {} after record {}: something is missing or there twice",
                    new.sequence, old.sequence
                );
                verdict.add(Invariant::I1, &lines, message);
            }
        }
        self.tips.insert(journal, new);
    }

    fn of_claim(&mut self, facts: &mut Facts<'_>, id: ClaimId, line: usize, verdict: &mut Verdict) {
        if self.begun.insert(id, ()).is_none() {
            self.begin(facts, id, line);
        }
        if let Some((by, sealed)) = self.sealed.get(&id) {
            let (late, by) = (&facts.claims[id], &facts.claims[*by]);
            let message = format!(
                "something of {} was accepted under token {} after {}, whose set overlaps, had begun under token {}",
                late.key, late.token, by.key, by.token
            );
            verdict.add(Invariant::I1, &[by.line, *sealed, line], message);
        }
    }

    /// The first effect under a claim shuts out all conflicting claims with lower tokens, and shows
    /// whether it is itself shut out.
    fn begin(&mut self, facts: &mut Facts<'_>, id: ClaimId, line: usize) {
        let token = facts.claims[id].token;
        for held in facts.claims[id].set.clone() {
            let own = usize::from(held.shared);
            for near in facts.patterns.overlapping(held.pattern) {
                let Some(seen) = self.patterns.get_mut(near) else { continue };
                // Shared sets conflict with exclusive ones only.
                for other in 0..=1 - own {
                    if let Some((_, by, at)) = seen.highest[other].filter(|it| it.0 > token) {
                        self.sealed.entry(id).or_insert((by, at));
                    }
                    seen.open[other].retain(|older| {
                        let shut = facts.claims[*older].token < token;
                        if shut {
                            self.sealed.entry(*older).or_insert((id, line));
                        }
                        !shut
                    });
                }
            }
            let seen = self.patterns.entry(held.pattern).or_default();
            seen.open[own].push(id);
            if seen.highest[own].is_none_or(|(highest, ..)| highest < token) {
                seen.highest[own] = Some((token, id, line));
            }
        }
    }
}
