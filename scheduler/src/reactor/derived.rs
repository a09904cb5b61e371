//! What the view derives from the store's keys: who holds which resources, what nodes are used for,
//! who waits in which order, and which loops wait for a moment. All of it can be rebuilt from the
//! keys and the commits under way; none of it is stored.

use std::collections::{BTreeMap, BTreeSet};

use flyball_core::ids::{LoopKey, LoopUid, NodeName, Token};
use flyball_core::node::Resources;
use flyball_core::resource::{ClaimIndex, Entry, ResourceSet, canonical_repo_id};
use flyball_core::spec::Access;
use flyball_core::status::Phase;
use flyball_store::{ClaimRecord, LoopRecord, Mutation};

use super::view::{InFlight, LoopEntry, View};

/// Position in the queue, see [`queue_position`].
pub(super) type QueueKey = (i64, LoopKey);

/// Indexes over the view.
#[derive(Debug, Default)]
pub(super) struct Derived {
    /// Who holds which resources: live claims, and assignments whose outcome is not known yet.
    pub(super) index: ClaimIndex,
    /// Loops that wait for an assignment, in the order of their creation.
    pub(super) queue: BTreeSet<QueueKey>,
    /// Loops whose status lists unsealed journals; few, so they are looked through one by one.
    pub(super) unsealed: BTreeSet<LoopKey>,
    /// Loops to be looked at again at a moment: parked ones, refused ones, those to be removed.
    pub(super) timers: BTreeSet<(jiff::Timestamp, LoopKey)>,
    /// Key of the loop with this uid, for those that hold resources.
    pub(super) holders: BTreeMap<LoopUid, LoopKey>,
    usage: BTreeMap<NodeName, Usage>,
}

/// What of a loop stands in the indexes. Kept with the loop: finding it costs no search of its own.
#[derive(Debug, Default)]
pub(super) struct Indexed {
    held: Option<Held>,
    queued: Option<i64>,
    timed: Option<jiff::Timestamp>,
}

/// What a node is used for.
#[derive(Debug, Default)]
struct Usage {
    needs: Resources,
    loops: BTreeSet<LoopKey>,
}

/// What a loop holds, as it was put into the index.
#[derive(Debug, Clone, PartialEq)]
struct Held {
    uid: LoopUid,
    token: Token,
    node: NodeName,
    needs: Resources,
}

/// What an update of the derived state has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Refreshed {
    /// Resources or capacity were set free.
    pub(super) freed: bool,
    /// The loop is new in the queue.
    pub(super) queued: bool,
}

/// The set that a record's spec asks for. Records were validated before they were stored, so only one
/// of a newer version cannot be read: `None`.
pub(super) fn set_of(record: &LoopRecord) -> Option<ResourceSet> {
    let repository = record.spec.workspace.as_ref();
    let repository = repository.and_then(|w| canonical_repo_id(&w.git.url).ok());
    ResourceSet::parse(&record.spec.owns, repository.as_ref()).ok()
}

/// The set of a list of canonical entries, as claims and `unsealed` carry it. Entries of a newer
/// grammar are left out and the rest still counts; their owner keys protect them.
pub(super) fn set_of_entries(entries: &[String]) -> ResourceSet {
    ResourceSet::from_canonical(entries).unwrap_or_else(|_| {
        let readable: Vec<&String> =
            entries.iter().filter(|entry| entry.parse::<Entry>().is_ok()).collect();
        ResourceSet::from_canonical(&readable).unwrap_or_default()
    })
}

/// The owner keys of a claim's entries.
pub(super) fn owners_of(entries: &[String]) -> Vec<(Access, String)> {
    set_of_entries(entries).owner_keys().collect()
}

impl View {
    /// What a node's live claims need together, and how many there are.
    pub(super) fn usage(&self, node: &NodeName) -> (Resources, u32) {
        let Some(usage) = self.derived.usage.get(node) else { return Default::default() };
        (usage.needs.clone(), u32::try_from(usage.loops.len()).unwrap_or(u32::MAX))
    }

