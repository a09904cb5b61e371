//! What leases have left, for display: asked of the store, each once, together and bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Api;

/// Longest wait for all answers: a page for people comes without what is not known by then.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What a lease has left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    /// Cut to whole seconds.
    pub(super) left: Duration,
    /// For how long it was granted.
    pub(super) granted: Duration,
}

impl Left {
    /// In seconds.
    pub(super) fn seconds(self) -> i64 {
        i64::try_from(self.left.as_secs()).unwrap_or(i64::MAX)
    }
}

/// Questions under way at a time: enough for a fleet within the wait, little for the store.
const AT_A_TIME: usize = 16;

impl Api {
    /// What each lease has left; one that is gone or does not answer in time is not in the map.
    pub(super) async fn leases_left(
        &self,
        leases: impl IntoIterator<Item = i64>,
    ) -> BTreeMap<i64, Left> {
        let leases: BTreeSet<i64> = leases.into_iter().collect();
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        let mut asked = JoinSet::new();
        for lease in leases {
            let (store, turns) = (self.store.clone(), turns.clone());
            asked.spawn(async move {
                // Never closed.
                let _turn = turns.acquire().await;
                let times = store.lease_times(lease).await.ok().flatten();
                (lease, times.map(|(left, granted)| Left { left, granted }))
            });
        }
        let mut known = BTreeMap::new();
        let all = async {
            while let Some(answer) = asked.join_next().await {
                if let Ok((lease, Some(left))) = answer {
                    known.insert(lease, left);
                }
            }
        };
        // Late answers are dropped with the tasks.
        let _ = tokio::time::timeout(WAIT_MAX, all).await;
        known
    }
}
