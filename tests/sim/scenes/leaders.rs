//! Schedulers that do not know what they have to know: a deposed one, one that begins, one whose commit was
//! not answered.

use std::time::Duration;

use crate::stage::{Stage, key};
use crate::surgeon::{RANGE, TXN, WATCH};
use crate::traps::Then;
use crate::view::{Revoke, View};

/// A leader's last assignment is under way while it is deposed. The next leader, to which the assignment's
/// node has not come yet, gives away what overlaps; then the old assignment arrives.
pub(crate) async fn two_leaders(stage: &Stage, owns: [&[&str]; 2]) -> Result<(), String> {
    let (old, new) = stage.leaders().await?;
    nodes(stage).await?;
    let late = stage.trap_store(Then::Wait, 1, TXN, Some(old), claim("b"));
    stage.submit(old, "b", owns[1], Some("w1")).await;
    stage.until("the assignment", |_| late.caught() > 0).await?;
    stage.begins("an assignment is late and its leader deposed");
    let absent = stage.trap_attach(Then::Lose, "w1", new);
    stage.cut(old, "etcd");
    let leads = |view: &View| view.leader.as_ref().is_some_and(|it| it.0 == new);
    stage.until("the next leader", leads).await?;
    stage.submit(new, "a", owns[0], Some("w2")).await;
    stage.until("its assignment", |view| view.claims.contains_key(&key("a"))).await?;
    late.open();
    stage.until("the late assignment's end", |_| late.done() > 0).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    absent.open();
    Ok(())
}

/// A scheduler whose watch lags becomes the leader and is submitted a loop, before its listing is there. What
/// overlaps was given away meanwhile.
pub(crate) async fn behind(stage: &Stage) -> Result<(), String> {
    let (old, new) = stage.leaders().await?;
    nodes(stage).await?;
    stage.begins("a scheduler lags behind and becomes the leader");
    let watch = stage.trap_store(Then::Wait, usize::MAX, WATCH, Some(new), Vec::new());
    stage.submit(old, "a", &["a/**"], Some("w1")).await;
    stage.until("the assignment", |view| view.claims.contains_key(&key("a"))).await?;
    stage.submit(new, "b", &["a/b/**"], Some("w2")).await;
    let list = stage.trap_store(Then::Wait, usize::MAX, RANGE, Some(new), whole_state());
    stage.crash(old);
    stage.revoke(Revoke::Leader);
    let leads = |view: &View| view.leader.as_ref().is_some_and(|it| it.0 == new);
    stage.until("the next leader", leads).await?;
    let given = |view: &View| view.claims.contains_key(&key("b"));
    // Only a leader that does not wait for its listing gives it.
    stage.within(Duration::from_secs(4), given).await;
    let waited = list.caught();
    watch.open();
    list.open();
    if waited == 0 { Err("no listing was asked for".to_owned()) } else { Ok(()) }
}

/// A scheduler starts while another leads, and its first listing is answered late: by then it leads itself, and
/// what overlaps has been given away, to a node that it does not list either and so does not wait for. It asked for
/// no revision, so only the leader's own look at the answer's tells that it is too old.
pub(crate) async fn listed_before(stage: &Stage) -> Result<(), String> {
    let (old, new) = stage.leaders().await?;
    nodes(stage).await?;
    stage.begins("a scheduler starts, leads, and hears what was so before");
    stage.crash(new);
    ["w1", "w2"].into_iter().for_each(|node| stage.crash(node));
    let gone = |view: &View| ["w1", "w2"].iter().all(|node| !view.sessions.contains_key(*node));
    stage.until("the end of both sessions", gone).await?;
    stage.submit(old, "b", &["a/b/**"], Some("w2")).await;
    let watch = stage.trap_store(Then::Wait, usize::MAX, WATCH, Some(new), Vec::new());
    let list = stage.trap_store(Then::AnswerLater, 1, RANGE, Some(new), whole_state());
    stage.bounce(new);
    stage.until("the first listing", |_| list.done() > 0).await?;
    stage.bounce("w1");
    stage.submit(old, "a", &["a/**"], Some("w1")).await;
    stage.until("the assignment", |view| view.claims.contains_key(&key("a"))).await?;
    stage.crash(old);
    stage.revoke(Revoke::Leader);
    let leads = |view: &View| view.leader.as_ref().is_some_and(|it| it.0 == new);
    stage.until("the next leader", leads).await?;
    let again = stage.trap_store(Then::Wait, usize::MAX, RANGE, Some(new), whole_state());
    list.open();
    stage.bounce("w2");
    let given = |view: &View| view.claims.contains_key(&key("b"));
    // Only a leader that takes the first listing for the present gives it, and has w2 attach at all.
    stage.within(Duration::from_secs(4), given).await;
    let asked = again.caught();
    watch.open();
    again.open();
    if asked == 0 { Err("no other listing was asked for".to_owned()) } else { Ok(()) }
}

/// An assignment is done and its answer lost, and the watch lags: before it is read back, what overlaps must
/// wait.
pub(crate) async fn unanswered(stage: &Stage) -> Result<(), String> {
    let (leader, _) = stage.leaders().await?;
    nodes(stage).await?;
    stage.begins("an assignment's answer is lost and the watch lags");
    let watch = stage.trap_store(Then::Wait, usize::MAX, WATCH, Some(leader), Vec::new());
    let lost = stage.trap_store(Then::LoseAnswer, 1, TXN, Some(leader), claim("a"));
    stage.submit(leader, "a", &["a/**"], Some("w1")).await;
    stage.until("the assignment", |_| lost.done() > 0).await?;
    stage.submit(leader, "b", &["a/b/**"], Some("w2")).await;
    lost.open();
    let given = |view: &View| view.claims.contains_key(&key("b"));
    stage.within(Duration::from_secs(2), given).await;
    watch.open();
    Ok(())
}

/// Waits until all nodes have sessions, and the leader knows them.
async fn nodes(stage: &Stage) -> Result<(), String> {
    stage.until("all nodes", |view| view.sessions.len() == crate::WORKERS.len()).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// What a transaction has that makes this loop's claim.
fn claim(name: &str) -> Vec<u8> {
    format!("/flyball/v1/claims/default/{name}").into_bytes()
}

/// What a request has that lists everything: the first key, and then the end of the range.
fn whole_state() -> Vec<u8> {
    let prefix = b"/flyball/v1/";
    let mut message = vec![1 << 3 | 2, u8::try_from(prefix.len()).expect("short")];
    message.extend(prefix);
    message.push(2 << 3 | 2);
    message
}