    /// Brings everything derived in line with one loop.
    pub(super) fn refresh(&mut self, key: &LoopKey) -> Refreshed {
        let seen = self.revision;
        let Some(stored) = self.loops.get_mut(key) else { return Refreshed::default() };
        let mut indexed = std::mem::take(&mut stored.indexed);
        let entry = &*stored;
        let queued = is_queued(entry).then(|| queue_position(entry));
        let unsealed = entry.status.get().is_some_and(|status| !status.unsealed.is_empty());
        let forget = is_forgettable(entry, seen);
        let due = due(entry).filter(|_| !forget);
        self.budgets.note(key, entry.status.get().map(AsRef::as_ref));
        let holding = holding(entry);
        // The watch may show what a commit has done before its answer comes, and only then is the loop
        // queued again: until the answer nobody who came later gets what it held.
        let keep = holding.is_none() && entry.in_flight.is_some();
        let freed = !keep && self.derived.hold(key, &mut indexed.held, holding);
        let queued = self.derived.enqueue(key, &mut indexed.queued, queued);
        self.derived.set_timer(key, &mut indexed.timed, due);
        stored.indexed = indexed;
        if unsealed {
            self.derived.unsealed.insert(key.clone());
        } else {
            self.derived.unsealed.remove(key);
        }
        if forget {
            self.loops.remove(key);
        }
        Refreshed { freed, queued }
    }
}

impl Derived {
    /// The loops of a node's live claims, as of the last `refresh` of each.
    pub(super) fn loops_of(&self, node: &NodeName) -> impl Iterator<Item = &LoopKey> {
        self.usage.get(node).into_iter().flat_map(|usage| &usage.loops)
    }

    /// Puts what the loop holds into the index in place of what it held. True if something was set
    /// free.
    fn hold(
        &mut self,
        key: &LoopKey,
        held: &mut Option<Held>,
        holding: Option<Holding<'_>>,
    ) -> bool {
        // Needs may change with the spec while the claim stays: what was charged stays charged.
        let same = match (held.as_ref(), &holding) {
            (None, None) => true,
            (Some(held), Some(now)) => {
                held.uid == *now.uid && held.token == now.token && held.node == *now.node
            }
            _ => false,
        };
        if same {
            return false;
        }
        let mut freed = false;
        if let Some(old) = held.take() {
            self.index.remove(&old.uid);
            self.holders.remove(&old.uid);
            let usage = self.usage.entry(old.node).or_default();
            subtract(&mut usage.needs, &old.needs);
            usage.loops.remove(key);
            freed = true;
        }
        if let Some(holding) = holding {
            let (new, set) = (holding.held(), holding.set());
            self.index.insert(new.uid.clone(), new.token, &set);
            self.holders.insert(new.uid.clone(), key.clone());
            let usage = self.usage.entry(new.node.clone()).or_default();
            add(&mut usage.needs, &new.needs);
            usage.loops.insert(key.clone());
            *held = Some(new);
        }
        freed
    }

    fn enqueue(&mut self, key: &LoopKey, queued: &mut Option<i64>, position: Option<i64>) -> bool {
        if *queued == position {
            return false;
        }
        if let Some(before) = std::mem::replace(queued, position) {
            self.queue.remove(&(before, key.clone()));
        }
        self.queue.extend(position.map(|position| (position, key.clone())));
        position.is_some()
    }

    fn set_timer(
        &mut self,
        key: &LoopKey,
        timed: &mut Option<jiff::Timestamp>,
        due: Option<jiff::Timestamp>,
    ) {
        // Also one that stays: it may have rung.
        if let Some(before) = std::mem::replace(timed, due) {
            self.timers.remove(&(before, key.clone()));
        }
        self.timers.extend(due.map(|due| (due, key.clone())));
    }
}

/// What a loop holds, still where it was found: most looks at it find that nothing has changed.
#[derive(Debug, Clone, Copy)]
struct Holding<'a> {
    uid: &'a LoopUid,
    token: Token,
    node: &'a NodeName,
    needs: Option<&'a Resources>,
    resources: HeldSet<'a>,
}

