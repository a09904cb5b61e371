//! From which nodes this scheduler hears: when it last renewed each one's lease, and which of them the leader asks
//! for (see [`super::prober`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flyball_core::ids::NodeName;
use flyball_store::{SessionRecord, Snapshot, Stored};
use tokio::time::Instant;

/// What is known here. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// The lease that was renewed last, and when. About as many as there are sessions: a renewal that was under way as its
    /// session ended leaves one until the next listing.
    renewed: BTreeMap<NodeName, (i64, Instant)>,
    /// Questions that stand, with the revisions that they were put at.
    questions: BTreeMap<NodeName, Stored<SessionRecord>>,
}

impl Heard {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change is one call, so a panic elsewhere leaves the maps whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's lease was renewed just now; answers the revision of the question that this answers, if one stands.
    pub(crate) fn renewed(&self, node: &NodeName, lease: i64) -> Option<i64> {
        let mut kept = self.lock();
        kept.renewed.insert(node.clone(), (lease, Instant::now()));
        let question = kept.questions.get(node).filter(|asked| asked.value.lease == lease);
        question.map(|asked| asked.mod_revision)
    }

    /// When this lease of the node was last renewed here.
    pub(crate) fn last(&self, node: &NodeName, lease: i64) -> Option<Instant> {
        self.lock().renewed.get(node).filter(|(known, _)| *known == lease).map(|(_, at)| *at)
    }

    pub(crate) fn on_snapshot(&self, snapshot: &Snapshot) {
        let mut kept = self.lock();
        kept.questions = snapshot.probes.iter().cloned().collect();
        let sessions: BTreeMap<_, _> =
            snapshot.sessions.iter().map(|(name, found)| (name, found.value.lease)).collect();
        kept.renewed.retain(|name, (lease, _)| sessions.get(name) == Some(lease));
    }

    pub(crate) fn on_probe(&self, node: &NodeName, question: Option<&Stored<SessionRecord>>) {
        let mut kept = self.lock();
        match question {
            Some(question) => kept.questions.insert(node.clone(), question.clone()),
            None => kept.questions.remove(node),
        };
    }

    /// The node's session is over.
    pub(crate) fn forget(&self, node: &NodeName) {
        self.lock().renewed.remove(node);
    }
}
