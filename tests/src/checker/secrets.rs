//! I6: planted secrets stay where they belong. What was not searched, or had nothing in it, proves nothing.

use std::collections::BTreeMap;

use super::lines::Line;
use super::verdict::{Invariant, Verdict};
use crate::history::Event;

/// A secret that was planted.
struct Planted {
    /// Where the history says so.
    line: usize,
    /// Bytes that were searched for it, of each surface, with the line of the last search.
    sought: BTreeMap<String, (u64, usize)>,
}

pub(super) fn judge(lines: &[Line], verdict: &mut Verdict) {
    let mut secrets: BTreeMap<&str, Planted> = BTreeMap::new();
    for line in lines {
        match &line.event {
            Event::SecretPlanted { secret, .. } => {
                let planted = Planted { line: line.number, sought: BTreeMap::new() };
                secrets.entry(secret).or_insert(planted);
            }
            Event::SecretSought { secret, surface, bytes } => match secrets.get_mut(&**secret) {
                Some(planted) => {
                    let sought = planted.sought.entry(surface.clone()).or_default();
                    *sought = (sought.0 + bytes, line.number);
                }
                None => never_planted(secret, line, verdict),
            },
            Event::SecretSeen { secret, surface, place } => {
                let planted = secrets.get(&**secret).map(|planted| planted.line);
                if planted.is_none() {
                    never_planted(secret, line, verdict);
                }
                let proof: Vec<usize> = planted.into_iter().chain([line.number]).collect();
                let message = format!("secret {secret} was seen in {surface}: {place}");
                verdict.add(Invariant::I6, &proof, message);
            }
            _ => {}
        }
    }
    for (secret, planted) in &secrets {
        was_sought(secret, planted, verdict);
    }
}

/// A search for something that is nowhere finds nothing, whatever leaks.
fn never_planted(secret: &str, line: &Line, verdict: &mut Verdict) {
    let message = format!("secret {secret} is sought, and was not planted before");
    verdict.add(Invariant::Sanity, &[line.number], message);
}

/// A secret that was planted has to be sought, and every surface to hold something.
fn was_sought(secret: &str, planted: &Planted, verdict: &mut Verdict) {
    verdict.count("secrets planted", 1);
    if planted.sought.is_empty() {
        let message = format!("secret {secret} was planted and never sought");
        verdict.add(Invariant::Sanity, &[planted.line], message);
        return;
    }
    for (surface, (bytes, line)) in &planted.sought {
        if *bytes == 0 {
            let message = format!("secret {secret} was sought in {surface}, which was empty");
            verdict.add(Invariant::Sanity, &[planted.line, *line], message);
        }
    }
    let full = planted.sought.values().filter(|(bytes, _)| *bytes > 0).count();
    verdict.count("secrets sought", usize::from(full > 0));
    verdict.count("searches of surfaces", full);
}
