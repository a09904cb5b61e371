//! The loop in a git repository: take it over, and iterate until an outcome.

use flyball_core::governor::{Next, Observation};
use flyball_core::record::JournalEntry;
use flyball_core::resource::{PathSet, PinSet, RepoId, canonical_repo_id};
use flyball_core::spec::{GitWorkspace, LoopSpec, Owns};
use flyball_core::status::{Outcome, Phase, Reason};

use super::Run;
use super::checks::Measured;
use super::halt::Halt;
use super::ready::verified_tree;
use crate::git::{
    Journal, JournalError, Leftovers, Oid, Owner, Place, Rebased, RefUpdate, RunRepo,
};

/// Where the work comes from and goes to.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) id: RepoId,
    pub(super) url: String,
    pub(super) reference: String,
    /// Full name of the branch the result goes to; `None` for scratch work.
    pub(super) publish: Option<String>,
    /// What may be changed there.
    pub(super) owns: Vec<Owns>,
}

impl Source {
    /// Of a manifest's workspace.
    pub(super) fn of(git: &GitWorkspace, spec: &LoopSpec, name: &str) -> Result<Self, Halt> {
        let id = canonical_repo_id(&git.url)
            .map_err(|error| Halt::failed(Reason::InvalidWork, error.to_string()))?;
        let branch = git
            .publish
            .as_ref()
            .map_or_else(|| format!("flyball/{name}"), |publish| publish.branch.clone());
        let full =
            if branch.starts_with("refs/") { branch } else { format!("refs/heads/{branch}") };
        Ok(Self {
            id,
            url: git.url.clone(),
            reference: git.reference.clone(),
            publish: Some(full),
            owns: spec.owns.clone(),
        })
    }
}

/// The repository side of a run.
pub(super) struct Work {
    pub(super) source: Source,
    pub(super) repo: RunRepo,
    pub(super) journal: Journal,
    pub(super) owner: Owner,
    /// Full name of the base ref.
    pub(super) base_ref: String,
    /// The commit of it that the checkpoint builds on.
    pub(super) base: Oid,
    /// The accepted commit; the base itself before the first is accepted.
    pub(super) checkpoint: Oid,
    pub(super) owns: PathSet,
    pub(super) pins: PinSet,
    /// The base's tip as fetched for the takeover, until the first iteration has begun with it.
    pub(super) fetched: Option<Oid>,
    /// What the checks said of the checkpoint, once they were asked.
    pub(super) measured: Option<Measured>,
    /// Where this run's ref is at the remote; nowhere before the first push.
    pub(super) pushed: Option<Oid>,
    /// Paths of the accepted work that conflicted with a moved base, for the next brief.
    pub(super) conflict: Vec<String>,
    /// Refused pushes of the result, because the branch moved.
    pub(super) publish_moves: u32,
}

/// Runs the loop to its outcome.
pub(super) async fn drive(run: &mut Run, source: Source) -> Result<Outcome, Halt> {
    let mut work = Work::take_over(run, source).await?;
    let outcome = match work.published_before(run).await? {
        Some(outcome) => outcome,
        None => match work.iterate_until_outcome(run).await {
            // Cancelled or given up half-way: the journal tells that too.
            Ok(outcome) | Err(Halt::End(outcome)) => outcome,
            Err(halt) => return Err(halt),
        },
    };
    work.end(run, outcome).await
}

impl Work {
    /// After a crash between the push of the result and its report. The branch is asked as well: a
    /// git server that dies in mid-push can leave the record without the branch.
    async fn published_before(&self, run: &mut Run) -> Result<Option<Outcome>, Halt> {
        let found = self.journal.find_published(&self.checkpoint, run.generation);
        let Some(reference) = found else { return Ok(None) };
        let holds = self.repo.remote_holds(&reference, &self.checkpoint).await;
        if !holds.map_err(|error| Halt::of_git(error, &mut run.governor))? {
            return Ok(None);
        }
        run.progress.published = Some(self.checkpoint.to_string());
        run.progress.failing.clear();
        Ok(Some(super::converged(format!(
            "{} had been published to {reference} before the takeover",
            short(&self.checkpoint)
        ))))
    }

