//! The claim index: who blocks a resource set, in time that does not grow with all claims.

use std::collections::BTreeMap;

use super::entry::Entry;
use super::segment::{Glob, Segment};
use super::set::ResourceSet;
use crate::ids::{LoopUid, Token};
use crate::planted::{self, Bug};
use crate::spec::Access;

/// Who holds something that a wanted set conflicts with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blocker<Id = LoopUid> {
    /// The holder.
    pub uid: Id,
    /// The token it holds under.
    pub token: Token,
    /// What it holds.
    pub held: Entry,
    /// The wanted entry that conflicts with it.
    pub wanted: Entry,
}

/// Sets by holder, searchable by overlap. `Id` is the claim's loop, or whatever else tells holders
/// apart: sets of runs not yet sealed go into an index of their own, or under an id of their own.
///
/// It is a tree over scheme and segments. A search follows a literal segment straight to its child
/// and looks at patterns only if their text before the first `*` fits, so its cost depends on the
/// wanted set, on the patterns beside its path, and on the blockers found; not on how many claims
/// there are elsewhere. Shared and exclusive entries are in separate trees, so that a reader never
/// passes over other readers.
#[derive(Debug, Clone)]
pub struct ClaimIndex<Id = LoopUid> {
    exclusive: BTreeMap<String, Branch<Id>>,
    shared: BTreeMap<String, Branch<Id>>,
    holders: BTreeMap<Id, (Token, ResourceSet)>,
}

/// A place in the tree: the entries that end here, and the ways on.
#[derive(Debug, Clone)]
struct Branch<Id> {
    /// The entry that ends here.
    here: Option<Box<Held<Id>>>,
    /// The entry that goes on from here with `**`.
    below: Option<Box<Held<Id>>>,
    literals: BTreeMap<Box<str>, Branch<Id>>,
    /// Patterns by the text before their first `*`.
    globs: BTreeMap<Box<str>, BTreeMap<Glob, Branch<Id>>>,
}

/// An entry and who holds it.
#[derive(Debug, Clone)]
struct Held<Id> {
    entry: Entry,
    holders: BTreeMap<Id, Token>,
}

/// One search for one wanted entry.
struct Search<'a, Id> {
    wanted: &'a Entry,
    found: &'a mut Vec<Blocker<Id>>,
    max: usize,
    /// Branches looked at: what a search costs.
    visited: usize,
}

impl<Id: Ord + Clone> ClaimIndex<Id> {
    /// An empty index.
    pub fn new() -> Self {
        Self { exclusive: BTreeMap::new(), shared: BTreeMap::new(), holders: BTreeMap::new() }
    }

    /// Number of holders.
    pub fn len(&self) -> usize {
        self.holders.len()
    }

    /// True when nobody holds anything.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }

    /// The token and set of a holder.
    pub fn get(&self, uid: &Id) -> Option<(Token, &ResourceSet)> {
        self.holders.get(uid).map(|(token, set)| (*token, set))
    }

    /// Enters a holder; what it held before under this id is removed first. Sets of different
    /// holders may conflict: whether they may is decided by transactions, the index only reports.
    pub fn insert(&mut self, uid: Id, token: Token, set: &ResourceSet) {
        self.remove(&uid);
        for entry in set.entries() {
            let roots = self.roots_mut(entry.access());
            let root = roots.entry(entry.scheme().to_owned()).or_default();
            root.insert(entry.segments(), entry, &uid, token);
        }
        self.holders.insert(uid, (token, set.clone()));
    }

    /// Removes a holder; true if it was there.
    pub fn remove(&mut self, uid: &Id) -> bool {
        let Some((_, set)) = self.holders.remove(uid) else { return false };
        for entry in set.entries() {
            let roots = self.roots_mut(entry.access());
            let Some(root) = roots.get_mut(entry.scheme()) else { continue };
            root.remove(entry.segments(), uid);
            if root.is_empty() {
                roots.remove(entry.scheme());
            }
        }
        true
    }

