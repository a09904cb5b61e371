//! Workers that were refused because somebody alive has their node's name: two machines with one name, or a copy of a
//! data directory. Kept in memory, as a refused worker tries again: a new leader learns of it by itself. For display
//! only: what refuses is the store's transaction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flyball_core::ids::{Incarnation, NodeName};
use flyball_store::SessionRecord;
use tokio::time::Instant;

/// Most names kept at a time: the caller can only make up names that somebody has a session under, and a person
/// reads few. The one that was refused longest ago makes room.
const NAMES_MAX: usize = 100;

/// For how long a refusal is told. What starts a refused worker again does it after a pause: a second in the unit file
/// that we ship, five minutes at the longest in Kubernetes. Twice that, so that the finding does not come and go while
/// its cause is there.
const KEPT: Duration = Duration::from_secs(600);

/// What the store cuts off: it tells whole seconds of what a lease has left.
const CUT_OFF: Duration = Duration::from_secs(1);

/// What clocks of different speed and slow answers may add up to between two looks.
const SLACK: Duration = Duration::from_secs(1);

/// Who was refused, by node. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namesakes(Arc<Mutex<BTreeMap<NodeName, Refused>>>);

#[derive(Debug)]
struct Refused {
    /// The holder's.
    lease: i64,
    /// That lease is over by then, unless somebody has renewed it since it was looked at.
    over_by: Instant,
    /// It was renewed between two refusals: the holder is alive, and no remnant whose lease runs down.
    renewed: bool,
    told: TakenName,
}

/// A name that two workers want, both alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TakenName {
    pub(crate) node: NodeName,
    /// Who has the name.
    pub(crate) holder: Incarnation,
    /// Where the last refused one asked from.
    pub(crate) from: String,
    /// Refusals since the first.
    pub(crate) times: u64,
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

/// What the holder's lease had left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
    /// In whole seconds.
    pub(crate) left: Duration,
}

impl Namesakes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeName, Refused>> {
        // Every change is one call, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker from `from` was refused, as `holder` has the name. A worker that was restarted and waits for its old
    /// lease is refused too; what tells them apart is that nobody renews that lease.
    pub(crate) fn refused(&self, holder: &SessionRecord, look: Look, from: &str) {
        let SessionRecord { node, incarnation, lease } = holder;
        let over_by = look.answered + look.left + CUT_OFF + SLACK;
        let mut names = self.lock();
        names.retain(|_, one| look.answered.duration_since(one.told.last) <= KEPT);
        if let Some(known) = names.get_mut(node).filter(|known| known.lease == *lease) {
            // One that is over and not yet revoked is nobody's.
            let alive = !look.left.is_zero() && look.asked + look.left >= known.over_by;
            known.over_by = known.over_by.min(over_by);
            known.told.times += 1;
            known.told.last = look.answered;
            from.clone_into(&mut known.told.from);
            if alive && !known.renewed {
                known.renewed = true;
                tracing::warn!(%node, holder = %incarnation, from, "two live workers want one name");
            }
            return;
        }
        if names.len() >= NAMES_MAX && !names.contains_key(node) {
            let oldest = names.iter().min_by_key(|(_, one)| one.told.last);
            let oldest = oldest.map(|(name, _)| name.clone());
            oldest.and_then(|name| names.remove(&name));
        }
        let told = TakenName {
            node: node.clone(),
            holder: incarnation.clone(),
            from: from.to_owned(),
            times: 1,
            first: look.answered,
            last: look.answered,
        };
        let lease = *lease;
        names.insert(node.clone(), Refused { lease, over_by, renewed: false, told });
    }

    /// Another incarnation got the name: whoever waited for it waits no more.
    pub(crate) fn given(&self, node: &NodeName, incarnation: &Incarnation) {
        let mut names = self.lock();
        if names.get(node).is_some_and(|known| known.told.holder != *incarnation) {
            names.remove(node);
        }
    }