    async fn iterate_until_outcome(&mut self, run: &mut Run) -> Result<Outcome, Halt> {
        let mut decided: Option<Next> = None;
        loop {
            run.at_edge()?;
            let moved = self.follow_base(run).await?;
            let next = match decided.take() {
                Some(next) if !moved => next,
                _ => self.observe(run).await?,
            };
            match next {
                Next::Stop(outcome) => return Ok(outcome),
                Next::Verify => {
                    if let Some(outcome) = self.prove_and_publish(run).await? {
                        return Ok(outcome);
                    }
                }
                Next::Act { pause, advice } => {
                    run.pause(pause).await?;
                    decided = Some(self.iterate(run, advice).await?);
                }
            }
        }
    }

    /// Fetches the base; if it moved, carries the accepted commits over. True if anything moved.
    async fn follow_base(&mut self, run: &mut Run) -> Result<bool, Halt> {
        let governor = &mut run.governor;
        let tip = match self.fetched.take() {
            Some(tip) => Some(tip),
            None => {
                let fetched = self.repo.cache().fetch(Some(&self.base_ref), None).await;
                fetched.map_err(|error| Halt::of_git(error, governor))?.base
            }
        };
        let Some(tip) = tip.filter(|tip| *tip != self.base) else { return Ok(false) };
        if self.checkpoint == self.base {
            self.checkpoint = tip.clone();
        } else {
            let rebased = self.repo.rebase(&self.base, &self.checkpoint, &tip).await;
            match rebased.map_err(|error| Halt::of_git(error, governor))? {
                Rebased::Done { commit } => self.checkpoint = commit,
                Rebased::Conflict { paths } => {
                    // What was accepted does not fit the new base: the work starts over from it,
                    // and the agent is told.
                    self.conflict = paths;
                    self.checkpoint = tip.clone();
                }
            }
        }
        self.base = tip;
        self.measured = None;
        self.record_rebase(run).await?;
        Ok(true)
    }

    /// A moved base is measured before anything builds on it, and recorded with its distance.
    async fn record_rebase(&mut self, run: &mut Run) -> Result<(), Halt> {
        let distance = self.measure_checkpoint(run).await?.distance;
        let entry = JournalEntry::Rebased {
            base: self.base.to_string(),
            checkpoint: self.checkpoint.to_string(),
            distance,
        };
        self.append_checkpoint(run, entry, self.checkpoint.clone()).await?;
        // Only now: a checkpoint that never reached the remote must not be restored from there.
        run.progress.base = Some(self.base.to_string());
        run.progress.checkpoint =
            (self.checkpoint != self.base).then(|| self.checkpoint.to_string());
        run.progress.distance = Some(distance);
        run.progress.best_distance = Some(distance);
        run.report(format!("the base moved to {}: rebased, distance {distance}", short(&self.base)))
            .await
    }

    /// What the checks say of the checkpoint, asked at most once per checkpoint.
    pub(super) async fn measure_checkpoint(&mut self, run: &mut Run) -> Result<Measured, Halt> {
        if let Some(measured) = &self.measured {
            return Ok(measured.clone());
        }
        run.progress.activity = "observing".to_owned();
        let tree = self.verified_tree(run, &self.checkpoint.clone()).await?;
        let measured = self.measure_tree(run, &tree, run.progress.iterations).await?;
        run.cases = measured.cases.clone();
        self.measured = Some(measured.clone());
        Ok(measured)
    }

    /// The tree of a commit with pinned paths as in the base.
    pub(super) async fn verified_tree(&self, run: &mut Run, commit: &Oid) -> Result<Oid, Halt> {
        let tree = verified_tree(&self.repo, &self.pins, &self.base, commit).await;
        tree.map_err(|error| Halt::of_git(error, &mut run.governor))
    }

