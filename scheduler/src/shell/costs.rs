//! What a loop has cost is told when its end has become durable, by whoever has marked it as told before: never twice,
//! and by the next leader where the last one died before.

use flyball_core::ambient::Ambient;
use flyball_core::ids::{LoopKey, LoopUid};
use flyball_core::status::Phase;
use flyball_store::{Leadership, Mutation, Store, StoreError};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::reactor::CommitResult;

/// How long ago a loop may have converged for a new leader to look whether that was told: longer than any election, and
/// short enough that an upgrade from a version without the mark does not tell of all loops again.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(1);

/// Tells what a loop has cost, if this commit is its convergence.
pub(super) fn tell(store: &Store, mutation: &Mutation, result: &CommitResult) {
    let Mutation::Release(release) = mutation else { return };
    let committed = matches!(result, CommitResult::Committed { .. });
    if !committed || release.status.phase != Phase::Converged {
        return;
    }
    let (store, key, uid) = (store.clone(), release.key.clone(), release.uid.clone());
    tokio::spawn(async move { tell_of(&store, &key, &uid).await });
}

/// Tells what a loop has cost since that was last told. A loop that has called no model costs nothing, and would only
/// hide what the others do. What cannot be marked is missing in the telemetry and nowhere else.
async fn tell_of(store: &Store, key: &LoopKey, uid: &LoopUid) {
    match store.mark_told(key, uid).await {
        Ok(Some(cost)) => flyball_telemetry::record_converged(cost.money.0),
        Ok(None) => {}
        Err(error) => tracing::debug!(r#loop = %key, %error, "what it has cost is not told"),
    }
}

/// At the begin of each of this scheduler's terms, tells what the last leader did not come to tell.
pub(crate) async fn at_each_term(
    store: Store,
    mut leadership: watch::Receiver<Option<Leadership>>,
    ambient: Ambient,
) {
    while leadership.changed().await.is_ok() {
        let leads = leadership.borrow_and_update().is_some();
        if leads && let Err(error) = tell_the_rest(&store, ambient.now()).await {
            tracing::debug!(%error, "what loops have cost that converged before is not told");
        }
    }
}

async fn tell_the_rest(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let accounts = store.list_loop_accounts("").await?;
    for (key, account) in accounts.into_iter().filter(|(_, one)| one.told.calls < one.spent.calls) {
        let Some((_, Some(status))) = store.get_loop(&key).await? else { continue };
        let status = status.value;
        let lately = |ended: Timestamp| now.duration_since(ended) < LOOK_BACK;
        if status.phase == Phase::Converged && status.finished_at.is_some_and(lately) {
            tell_of(store, &key, &account.uid).await;
        }
    }
    Ok(())
}
