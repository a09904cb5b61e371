//! A simulated run: what the product's runs do at the journal and tell the scheduler, without processes.
//! Seal what is unsealed, take over, iterate, publish, end.

use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::{InstallationId, Token};
use flyball_core::planted::{self, Bug};
use flyball_core::status::{Outcome, Phase, Progress, Reason};
use flyball_proto::v1::LogRequest;
use flyball_tests::history::Event;
use flyball_worker::ground::{Boxed, Execute};
use flyball_worker::simulated::{Assignment, Link, RunId, Stop};
use tokio::sync::watch;

use crate::chance::Chance;
use crate::git::{self, Answer, Call};
use crate::guard::Guard;
use crate::journal::{Journal, Refused};
use crate::site::Site;

/// Between two signs of life of an agent.
const BEAT: Duration = Duration::from_millis(40);

/// Carries out the runs of one life.
pub(crate) struct Runs {
    pub(crate) site: Arc<Site>,
    pub(crate) node: String,
    pub(crate) guard: Arc<Guard>,
    pub(crate) link: Arc<Link>,
    pub(crate) chance: Arc<Chance>,
}

impl Execute for Runs {
    fn execute(
        &self,
        assignment: Assignment,
        stop: watch::Receiver<Stop>,
        _: InstallationId,
    ) -> Boxed<'static, ()> {
        let killed = self.guard.killed();
        self.guard.on_run(assignment.id.token.0);
        let run = Run {
            site: self.site.clone(),
            node: self.node.clone(),
            link: self.link.clone(),
            chance: self.chance.clone(),
            id: assignment.id.clone(),
            progress: assignment.progress.clone(),
            stop,
        };
        Box::pin(async move {
            tokio::select! {
                biased;
                () = killed => {}
                () = run.live(assignment) => {}
            }
        })
    }

    fn on_broken(&self, run: &RunId, error: &str) {
        panic!("a simulated run broke: {run:?}: {error}");
    }

    fn serve_logs(
        &self,
        _: LogRequest,
        _: Box<dyn Fn() -> Option<Token> + Send + Sync>,
    ) -> Boxed<'static, ()> {
        Box::pin(async {})
    }
}

struct Run {
    site: Arc<Site>,
    node: String,
    link: Arc<Link>,
    chance: Arc<Chance>,
    id: RunId,
    progress: Progress,
    stop: watch::Receiver<Stop>,
}

/// Why a run stops early.
enum Halt {
    /// With an outcome.
    End(Outcome),
    /// Without a word: somebody else owns the loop.
    Silent,
}

impl From<Refused> for Halt {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Fenced => Self::Silent,
            Refused::Unknown => {
                let outcome = outcome(Phase::Parked, Reason::Backoff, "the repository is away");
                Self::End(Outcome { retry_after_ms: 500, ..outcome })
            }
        }
    }
}

impl Run {
    async fn live(mut self, assignment: Assignment) {
        let outcome = match self.drive(assignment).await {
            Ok(outcome) | Err(Halt::End(outcome)) => outcome,
            Err(Halt::Silent) => return,
        };
        // Refused only if this worker is not the owner any more.
        let _ = self.link.ended(&self.id, &self.progress, &outcome, true).await;
    }

    async fn drive(&mut self, assignment: Assignment) -> Result<Outcome, Halt> {
        let (uid, token) = (self.id.uid.to_string(), self.id.token.0);
        let chance = self.chance.clone();
        for other in assignment.unsealed.iter().filter(|other| other.loop_uid != self.id.uid) {
            let sealed = match Journal::open(other.loop_uid.as_str(), token, &chance).await {
                Ok(mut journal) => journal.seal("sealed-by-other").await,
                Err(refused) => Err(refused),
            };
            // Sealed by somebody later is as good.
            if let Err(Refused::Unknown) = sealed {
                return Err(Refused::Unknown.into());
            }
        }
        let mut journal = Journal::open(&uid, token, &chance).await?;
        if !planted::is(Bug::NoSeal) {
            journal.seal("takeover").await?;
        }
        self.report("takes over").await?;
        // How much work there is follows from the loop alone.
        let wanted = 2 + self.id.key.name.len() % 3;
        while journal.count("iteration") < wanted {
            self.at_edge()?;
            self.act().await?;
            let commit = format!("{uid}.{}", journal.count("iteration") + 1);
            journal.append("iteration", &commit, None).await?;
            self.progress.iterations += 1;
            self.progress.accepted += 1;
            self.progress.checkpoint = Some(commit);
            self.report("keeps an iteration").await?;
        }
        self.at_edge()?;
        self.publish(&mut journal).await
    }

    /// The agent is at work.
    async fn act(&mut self) -> Result<(), Halt> {
        let drawn = self.chance.between(4, 40);
        let beats = self.site.shape.beats.unwrap_or(drawn);
        for _ in 0..beats {
            self.site.saw(Event::Alive {
                uid: self.id.uid.to_string(),
                token: self.id.token.0,
                node: self.node.clone(),
                pid: 1,
            });
            tokio::time::sleep(BEAT).await;
            if *self.stop.borrow() >= Stop::Evict {
                self.at_edge()?;
            }
        }
        Ok(())
    }

    async fn publish(&mut self, journal: &mut Journal<'_>) -> Result<Outcome, Halt> {
        let commit = journal.checkpoint();
        let branch = format!("refs/heads/flyball/{}", self.id.key.name);
        if journal.count("published") == 0 {
            let read = Call::Read { uid: self.id.uid.to_string() };
            let Some(Answer::Journal { branches, .. }) = git::call(&read).await else {
                return Err(Refused::Unknown.into());
            };
            let moves = (branch.clone(), branches.get(&branch).cloned(), commit.clone());
            journal.append("published", &commit, Some(moves)).await?;
        }
        self.progress.published = Some(commit);
        Ok(outcome(Phase::Converged, Reason::None, "published"))
    }

    fn at_edge(&self) -> Result<(), Halt> {
        match *self.stop.borrow() {
            Stop::No => Ok(()),
            Stop::Drain | Stop::Evict => {
                Err(Halt::End(outcome(Phase::Pending, Reason::Drained, "goes on elsewhere")))
            }
            Stop::Cancel => Err(Halt::End(outcome(Phase::Cancelled, Reason::ByUser, "cancelled"))),
            Stop::Lost => Err(Halt::Silent),
        }
    }

    async fn report(&self, event: &str) -> Result<(), Halt> {
        let report = self.link.update(&self.id, &self.progress, event.to_owned());
        report.await.map_err(|_| Halt::Silent)
    }
}

fn outcome(phase: Phase, reason: Reason, message: &str) -> Outcome {
    Outcome {
        phase,
        reason,
        message: message.to_owned(),
        evidence: Vec::new(),
        retry_after_ms: 0,
        need: None,
    }
}