    /// Checks a tree out beside the agent's work and runs the checks there.
    pub(super) async fn measure_tree(
        &self,
        run: &mut Run,
        tree: &Oid,
        iteration: u32,
    ) -> Result<Measured, Halt> {
        let checkout = self.repo.checkout(Place::Verify, tree, Leftovers::KeepIgnored).await;
        checkout.map_err(|error| Halt::of_git(error, &mut run.governor))?;
        run.measure(&self.repo.path(Place::Verify), iteration, "check").await
    }

    async fn observe(&mut self, run: &mut Run) -> Result<Next, Halt> {
        let measured = self.measure_checkpoint(run).await?;
        let tree = self.verified_tree(run, &self.checkpoint.clone()).await?;
        Ok(self.decide(run, &measured, tree.as_str()))
    }

    /// Asks the governor about what was measured of the checkpoint.
    pub(super) fn decide(&self, run: &mut Run, measured: &Measured, tree: &str) -> Next {
        let progress = &mut run.progress;
        progress.initial_distance.get_or_insert(measured.distance);
        progress.distance = Some(measured.distance);
        progress.best_distance.get_or_insert(measured.distance);
        progress.failing = measured.failing();
        let (iterations, run_ms) = (progress.iterations, run.run_ms());
        run.governor.observe(&Observation {
            tree,
            distance: measured.distance,
            checks: &measured.checks,
            has_agent: run.spec.agent.is_some(),
            iterations,
            run_ms,
        })
    }

    /// Appends to the journal, moving other refs in the same push.
    pub(super) async fn append(
        &mut self,
        run: &mut Run,
        entry: JournalEntry,
        extra: &[RefUpdate],
    ) -> Result<(), Halt> {
        let appended = self.journal.append(&self.owner, entry, extra).await;
        match appended {
            // Not before: one that takes a seal and never what is larger must not be tried for ever.
            Ok(_) => run.governor.on_repository_reached(),
            Err(error) => return Err(Halt::of_journal(error, &mut run.governor)),
        }
        Ok(())
    }

    /// Appends and moves this run's ref to a checkpoint in the same push.
    pub(super) async fn append_checkpoint(
        &mut self,
        run: &mut Run,
        entry: JournalEntry,
        commit: Oid,
    ) -> Result<(), Halt> {
        let name = self.journal.refs().run(self.owner.token);
        let update = RefUpdate { name, old: self.pushed.clone(), new: commit.clone() };
        // A ref that does not move is never sent, and needs no sending.
        let moves = self.pushed.as_ref() != Some(&commit);
        self.append(run, entry, if moves { std::slice::from_ref(&update) } else { &[] }).await?;
        self.pushed = Some(commit);
        Ok(())
    }

    /// The journal's last word; the outcome stands even if it cannot be written any more.
    async fn end(&mut self, run: &mut Run, outcome: Outcome) -> Result<Outcome, Halt> {
        if !outcome.phase.is_terminal() || run.progress.published.is_some() {
            return Ok(outcome);
        }
        let entry = JournalEntry::Ended { outcome: outcome.clone() };
        match self.journal.append(&self.owner, entry, &[]).await {
            Err(error @ JournalError::Fenced { .. }) => {
                Err(Halt::of_journal(error, &mut run.governor))
            }
            Err(error) => {
                tracing::warn!(run = %run.id.key, "the journal lacks the end: {error}");
                Ok(outcome)
            }
            Ok(_) => Ok(outcome),
        }
    }
}

/// The first digits of a commit, for people.
pub(super) fn short(oid: &Oid) -> &str {
    oid.as_str().get(..10).unwrap_or(oid.as_str())
}

/// A loop that is not over keeps its phase; used where only the reason matters.
pub(super) fn parked(reason: Reason, message: String) -> Outcome {
    super::outcome(Phase::Parked, reason, message)
}
