//! I5: at every revision of the store, live claims do not conflict, nodes are not overfull, no claim is
//! there for ever or rewritten in place, tokens only go up, and one leader follows another.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Change, ClaimId, Facts};
use super::resources::PatternId;
use super::verdict::{Invariant, Verdict};
use crate::history::Event;

#[derive(Default)]
struct Live<'a> {
    /// By loop.
    claims: BTreeMap<&'a str, ClaimId>,
    /// Who holds a pattern: claim and whether shared.
    holders: BTreeMap<PatternId, BTreeSet<(ClaimId, bool)>>,
    per_node: BTreeMap<String, BTreeSet<ClaimId>>,
    /// Claims without a lease, with the line that says so.
    permanent: BTreeMap<ClaimId, usize>,
    leader: Option<(&'a str, usize)>,
}

pub(super) fn judge<'a>(facts: &mut Facts<'a>, slots: u32, verdict: &mut Verdict) {
    let mut live = Live::default();
    // Highest token of each loop name, and the claim with it.
    let mut newest: BTreeMap<&str, ClaimId> = BTreeMap::new();
    let mut epoch = 0;
    for change in facts.changes.clone() {
        if change.epoch != epoch {
            epoch = change.epoch;
            live = Live::default();
        }
        match &change.line.event {
            Event::Claimed { key, lease, .. } => {
                let Some(id) = change.claim else { continue };
                token(facts, &mut newest, key, id, change, verdict);
                if live.claims.get(key.as_str()) != Some(&id) {
                    take(facts, &mut live, key, id, change, verdict);
                    overfull(facts, &live, id, slots, verdict);
                    verdict.count("claims", 1);
                }
                if *lease == 0 {
                    live.permanent.insert(id, change.line.number);
                } else {
                    live.permanent.remove(&id);
                }
            }
            Event::Unclaimed { key, token, .. } => {
                let id = live.claims.get(key.as_str()).copied();
                if let Some(id) = id.filter(|id| facts.claims[*id].token == *token) {
                    live.claims.remove(key.as_str());
                    leave(facts, &mut live, id);
                }
            }
            Event::Leader { id, .. } => lead(&mut live, id, change.line.number, verdict),
            _ => {}
        }
    }
    rewritten(facts, verdict);
    for (id, line) in live.permanent {
        let claim = &facts.claims[id];
        let message = format!(
            "the claim of {} with token {} hangs on no lease and is still there at the end: nothing will ever end it",
            claim.key, claim.token
        );
        verdict.add(Invariant::I5, &[line], message);
    }
}

/// A token stands for one owner and one set: whoever compares it would not see that they changed.
fn rewritten(facts: &Facts<'_>, verdict: &mut Verdict) {
    for (id, line) in &facts.rewritten {
        let claim = &facts.claims[*id];
        let message = format!(
            "the claim of {} was rewritten under its token {}: what it says of node, incarnation and set changes with the token only",
            claim.key, claim.token
        );
        verdict.add(Invariant::I5, &[claim.line, *line], message);
    }
}

fn token<'a>(
    facts: &Facts<'_>,
    newest: &mut BTreeMap<&'a str, ClaimId>,
    key: &'a str,
    id: ClaimId,
    change: Change<'_>,
    verdict: &mut Verdict,
) {
    let claim = &facts.claims[id];
    if claim.token > change.revision {
        let message = format!(
            "the claim of {key} has token {}, but was seen at revision {}: a token is the revision that created its claim",
            claim.token, change.revision
        );
        verdict.add(Invariant::I5, &[change.line.number], message);
    }
    let before = newest.entry(key).or_insert(id);
    if *before == id {
        return;
    }
    let old = &facts.claims[*before];
    if old.token >= claim.token {
        let message = format!(
            "{key} was claimed with token {} after it had been claimed with token {}: tokens of a loop only go up",
            claim.token, old.token
        );
        verdict.add(Invariant::I5, &[old.line, change.line.number], message);
    } else {
        *before = id;
    }
}

fn take<'a>(
    facts: &mut Facts<'_>,
    live: &mut Live<'a>,
    key: &'a str,
    id: ClaimId,
    change: Change<'_>,
    verdict: &mut Verdict,
) {
    if let Some(old) = live.claims.insert(key, id) {
        let message = format!(
            "{key} has a claim with token {} though its claim with token {} has not gone",
            facts.claims[id].token, facts.claims[old].token
        );
        verdict.add(Invariant::I5, &[facts.claims[old].line, change.line.number], message);
        leave(facts, live, old);
    }
    let mut clashes = BTreeSet::new();
    for held in facts.claims[id].set.clone() {
        for near in facts.patterns.overlapping(held.pattern) {
            let holders = live.holders.get(near).into_iter().flatten();
            clashes
                .extend(holders.filter(|(_, shared)| !(*shared && held.shared)).map(|(id, _)| *id));
        }
    }
    for other in clashes.into_iter().filter(|other| *other != id) {
        let (new, old) = (&facts.claims[id], &facts.claims[other]);
        let message = format!(
            "{} owns under token {} what {} still owns under token {}: their sets overlap",
            new.key, new.token, old.key, old.token
        );
        verdict.add(Invariant::I5, &[old.line, change.line.number], message);
    }
    for held in &facts.claims[id].set {
        live.holders.entry(held.pattern).or_default().insert((id, held.shared));
    }
    live.per_node.entry(facts.claims[id].node.clone()).or_default().insert(id);
}

fn leave(facts: &Facts<'_>, live: &mut Live<'_>, id: ClaimId) {
    let claim = &facts.claims[id];
    for held in &claim.set {
        if let Some(holders) = live.holders.get_mut(&held.pattern) {
            holders.remove(&(id, held.shared));
        }
    }
    if let Some(claims) = live.per_node.get_mut(&claim.node) {
        claims.remove(&id);
    }
    live.permanent.remove(&id);
}

fn overfull(facts: &Facts<'_>, live: &Live<'_>, id: ClaimId, slots: u32, verdict: &mut Verdict) {
    let node = &facts.claims[id].node;
    let Some(claims) = live.per_node.get(node).filter(|_| slots > 0) else { return };
    if claims.len() > slots as usize {
        let lines: Vec<usize> = claims.iter().map(|id| facts.claims[*id].line).collect();
        let message =
            format!("node {node} has {} claims at a time, and {slots} slots", claims.len());
        verdict.add(Invariant::I5, &lines, message);
    }
}

fn lead<'a>(live: &mut Live<'a>, id: &'a str, line: usize, verdict: &mut Verdict) {
    verdict.count("changes of the leader", 1);
    match live.leader {
        Some((old, before)) if !id.is_empty() && old != id => {
            let message = format!("{id} leads though {old} has not ceased to lead");
            verdict.add(Invariant::I5, &[before, line], message);
            live.leader = Some((id, line));
        }
        _ => live.leader = (!id.is_empty()).then_some((id, line)),
    }
}
