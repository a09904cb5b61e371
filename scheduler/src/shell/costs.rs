//! What a loop has cost is told once, when its end has become durable.

use flyball_core::status::Phase;
use flyball_store::{Mutation, Store};

use crate::reactor::CommitResult;

/// Looks up what a loop has spent, if this commit is its convergence, and tells it. What cannot be read is missing in
/// the telemetry and nowhere else.
pub(super) fn tell(store: &Store, mutation: &Mutation, result: &CommitResult) {
    let Mutation::Release(release) = mutation else { return };
    let committed = matches!(result, CommitResult::Committed { .. });
    if !committed || release.status.phase != Phase::Converged {
        return;
    }
    let (store, key, uid) = (store.clone(), release.key.clone(), release.uid.clone());
    tokio::spawn(async move {
        match store.loop_budget(&key).await {
            // A loop that has called no model costs nothing, and would only hide what the others do.
            Ok(Some(found)) if found.record.uid == uid && found.account.spent.calls > 0 => {
                flyball_telemetry::record_converged(found.account.spent.money.0);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(r#loop = %key, %error, "what it has cost is not told"),
        }
    });
}
