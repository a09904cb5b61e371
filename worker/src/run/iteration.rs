//! One iteration: act, snapshot, check the bounds, verify, keep or revert, record.

use flyball_core::governor::{Governor, Judgement, Next, Trial};
use flyball_core::record::{Decision, DiffStat, IterationRecord, JournalEntry};
use tracing::Instrument;

use super::Run;
use super::agent::Acted;
use super::checks::Measured;
use super::confine::Area;
use super::halt::Halt;
use super::models::Hindrance;
use super::progress;
use super::repository::Work;
use crate::git::{
    Leftovers, Oid, Place, Snapshot, check_bounds, diff_stat, ignored_dirs, real_dir,
};

/// What the agent left behind.
struct Change {
    tree: Oid,
    stat: DiffStat,
    violations: Vec<String>,
}

impl Work {
    /// Lets the agent make one change and judges it. What the governor wants next.
    pub(super) async fn iterate(
        &mut self,
        run: &mut Run,
        advice: Vec<String>,
    ) -> Result<Next, Halt> {
        let number = run.progress.iterations + 1;
        let span = tracing::info_span!(
            "iteration",
            otel.name = "iteration",
            flyball.iteration = number,
            flyball.r#loop = %run.id.key
        );
        self.iterate_once(run, number, advice).instrument(span).await
    }

    async fn iterate_once(
        &mut self,
        run: &mut Run,
        number: u32,
        advice: Vec<String>,
    ) -> Result<Next, Halt> {
        let started_at = jiff::Timestamp::now();
        let Some(agent) = run.spec.agent.clone() else {
            return Err(Halt::node_fault("the governor wants an agent where there is none"));
        };
        let before = self.measure_checkpoint(run).await?;
        run.progress.activity = "agent".to_owned();
        run.report_ahead(format!("iteration {number} begins at distance {}", before.distance))
            .await?;
        let area = self.work_area(run).await?;
        run.begin_models(&agent, number, before.distance).await?;
        // Whoever is not the owner any more lets no agent act.
        run.reported().await?;
        let acted = run.act(&agent, area, number, &before, self.advise(advice)).await?;
        run.end_iteration_models().await;
        run.progress.activity = "verifying".to_owned();
        let base_tree = self.tree_of_checkpoint(run).await?;
        let change = self.snapshot(run, &base_tree).await?;
        let after = self.verify(run, &change, &base_tree, &before, number).await?;
        let hindrance = run.hindrance(&acted);
        let before_it = run.governor.clone();
        let judged = judge(run, &base_tree, &change, &before, &after, &acted);
        if let Some(hindrance) = hindrance.as_ref().filter(|_| judged.decision != Decision::Kept)
            && take_back(run, before_it)
        {
            return Ok(Next::Stop(run.waits_for(hindrance)));
        }
        run.governor.on_counted(hindrance.is_some());
        let kept = judged.decision == Decision::Kept;
        let record = IterationRecord {
            number,
            agent: agent.name().unwrap_or_default(),
            brief_digest: acted.brief_digest,
            base_tree: base_tree.to_string(),
            result_tree: change.tree.to_string(),
            diff: change.stat,
            checks: after.checks.clone(),
            distance_before: before.distance,
            distance_after: after.distance,
            decision: judged.decision,
            reason: judged.reason,
            agent_note: acted.note,
            agent_exit: acted.exit,
            agent_run: Some(Box::new(acted.account)),
            agent_ms: acted.duration_ms,
            checks_ms: after.duration_ms,
            trace_id: trace_id(run),
            started_at: Some(started_at),
            ended_at: Some(jiff::Timestamp::now()),
            ..IterationRecord::default()
        };
        self.record(run, record, &change.tree, after).await?;
        // What was reached counts also when money or quota has ended.
        match (judged.next, run.budget_ended(), hindrance) {
            (Next::Act { .. }, _, Some(quota @ Hindrance::Quota(_))) => {
                Ok(Next::Stop(run.waits_for(&quota)))
            }
            (Next::Act { .. }, Some(parked), _) => Ok(Next::Stop(parked)),
            (Next::Act { .. }, None, Some(silent)) if !kept => {
                Ok(Next::Stop(run.waits_for(&silent)))
            }
            (next, ..) => Ok(next),
        }
    }

    /// The governor's advice, and what a moved base did to accepted work.
    fn advise(&mut self, mut advice: Vec<String>) -> Vec<String> {
        let paths = std::mem::take(&mut self.conflict);
        if !paths.is_empty() {
            advice.push(format!(
                "The base moved and conflicts with what had been accepted in {}; that work is \
                 gone and has to be done again on the new base.",
                paths.join(", ")
            ));
        }
        advice
    }

