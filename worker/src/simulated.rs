//! One life without processes, for simulations: the real session, heartbeats and bookkeeping of runs
//! over a ground, a deadline and an execution of the caller's.

use std::sync::Arc;

use flyball_core::ids::Incarnation;
use tokio::sync::watch;

pub use crate::incarnation::LifeEnd;
pub use crate::link::{Link, Refused, RunId};
pub use crate::runs::{Assignment, Stop};

use crate::config::Config;
use crate::ground::{Deadline, Execute, Ground};
use crate::incarnation::Life;
use crate::mark::Mark;
use crate::runs::Runs;
use crate::{heartbeat, session};

/// What a simulated life is made of.
pub struct Parts {
    /// As of a real worker; directories and the guard's command are not looked at.
    pub config: Arc<Config>,
    /// This life's id.
    pub id: Incarnation,
    /// An earlier life of this node of which nothing is left.
    pub replaces: Option<Incarnation>,
    /// Clock, network and chance.
    pub ground: Arc<dyn Ground>,
    /// Enforces the deadline.
    pub deadline: Arc<dyn Deadline>,
    /// Carries runs out.
    pub execute: Arc<dyn Execute>,
    /// What the runs report through.
    pub link: Arc<Link>,
}

/// Lives until the lease or the guard is lost, which `lost` tells, or the name turns out to be taken.
/// Then every run has been told to stop; whether something of it is left is the caller's to prove, as
/// it is the guard's of a real worker.
pub async fn live(parts: Parts, lost: impl Future<Output = ()>) -> LifeEnd {
    let Parts { config, id, replaces, ground, deadline, execute, link } = parts;
    let runs = Arc::new(Runs::new(execute));
    let (grant, end) = (watch::Sender::new(None), watch::Sender::new(None));
    let mark = Mark::default();
    let facts = config.facts.clone();
    let life = Life { config, id, replaces, facts, ground, deadline, link, runs, mark, grant, end };
    let life = Arc::new(life);
    let session = tokio::spawn(session::keep(life.clone()));
    let beats = tokio::spawn(beat(life.clone()));
    let end = tokio::select! {
        biased;
        end = life.ended() => end,
        () = lost => LifeEnd::GuardLost,
    };
    life.finish(end.clone());
    life.runs.end_all();
    life.link.close();
    for task in [session, beats] {
        task.abort();
        // Aborted or over; either way it is gone.
        let _ = task.await;
    }
    end
}

async fn beat(life: Arc<Life>) {
    let mut grant = life.grant.subscribe();
    let granted = grant.wait_for(Option::is_some).await.map(|grant| grant.clone());
    if let Ok(Some(granted)) = granted {
        // Not also waiting for the end: two who wait for it are woken in no certain order.
        heartbeat::beat_alone(&life, granted).await;
    }
}
