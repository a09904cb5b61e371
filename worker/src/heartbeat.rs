//! Heartbeats: a thread of their own with a runtime and a connection of their own, so that no load
//! of agents or streams delays them. Every answer moves the guard's deadline, counted from the
//! moment the heartbeat was sent.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::lease::{Answer, Ended, LeaseClock, Renewal};
use flyball_core::planted::{self, Bug};
use flyball_proto::transport::Connection;
use flyball_proto::v1::HeartbeatRequest;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_sandbox::raise_priority;

use crate::incarnation::{Grant, Life, LifeEnd};

/// Starts the thread once the lease is granted. It ends with the life.
pub(crate) fn start(life: Arc<Life>, grant: Grant) -> std::io::Result<()> {
    if planted::is(Bug::KeepaliveStarved) {
        tokio::spawn(async move { beat(&life, grant).await });
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
        if !raise_priority() {
            tracing::debug!("heartbeats have no higher priority on this host");
        }
        runtime.block_on(beat(&life, grant));
    })?;
    Ok(())
}

/// Beats until it has ended the life; whoever waits for that stops it.
pub(crate) async fn beat_alone(life: &Life, grant: Grant) {
    life.finish(Heart::new(life, grant).beat().await);
}

/// Beats until the life ends, or ends it.
pub(crate) async fn beat(life: &Life, grant: Grant) {
    let mut ended = life.end.subscribe();
    let mut heart = Heart::new(life, grant);
    tokio::select! {
        biased;
        _ = ended.wait_for(Option::is_some) => {}
        end = heart.beat() => life.finish(end),
    }
}

struct Heart<'a> {
    life: &'a Life,
    lease: i64,
    ttl: Duration,
    clock: LeaseClock,
    tries: u64,
    /// Which of the schedulers is used; moves on when one does not answer.
    at: usize,
    connection: Option<SessionsClient<Connection>>,
    /// The reading of the node's identity that the connection was made with.
    shown: u64,
}

impl<'a> Heart<'a> {
    fn new(life: &'a Life, grant: Grant) -> Self {
        let ttl = Duration::from_secs(u64::try_from(grant.ttl_seconds).unwrap_or(0));
        Self {
            life,
            lease: grant.lease,
            ttl,
            clock: grant.clock,
            tries: 0,
            at: 0,
            connection: None,
            shown: 0,
        }
    }

    async fn beat(&mut self) -> LifeEnd {
        loop {
            let sent = self.life.ground.boottime();
            if let Some(ended) = self.clock.on_time(sent) {
                return LifeEnd::LeaseLost(ended.to_string());
            }
            self.tries += 1;
            self.clock.on_sent(self.tries, sent);
            let answer = self.ask().await;
            match self.clock.on_answer(self.tries, answer, self.life.ground.boottime()) {
                Renewal::Extended(deadline) if !self.life.deadline.extend(deadline) => {
                    return LifeEnd::LeaseLost("the guard's deadline had passed".to_owned());
                }
                Renewal::Extended(_) => {}
                Renewal::Kept(_) => {}
                Renewal::Ended(ended) => {
                    if ended == Ended::Expired && matches!(answer, Answer::Renewed { .. }) {
                        tracing::warn!(
                            "a renewal was answered after the deadline and does not count"
                        );
                    }
                    return LifeEnd::LeaseLost(ended.to_string());
                }
            }
            tokio::time::sleep(self.life.ground.boottime().until(self.next(sent, answer))).await;
        }
    }

    /// After a renewal a third of the TTL; after a failure sooner, on another scheduler.
    fn next(
        &self,
        sent: flyball_core::lease::BootInstant,
        answer: Answer,
    ) -> flyball_core::lease::BootInstant {
        match answer {
            Answer::Renewed { .. } => LeaseClock::next_try(sent, self.ttl),
            Answer::Lost | Answer::Unknown => self.life.ground.boottime() + self.ttl / 20,
        }
    }

    /// One try, bounded so that others fit before the deadline, on other schedulers if there are any.
    async fn ask(&mut self) -> Answer {
        let share = if self.life.config.schedulers.len() > 1 { 6 } else { 3 };
        let answer = tokio::time::timeout(self.ttl / share, self.ask_once()).await;
        match answer.unwrap_or(Answer::Unknown) {
            Answer::Unknown => {
                self.connection = None;
                self.at += 1;
                Answer::Unknown
            }
            sure => sure,
        }
    }

    async fn ask_once(&mut self) -> Answer {
        let config = &self.life.config;
        // A renewed certificate is shown before the old one ends, not after an answer was missed.
        let newest = config.credential.identity().map_or(0, |one| one.current().generation);
        if self.connection.is_none() || newest != self.shown {
            self.shown = newest;
            let address = &config.schedulers[self.at % config.schedulers.len()];
            match self.life.ground.connect(address, config.credential.clone()).await {
                Ok(connection) => self.connection = Some(SessionsClient::new(connection)),
                Err(_) => return Answer::Unknown,
            }
        }
        let Some(connection) = &mut self.connection else { return Answer::Unknown };
        let request = HeartbeatRequest {
            node: config.node.to_string(),
            incarnation: self.life.id.to_string(),
            lease_id: self.lease,
            token_mark: self.life.mark.token(),
        };
        match connection.heartbeat(request).await {
            Ok(answer) => Answer::Renewed { ttl_seconds: answer.into_inner().ttl_seconds },
            // Only the store's own word that the lease is gone comes as NOT_FOUND.
            Err(status) if status.code() == tonic::Code::NotFound => Answer::Lost,
            Err(_) => Answer::Unknown,
        }
    }
}