    /// The agent's worktree, made ready, and the directories in it that hold what the loop owns or what git
    /// ignores.
    async fn work_area(&self, run: &mut Run) -> Result<Area, Halt> {
        let dir = self.repo.path(Place::Work);
        let prepared = async {
            let leftovers = Leftovers::KeepIgnored;
            let found = self.repo.checkout(Place::Work, &self.checkpoint, leftovers).await?;
            self.repo.lend_git(Place::Work, &self.checkpoint).await?;
            let mut only = ignored_dirs(&self.repo, found).await?;
            only.extend(self.owns.roots().iter().map(|root| real_dir(&dir, root)));
            Ok(only)
        };
        let only = prepared.await.map_err(|error| Halt::of_git(error, &mut run.governor))?;
        Ok(Area::Work { dir, only })
    }

    async fn tree_of_checkpoint(&self, run: &mut Run) -> Result<Oid, Halt> {
        let tree = self.repo.tree_of(&self.checkpoint).await;
        tree.map_err(|error| Halt::of_git(error, &mut run.governor))
    }

    async fn snapshot(&self, run: &mut Run, base_tree: &Oid) -> Result<Change, Halt> {
        let snapshot = self.repo.snapshot(base_tree).await;
        let Snapshot { tree, changes, refused, .. } =
            snapshot.map_err(|error| Halt::of_git(error, &mut run.governor))?;
        let mut violations = refused;
        violations.extend(check_bounds(&changes, &self.owns, &self.pins, &run.spec.governor));
        Ok(Change { tree, stat: diff_stat(&changes), violations })
    }

    /// Measures the change, unless there is nothing to measure: then it is as before.
    async fn verify(
        &self,
        run: &mut Run,
        change: &Change,
        base_tree: &Oid,
        before: &Measured,
        number: u32,
    ) -> Result<Measured, Halt> {
        if !change.violations.is_empty() || change.tree == *base_tree {
            return Ok(before.clone());
        }
        self.measure_tree(run, &change.tree, number).await
    }

    /// Keeps or drops the change; in both cases the journal and then the store learn of it.
    async fn record(
        &mut self,
        run: &mut Run,
        mut record: IterationRecord,
        tree: &Oid,
        after: Measured,
    ) -> Result<(), Halt> {
        let mut kept = None;
        if record.decision == Decision::Kept {
            let message = commit_message(run, &record);
            let now = jiff::Timestamp::now();
            let parents = [self.checkpoint.clone()];
            let commit = self.repo.commit_tree(tree, &parents, &message, now).await;
            let commit = commit.map_err(|error| Halt::of_git(error, &mut run.governor))?;
            record.checkpoint = Some(commit.to_string());
            kept = Some(commit);
        }
        let event = format!("iteration {} {:?}: {}", record.number, record.decision, record.reason);
        let entry = JournalEntry::Iteration(Box::new(record.clone()));
        match &kept {
            Some(commit) => self.append_checkpoint(run, entry, commit.clone()).await?,
            None => self.append(run, entry, &[]).await?,
        }
        run.context.logs.on_recorded(&run.id, record.number);
        // Only now: a checkpoint that never reached the remote must not be restored from there.
        progress::count(&mut run.progress, &record, self.owner.token, &self.owner.node);
        if let Some(commit) = kept {
            self.checkpoint = commit;
            run.progress.failing = after.failing();
            run.cases = after.cases.clone();
            self.measured = Some(after);
        }
        run.report(event).await
    }
}

/// Takes an iteration back whose agent was stopped in the middle: like one that a lost node leaves, it is done again,
/// with what the governor knew before it. Not always: [`Governor::take_back`].
fn take_back(run: &mut Run, before: Governor) -> bool {
    let judged = std::mem::replace(&mut run.governor, before);
    let cost = run.has_cost();
    let taken_back = run.governor.take_back(cost);
    if !taken_back {
        run.governor = judged;
    }
    taken_back
}

fn judge(
    run: &mut Run,
    base_tree: &Oid,
    change: &Change,
    before: &Measured,
    after: &Measured,
    acted: &Acted,
) -> Judgement {
    // The iteration counts when the governor looks at its bounds.
    let (iterations, run_ms) = (run.progress.iterations + 1, run.run_ms());
    let trial = Trial {
        tree: change.tree.as_str(),
        base_tree: base_tree.as_str(),
        distance_before: before.distance,
        distance_after: after.distance,
        checks: &after.checks,
        diff: change.stat,
        violations: &change.violations,
        agent: &acted.end,
        hint: &acted.hint,
        iterations,
        run_ms,
    };
    run.governor.judge(&trial, rand::random_range(0.0..1.0))
}

fn commit_message(run: &Run, record: &IterationRecord) -> String {
    let what = record.agent_note.lines().next().filter(|line| !line.trim().is_empty());
    let subject = what.map_or_else(
        || format!("{}: iteration {}", run.id.key.name, record.number),
        |what| format!("{}: {}", run.id.key.name, what.trim()),
    );
    format!(
        "{subject}\n\nDistance {} -> {}.\n\nFlyball-Loop: {}\nFlyball-Iteration: {}\n",
        record.distance_before, record.distance_after, run.id.key, record.number
    )
}

/// The trace id of the run, from its `traceparent`.
fn trace_id(run: &Run) -> String {
    run.traceparent.split('-').nth(1).unwrap_or_default().to_owned()
}
