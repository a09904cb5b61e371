//! A push that is under way when its run has lost its claim: the next owner's seal has to shut it out.

use std::time::Duration;

use crate::stage::{Stage, key};
use crate::traps::Then;
use crate::view::Revoke;

/// How a loop goes whose run cannot be asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Cancelled,
    Deleted,
}

/// A run's node is lost with a push under way, and its user gives the loop up. Who owns the same files next
/// seals the journal of a loop that is over, or gone.
pub(crate) async fn left_behind(stage: &Stage, left: Left) -> Result<(), String> {
    let (leader, _) = stage.leaders().await?;
    let uid = stage.submit(leader, "a", &["a/**"], Some("w1")).await;
    let push = stage.trap_push(Then::Wait, "iteration", &uid);
    stage.until("the push", |_| push.caught() > 0).await?;
    stage.begins("a push is late, its node is lost, its loop given up");
    stage.cut_worker("w1");
    match left {
        Left::Cancelled => {
            stage.cancel("a").await;
            let is_over = |view: &crate::view::View| {
                view.is_over(&key("a")) && !view.claims.contains_key(&key("a"))
            };
            stage.until("its end", is_over).await?;
        }
        Left::Deleted => {
            stage.delete("a").await;
            stage.until("its removal", |view| view.removed.contains(&key("a"))).await?;
        }
    }
    let next = stage.submit(leader, "b", &["a/b/**"], Some("w2")).await;
    stage.until("the next owner's takeover", |view| view.has_pushed(&next)).await?;
    push.open();
    stage.until("the late push's answer", |_| push.done() > 0).await
}

/// A run's node is lost with a push under way; the loop goes on elsewhere, and is cancelled before it has
/// done anything there. Its takeover must have shut the push out all the same.
pub(crate) async fn taken_over(stage: &Stage) -> Result<(), String> {
    let (leader, _) = stage.leaders().await?;
    let uid = stage.submit(leader, "a", &["a/**"], None).await;
    let push = stage.trap_push(Then::Wait, "iteration", &uid);
    stage.until("the push", |_| push.caught() > 0).await?;
    let first = stage.site.view().claims.get(&key("a")).cloned().ok_or("no claim")?;
    stage.begins("a push is late and its node is lost");
    stage.cut_worker(stage.worker(&first.node)?);
    let goes_on = |view: &crate::view::View| {
        let again = view.claims.get(&key("a")).is_some_and(|claim| claim.token > first.token);
        again && view.running.contains(&key("a"))
    };
    stage.until("its run elsewhere", goes_on).await?;
    stage.cancel("a").await;
    let is_over =
        |view: &crate::view::View| view.is_over(&key("a")) && !view.claims.contains_key(&key("a"));
    stage.until("its end", is_over).await?;
    let next = stage.submit(leader, "b", &["a/b/**"], None).await;
    stage.until("the next owner's takeover", |view| view.has_pushed(&next)).await?;
    push.open();
    stage.until("the late push's answer", |_| push.done() > 0).await
}

/// A run's takeover is under way when the store ends its lease; it hears that the journal has moved on, by
/// somebody with a later token, and must not append to that.
pub(crate) async fn late_takeover(stage: &Stage) -> Result<(), String> {
    let (leader, _) = stage.leaders().await?;
    let push = stage.trap_push(Then::Wait, "takeover", "");
    let uid = stage.submit(leader, "a", &["a/**"], None).await;
    stage.until("the takeover", |_| push.caught() > 0).await?;
    let first = stage.site.view().claims.get(&key("a")).cloned().ok_or("no claim")?;
    stage.begins("a takeover is late and its lease revoked");
    let node = stage.worker(&first.node)?;
    stage.cut_worker(node);
    stage.revoke(Revoke::Node(node.to_owned()));
    stage.until("the takeover elsewhere", |view| view.has_pushed(&uid)).await?;
    push.open();
    stage.until("the late takeover's answer", |_| push.done() > 0).await?;
    // For whatever the late one does next, while it believes that it owns the loop.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}