#[derive(Debug, Clone, Copy)]
enum HeldSet<'a> {
    /// Of a claim, in canonical form.
    Entries(&'a [String]),
    /// Of a spec.
    Parsed(&'a ResourceSet),
}

impl<'a> Holding<'a> {
    fn of_claim(claim: &'a ClaimRecord, token: Token, needs: Option<&'a Resources>) -> Self {
        let resources = HeldSet::Entries(&claim.resources);
        Self { uid: &claim.uid, token, node: &claim.node, needs, resources }
    }

    fn held(&self) -> Held {
        Held {
            uid: self.uid.clone(),
            token: self.token,
            node: self.node.clone(),
            needs: self.needs.cloned().unwrap_or_default(),
        }
    }

    fn set(&self) -> ResourceSet {
        match self.resources {
            HeldSet::Entries(entries) => set_of_entries(entries),
            HeldSet::Parsed(set) => set.clone(),
        }
    }
}

/// What a loop holds: its claim, or the assignment under way (its token is not known yet: 0), or
/// what its lost run held until its status says so. The latter keeps its place in the queue: nobody
/// who came later gets the resources between the loss and the moment it waits for them again.
fn holding(entry: &LoopEntry) -> Option<Holding<'_>> {
    let needs = entry.record.get().map(|record| &record.spec.needs);
    if let Some(claim) = entry.claim.stored() {
        let token = Token(claim.create_revision);
        return Some(Holding::of_claim(&claim.value, token, needs));
    }
    if let Some(InFlight { mutation: Mutation::Assign(assign), .. }) = &entry.in_flight {
        return Some(Holding::of_claim(&assign.claim, Token(0), needs));
    }
    let (record, status) = (entry.record.get()?, entry.status.get()?);
    // The watch may show it pending before the commit's own answer lets it queue again.
    let unsettled = status.phase == Phase::Pending && status.runs > 0 && entry.in_flight.is_some();
    let node = status.node.as_ref().filter(|_| status.phase.is_owned() || unsettled)?;
    let (uid, token) = (&record.uid, entry.last_token.unwrap_or_default());
    Some(Holding { uid, token, node, needs, resources: HeldSet::Parsed(&entry.set) })
}

/// Place in the queue: loops that have begun go before new ones, both in the order of their creation.
/// What was begun is finished first; its own bounds end it.
pub(super) fn queue_position(entry: &LoopEntry) -> i64 {
    let created = entry.record.create_revision();
    let begun = entry.status.get().is_some_and(|status| status.runs > 0);
    if begun { created.saturating_sub(i64::MAX) } else { created }
}

/// A loop waits for an assignment if it is `Pending`, nobody asked for its end, it has no claim and
/// nothing is under way for it.
fn is_queued(entry: &LoopEntry) -> bool {
    let Some(record) = entry.record.get() else { return false };
    let Some(status) = entry.status.get() else { return false };
    status.phase == Phase::Pending
        && status.observed_generation == record.generation
        && !entry.unreadable
        && record.cancel.is_none()
        && !record.delete
        && entry.claim.get().is_none()
        && entry.in_flight.is_none()
        && entry.retry_at.is_none()
}

/// When to look at the loop again without any news of it. Never while a commit is under way: its
/// answer is news, and a moment that has passed already would keep the caller awake until then.
fn due(entry: &LoopEntry) -> Option<jiff::Timestamp> {
    if entry.in_flight.is_some() {
        return None;
    }
    if entry.retry_at.is_some() {
        return entry.retry_at;
    }
    let status = entry.status.get()?;
    if status.phase == Phase::Parked {
        return status.parked_until;
    }
    let ttl = entry.record.get()?.spec.ttl_after_finished?;
    let finished = status.finished_at.filter(|_| status.phase.is_terminal())?;
    finished.checked_add(ttl.0).ok()
}

fn is_forgettable(entry: &LoopEntry, seen: i64) -> bool {
    entry.record.is_forgettable(seen)
        && entry.status.is_forgettable(seen)
        && entry.claim.is_forgettable(seen)
        && entry.in_flight.is_none()
        && entry.reports.is_empty()
        // Its run is still to be told that it is lost.
        && entry.sent.is_none()
}

fn add(total: &mut Resources, needs: &Resources) {
    total.cpu.0 = total.cpu.0.saturating_add(needs.cpu.0);
    total.memory.0 = total.memory.0.saturating_add(needs.memory.0);
    total.disk.0 = total.disk.0.saturating_add(needs.disk.0);
    for (name, count) in &needs.custom {
        let sum = total.custom.entry(name.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
}

fn subtract(total: &mut Resources, needs: &Resources) {
    total.cpu.0 = total.cpu.0.saturating_sub(needs.cpu.0);
    total.memory.0 = total.memory.0.saturating_sub(needs.memory.0);
    total.disk.0 = total.disk.0.saturating_sub(needs.disk.0);
    for (name, count) in &needs.custom {
        let sum = total.custom.entry(name.clone()).or_default();
        *sum = sum.saturating_sub(*count);
    }
    total.custom.retain(|_, count| *count > 0);
}
