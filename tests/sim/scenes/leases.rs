//! Answers to heartbeats that come late: how long a worker may rely on its lease follows from when it asked.

use std::time::Duration;

use crate::site::TTL;
use crate::stage::{Stage, key};
use crate::traps::{Then, Trap};

/// A heartbeat's answer comes as late as it is waited for, and it is the last one. The lease ends a time to
/// live after it was asked for.
pub(crate) async fn answered_late(stage: &Stage) -> Result<(), String> {
    at_work(stage).await?;
    stage.begins("an answer is late, and no more heartbeats arrive");
    let late = stage.trap_heartbeats(Then::AnswerLater, 1, "w1");
    stage.until("a heartbeat", |_| late.done() > 0).await?;
    // Each of two schedulers is waited for a sixth of the time to live.
    tokio::time::sleep(TTL / 6 - Duration::from_millis(60)).await;
    last_answer(stage, &late).await
}

/// Heartbeats are unanswered until the deadline has passed; then the last one's answer comes, before the
/// guard has killed.
pub(crate) async fn answered_too_late(stage: &Stage) -> Result<(), String> {
    at_work(stage).await?;
    stage.begins("an answer comes after the deadline");
    let last = stage.trap_heartbeats(Then::AnswerLater, 1, "w1");
    stage.until("a heartbeat", |_| last.done() > 0).await?;
    let late = stage.trap_heartbeats(Then::AnswerLater, usize::MAX, "w1");
    last.open();
    // From when the last good one was sent: the time to live without the kill budget and the drift that is
    // allowed for, and half of what the guard lags behind.
    let deadline = TTL - crate::site::KILL_BUDGET - Duration::from_millis(80);
    tokio::time::sleep(deadline + Duration::from_millis(180)).await;
    let asked = late.caught();
    late.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    if asked < 2 { Err(format!("{asked} heartbeats were under way")) } else { Ok(()) }
}

/// The link breaks right after an answer for which nothing was renewed, if there is such a one.
pub(crate) async fn not_renewed(stage: &Stage) -> Result<(), String> {
    at_work(stage).await?;
    let renewals = stage.trap_store(
        Then::Count,
        usize::MAX,
        crate::surgeon::KEEP_ALIVE,
        None,
        stage.site.view().renewal_of("w1"),
    );
    stage.begins("no more heartbeats arrive");
    let mut before = renewals.caught();
    for _ in 0..4 {
        let one = stage.trap_heartbeats(Then::AnswerLater, 1, "w1");
        stage.until("a heartbeat", |_| one.done() > 0).await?;
        let unfounded = renewals.caught() == before;
        before = renewals.caught();
        if unfounded {
            return last_answer(stage, &one).await;
        }
        one.open();
    }
    let one = stage.trap_heartbeats(Then::AnswerLater, 1, "w1");
    stage.until("a heartbeat", |_| one.done() > 0).await?;
    last_answer(stage, &one).await?;
    if before < 4 { Err(format!("{before} renewals were seen")) } else { Ok(()) }
}

/// The agent of a loop is at work on w1, and will be for long.
async fn at_work(stage: &Stage) -> Result<(), String> {
    let (leader, _) = stage.leaders().await?;
    let uid = stage.submit(leader, "a", &["a/**"], Some("w1")).await;
    stage.until("its run", |view| view.has_pushed(&uid) && view.running.contains(&key("a"))).await
}

/// This answer is the last that w1 hears, until its lease has ended and for a while after.
async fn last_answer(stage: &Stage, answer: &Trap) -> Result<(), String> {
    let lease = stage.site.view().sessions.get("w1").copied();
    stage.trap_heartbeats(Then::Lose, usize::MAX, "w1");
    answer.open();
    // What is under way is lost with the link, so it has to be there before.
    tokio::time::sleep(Duration::from_millis(30)).await;
    stage.cut_worker("w1");
    stage.until("the lease's end", |view| view.sessions.get("w1").copied() != lease).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(())
}