    /// Everything held that conflicts with the wanted set, each pair of entries once, in an order
    /// that depends on the contents only. A holder of the wanted set itself is reported like others.
    pub fn blockers(&self, wanted: &ResourceSet) -> Vec<Blocker<Id>> {
        self.blockers_up_to(wanted, usize::MAX)
    }

    /// The first `max` of [`blockers`](Self::blockers), without looking for more. `explain` names a
    /// few; a set such as `git:**` may have as many as there are claims.
    pub fn blockers_up_to(&self, wanted: &ResourceSet, max: usize) -> Vec<Blocker<Id>> {
        self.search(wanted, max).0
    }

    /// The blockers, and how many branches were looked at for them.
    fn search(&self, wanted: &ResourceSet, max: usize) -> (Vec<Blocker<Id>>, usize) {
        let (mut found, mut visited) = (Vec::new(), 0);
        for entry in wanted.entries() {
            let shared = (entry.access() == Access::Exclusive).then_some(&self.shared);
            for roots in std::iter::once(&self.exclusive).chain(shared) {
                if let Some(root) = roots.get(entry.scheme()) {
                    let mut search = Search { wanted: entry, found: &mut found, max, visited: 0 };
                    search.descend(root, entry.segments());
                    visited += search.visited;
                }
            }
        }
        (found, visited)
    }

    /// Whether nobody holds anything that conflicts with the wanted set.
    pub fn is_free(&self, wanted: &ResourceSet) -> bool {
        self.blockers_up_to(wanted, 1).is_empty()
    }

    fn roots_mut(&mut self, access: Access) -> &mut BTreeMap<String, Branch<Id>> {
        match access {
            Access::Exclusive => &mut self.exclusive,
            Access::Read => &mut self.shared,
        }
    }
}

impl<Id: Ord + Clone> Default for ClaimIndex<Id> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Id> Default for Branch<Id> {
    fn default() -> Self {
        let (literals, globs) = (BTreeMap::new(), BTreeMap::new());
        Self { here: None, below: None, literals, globs }
    }
}

impl<Id: Ord + Clone> Branch<Id> {
    fn is_empty(&self) -> bool {
        let no_entry = self.here.is_none() && self.below.is_none();
        no_entry && self.literals.is_empty() && self.globs.is_empty()
    }

    /// Recursion is bounded by [`SEGMENTS_MAX`](super::SEGMENTS_MAX), here and below.
    fn insert(&mut self, segments: &[Segment], entry: &Entry, uid: &Id, token: Token) {
        let slot = match segments.split_first() {
            None => &mut self.here,
            Some((Segment::Rest, _)) => &mut self.below,
            Some((Segment::Literal(text), rest)) => {
                let child = self.literals.entry(text.clone()).or_default();
                return child.insert(rest, entry, uid, token);
            }
            Some((Segment::Glob(glob), rest)) => {
                let beside = self.globs.entry(glob.prefix().into()).or_default();
                let child = beside.entry(glob.clone()).or_default();
                return child.insert(rest, entry, uid, token);
            }
        };
        let held = slot.get_or_insert_with(|| {
            Box::new(Held { entry: entry.clone(), holders: BTreeMap::new() })
        });
        held.holders.insert(uid.clone(), token);
    }

    fn remove(&mut self, segments: &[Segment], uid: &Id) {
        match segments.split_first() {
            None => remove_holder(&mut self.here, uid),
            Some((Segment::Rest, _)) => remove_holder(&mut self.below, uid),
            Some((Segment::Literal(text), rest)) => {
                remove_below(&mut self.literals, text, rest, uid);
            }
            Some((Segment::Glob(glob), rest)) => {
                if let Some(beside) = self.globs.get_mut(glob.prefix()) {
                    remove_below(beside, glob, rest, uid);
                    if beside.is_empty() {
                        self.globs.remove(glob.prefix());
                    }
                }
            }
        }
    }
}

fn remove_holder<Id: Ord>(slot: &mut Option<Box<Held<Id>>>, uid: &Id) {
    if let Some(held) = slot {
        held.holders.remove(uid);
        if held.holders.is_empty() {
            *slot = None;
        }
    }
}