    /// Names that two live workers want, in their order.
    pub(crate) fn list(&self, now: Instant) -> Vec<TakenName> {
        let names = self.lock();
        let held = names.values().filter(|one| one.renewed);
        let held = held.filter(|one| now.duration_since(one.told.last) <= KEPT);
        held.map(|one| one.told.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn holder(node: &str, lease: i64) -> SessionRecord {
        let incarnation = Incarnation(format!("i{lease}"));
        SessionRecord { node: NodeName(node.to_owned()), incarnation, lease }
    }

    /// Refusals of one name at these times, with what the holder's lease had left; whether it is told then.
    fn told(looks: &[(u64, u64)]) -> bool {
        let (names, begin) = (Namesakes::default(), Instant::now());
        for (at, left) in looks {
            let now = begin + Duration::from_millis(*at);
            let look = Look { asked: now, answered: now, left: s(*left) };
            names.refused(&holder("n1", 7), look, "10.0.0.7:80");
        }
        !names.list(begin + s(60)).is_empty()
    }

    #[test]
    fn a_lease_that_runs_down_belongs_to_nobody_alive() {
        // A worker that was restarted asks until the lease of its earlier life is over.
        assert!(!told(&[(0, 5)]));
        assert!(!told(&[(0, 5), (200, 5), (900, 5), (1000, 4), (3000, 2), (5000, 0), (5900, 0)]));
        assert!(!told(&[(0, 1), (990, 1), (1990, 0)]));
        assert!(!told(&[(0, 1), (9000, 0)]), "the store is late to end it");
        // Renewed every two seconds of six, and every 0.7 of two, where the store always says one.
        assert!(told(&[(0, 4), (200, 4), (2200, 5)]));
        assert!(told(&[(0, 1), (700, 1), (1400, 1), (2100, 1)]));
        assert!(told(&[(0, 299), (250, 298), (90_000, 250)]));
    }

    #[test]
    fn it_is_told_who_asks_from_where_and_how_often_until_it_is_over() {
        let (names, begin) = (Namesakes::default(), Instant::now());
        let refuse = |lease, at: u64, from: &str| {
            let now = begin + s(at);
            let look = Look { asked: now, answered: now, left: s(5) };
            names.refused(&holder("n1", lease), look, from);
        };
        refuse(7, 0, "10.0.0.7:80");
        refuse(7, 3, "10.0.0.7:81");
        let listed = names.list(begin + s(4));
        let expected = TakenName {
            node: NodeName("n1".to_owned()),
            holder: Incarnation("i7".to_owned()),
            from: "10.0.0.7:81".to_owned(),
            times: 2,
            first: begin,
            last: begin + s(3),
        };
        assert_eq!(listed, [expected]);
        assert_eq!(names.list(begin + s(3) + KEPT).len(), 1);
        assert!(names.list(begin + s(4) + KEPT).is_empty(), "nobody has asked for long");
        // The holder registers again after it lost its scheduler; that settles nothing.
        names.given(&NodeName("n1".to_owned()), &Incarnation("i7".to_owned()));
        assert_eq!(names.list(begin + s(4)).len(), 1);
        // One of the two was stopped, and the other one has the name.
        names.given(&NodeName("n1".to_owned()), &Incarnation("i8".to_owned()));
        assert!(names.list(begin + s(4)).is_empty());
        // Another holder is looked at anew.
        refuse(8, 5, "10.0.0.7:81");
        refuse(9, 9, "10.0.0.7:81");
        assert!(names.list(begin + s(9)).is_empty());
    }

    #[test]
    fn the_names_are_bounded() {
        let (names, begin) = (Namesakes::default(), Instant::now());
        for number in 0..2 * NAMES_MAX {
            let lease = i64::try_from(number).unwrap();
            for seconds in [0, 4] {
                let now = begin + Duration::from_millis(lease.unsigned_abs()) + s(seconds);
                let look = Look { asked: now, answered: now, left: s(5) };
                names.refused(&holder(&format!("n{number}"), lease), look, "");
            }
        }
        let listed = names.list(begin + s(5));
        assert_eq!(listed.len(), NAMES_MAX);
        assert!(listed.iter().any(|one| one.node.as_str() == "n199"));
        assert!(listed.iter().all(|one| one.node.as_str() != "n0"));
    }
}
