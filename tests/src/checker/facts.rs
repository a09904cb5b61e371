//! What several rules need: claims and statuses of the store, put in the order of its revisions.

use std::collections::BTreeMap;

use super::lines::Line;
use super::resources::{Held, Patterns};
use crate::history::Event;

/// A claim's number.
pub(super) type ClaimId = usize;

/// A tenure: a loop on a node under a token.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) key: String,
    pub(super) node: String,
    pub(super) incarnation: String,
    pub(super) token: i64,
    /// In the order of its patterns.
    pub(super) set: Vec<Held>,
    /// Line that first told of it.
    pub(super) line: usize,
}

/// A change of the store, in the order of its revisions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    /// How often the store was replaced before.
    pub(super) epoch: usize,
    pub(super) revision: i64,
    pub(super) line: &'a Line,
    /// Of a claim that appears or changes.
    pub(super) claim: Option<ClaimId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Facts<'a> {
    pub(super) claims: Vec<Claim>,
    /// Claims by loop uid and token.
    pub(super) by_uid: BTreeMap<&'a str, BTreeMap<i64, ClaimId>>,
    /// Claims by token: those of one batch share it.
    pub(super) by_token: BTreeMap<i64, Vec<ClaimId>>,
    /// Claims, releases, statuses, leaders.
    pub(super) changes: Vec<Change<'a>>,
    pub(super) patterns: Patterns,
    /// Lines with an entry that is none.
    pub(super) unreadable: Vec<usize>,
    /// Claims that were told again with another node, incarnation or set, and the line of it.
    pub(super) rewritten: Vec<(ClaimId, usize)>,
}

impl<'a> Facts<'a> {
    pub(super) fn gather(lines: &'a [Line]) -> Self {
        let mut facts = Self::default();
        let mut epoch = 0;
        for line in lines {
            let (revision, claim) = match &line.event {
                Event::StoreReset { .. } => {
                    epoch += 1;
                    continue;
                }
                Event::Claimed { revision, .. } => (*revision, facts.claim(line)),
                Event::Unclaimed { revision, .. }
                | Event::Status { revision, .. }
                | Event::Leader { revision, .. } => (*revision, None),
                _ => continue,
            };
            facts.changes.push(Change { epoch, revision, line, claim });
        }
        // At one revision what goes makes room for what comes.
        facts
            .changes
            .sort_by_key(|change| (change.epoch, change.revision, order(&change.line.event)));
        facts
    }

    fn claim(&mut self, line: &'a Line) -> Option<ClaimId> {
        let Event::Claimed { key, uid, node, incarnation, token, resources, .. } = &line.event
        else {
            return None;
        };
        let mut set = Vec::with_capacity(resources.len());
        for resource in resources {
            match self.patterns.intern(resource) {
                Some(held) => set.push(held),
                None => self.unreadable.push(line.number),
            }
        }
        set.sort_unstable();
        if let Some(known) = self.given(uid, *token) {
            let first = &self.claims[known];
            let same = (&first.node, &first.incarnation, &first.set) == (node, incarnation, &set);
            if !same {
                self.rewritten.push((known, line.number));
            }
            return Some(known);
        }
        let id = self.claims.len();
        let (key, node, incarnation) = (key.clone(), node.clone(), incarnation.clone());
        let (token, line) = (*token, line.number);
        self.claims.push(Claim { key, node, incarnation, token, set, line });
        self.by_uid.entry(uid).or_default().insert(token, id);
        self.by_token.entry(token).or_default().push(id);
        Some(id)
    }

    /// The claim that the store gave to this loop under this token.
    pub(super) fn given(&self, uid: &str, token: i64) -> Option<ClaimId> {
        self.by_uid.get(uid)?.get(&token).copied()
    }

    /// Whether two claims may not be live at once.
    pub(super) fn conflict(&mut self, one: ClaimId, two: ClaimId) -> bool {
        let (claims, patterns) = (&self.claims, &mut self.patterns);
        claims[one].set.iter().any(|left| {
            let near = patterns.overlapping(left.pattern);
            claims[two]
                .set
                .iter()
                .any(|right| !(left.shared && right.shared) && near.contains(&right.pattern))
        })
    }
}

fn order(event: &Event) -> u8 {
    match event {
        Event::Unclaimed { .. } => 0,
        Event::Leader { id, .. } if id.is_empty() => 0,
        _ => 1,
    }
}