/// Removes from a child, and the child when nothing is left in it.
fn remove_below<K, Q, Id>(
    children: &mut BTreeMap<K, Branch<Id>>,
    key: &Q,
    rest: &[Segment],
    uid: &Id,
) where
    K: Ord + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
    Id: Ord + Clone,
{
    if let Some(child) = children.get_mut(key) {
        child.remove(rest, uid);
        if child.is_empty() {
            children.remove(key);
        }
    }
}

impl<Id: Ord + Clone> Search<'_, Id> {
    fn full(&self) -> bool {
        self.found.len() >= self.max
    }

    fn take(&mut self, held: Option<&Held<Id>>) {
        let Some(held) = held else { return };
        if planted::is(Bug::OverlapByName) && !held.entry.overlaps(self.wanted) {
            return;
        }
        for (uid, token) in &held.holders {
            if self.full() {
                return;
            }
            self.found.push(Blocker {
                uid: uid.clone(),
                token: *token,
                held: held.entry.clone(),
                wanted: self.wanted.clone(),
            });
        }
    }

    fn descend(&mut self, branch: &Branch<Id>, segments: &[Segment]) {
        self.visited += 1;
        if self.full() {
            return;
        }
        let Some((segment, rest)) = segments.split_first() else {
            return self.take(branch.here.as_deref());
        };
        self.take(branch.below.as_deref());
        match segment {
            Segment::Rest => self.take_all_below(branch),
            Segment::Literal(text) => self.descend_literal(branch, text, rest),
            Segment::Glob(glob) => self.descend_glob(branch, glob, rest),
        }
    }

    fn descend_literal(&mut self, branch: &Branch<Id>, text: &str, rest: &[Segment]) {
        if let Some(child) = branch.literals.get(text) {
            self.descend(child, rest);
        }
        if branch.globs.is_empty() {
            return;
        }
        for prefix in prefixes(text) {
            for (held, child) in branch.globs.get(prefix).into_iter().flatten() {
                if held.matches(text) {
                    self.descend(child, rest);
                }
            }
        }
    }

    fn descend_glob(&mut self, branch: &Branch<Id>, glob: &Glob, rest: &[Segment]) {
        let start = glob.prefix();
        for (text, child) in from_prefix(&branch.literals, start) {
            if glob.matches(text) {
                self.descend(child, rest);
            }
        }
        // Either prefix may be the longer one; the whole one itself comes with the second part.
        let shorter = prefixes(start).filter(|prefix| prefix.len() < start.len());
        let shorter = shorter.filter_map(|prefix| branch.globs.get(prefix));
        let longer = from_prefix(&branch.globs, start).map(|(_, beside)| beside);
        for (held, child) in shorter.chain(longer).flatten() {
            if held.overlaps(glob) {
                self.descend(child, rest);
            }
        }
    }

    /// Everything held at one or more segments below the branch.
    fn take_all_below(&mut self, branch: &Branch<Id>) {
        let globs = branch.globs.values().flat_map(BTreeMap::values);
        for child in branch.literals.values().chain(globs) {
            if self.full() {
                return;
            }
            self.visited += 1;
            self.take(child.here.as_deref());
            self.take(child.below.as_deref());
            self.take_all_below(child);
        }
    }
}

/// All prefixes of the text at character boundaries, the empty one and the whole included.
fn prefixes(text: &str) -> impl Iterator<Item = &str> {
    let ends = text.char_indices().map(|(at, _)| at).chain(std::iter::once(text.len()));
    ends.map(|end| &text[..end])
}

/// The children whose key starts with this text.
fn from_prefix<'a, V>(
    children: &'a BTreeMap<Box<str>, V>,
    start: &'a str,
) -> impl Iterator<Item = (&'a str, &'a V)> {
    let from = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
    let tail = children.range::<str, _>(from);
    tail.map(|(key, value)| (&**key, value)).take_while(move |(key, _)| key.starts_with(start))
}

#[cfg(test)]
mod tests;
