//! The proof in a fresh clone, and publishing by compare-and-swap.

use flyball_core::governor::{Next, Proof};
use flyball_core::quantity::Distance;
use flyball_core::record::JournalEntry;
use flyball_core::status::{Outcome, Reason};

use super::Run;
use super::halt::Halt;
use super::repository::{Work, parked, short};
use crate::git::{GitError, JournalError, Oid, RefUpdate};

/// Refused pushes of the result until the loop pauses: each means that somebody else published in
/// the seconds between our fetch and our push.
const PUBLISH_MOVES_MAX: u32 = 10;
/// Pause before a publish branch that is somebody else's is looked at again.
const BRANCH_RETRY_MS: u64 = 300_000;
/// Pause after that.
const PUBLISH_RETRY_MS: u64 = 5_000;

impl Work {
    /// Runs the checks in a fresh clone of the checkpoint and publishes it if they pass. `None`
    /// when the loop has to go on: the proof failed, or the branch moved.
    pub(super) async fn prove_and_publish(
        &mut self,
        run: &mut Run,
    ) -> Result<Option<Outcome>, Halt> {
        run.progress.activity = "proving".to_owned();
        let tree = self.verified_tree(run, &self.checkpoint.clone()).await?;
        let clone = self.repo.final_clone(&self.checkpoint, &tree).await;
        let clone = clone.map_err(|error| Halt::of_git(error, &mut run.governor))?;
        let proof = run.measure(&clone, run.progress.iterations, "proof").await?;
        let zero = proof.distance.is_zero();
        let verdict = run.governor.prove(
            &Proof {
                tree: tree.as_str(),
                distance: proof.distance,
                checks: &proof.checks,
                iterations: run.progress.iterations,
                run_ms: run.run_ms(),
            },
            rand::random_range(0.0..1.0),
        );
        match verdict {
            Next::Stop(proven) if zero => self.publish_if_changed(run, proven).await,
            Next::Stop(outcome) => Ok(Some(outcome)),
            Next::Verify => Ok(None),
            Next::Act { pause, .. } => {
                // It passed only beside build output of earlier iterations. What it is worth
                // without is what counts from here on.
                run.progress.distance = Some(proof.distance);
                run.progress.best_distance = Some(proof.distance);
                run.progress.failing = proof.failing();
                self.measured = Some(proof);
                run.report("the checks fail in a fresh clone".to_owned()).await?;
                run.pause(pause).await?;
                Ok(None)
            }
        }
    }

    async fn publish_if_changed(
        &mut self,
        run: &mut Run,
        mut proven: Outcome,
    ) -> Result<Option<Outcome>, Halt> {
        run.progress.failing.clear();
        run.progress.distance = Some(Distance::ZERO);
        match self.source.publish.clone() {
            Some(reference) if self.checkpoint != self.base => {
                self.publish(run, reference, proven).await
            }
            Some(_) => {
                proven.message += "; nothing to publish";
                Ok(Some(proven))
            }
            None => Ok(Some(proven)),
        }
    }

    async fn publish(
        &mut self,
        run: &mut Run,
        reference: String,
        mut proven: Outcome,
    ) -> Result<Option<Outcome>, Halt> {
        run.progress.activity = "publishing".to_owned();
        let old = match self.expected(run, &reference).await? {
            Ok(old) => old,
            Err(held) => return Ok(Some(held)),
        };
        let commit = self.checkpoint.clone();
        let entry =
            JournalEntry::Published { commit: commit.to_string(), reference: reference.clone() };
        let update = RefUpdate { name: reference.clone(), old, new: commit.clone() };
        match self.journal.append(&self.owner, entry, &[update]).await {
            Ok(_) => {
                run.progress.published = Some(commit.to_string());
                let branch = reference.trim_start_matches("refs/heads/");
                proven.message += &format!("; published {} to {branch}", short(&commit));
                Ok(Some(proven))
            }
            Err(JournalError::PublishMoved { .. }) => self.on_publish_moved(run, &reference).await,
            Err(error) => Err(Halt::of_journal(error, &mut run.governor)),
        }
    }

    async fn on_publish_moved(
        &mut self,
        run: &mut Run,
        reference: &str,
    ) -> Result<Option<Outcome>, Halt> {
        self.publish_moves += 1;
        if self.publish_moves >= PUBLISH_MOVES_MAX {
            let message = format!(
                "PublishMoved: {reference} moved {} times during a push",
                self.publish_moves
            );
            return Err(Halt::backoff(message, PUBLISH_RETRY_MS));
        }
        run.report(format!("{reference} moved: observing again on its new tip")).await?;
        Ok(None)
    }

    /// Where the publish branch must be for the push to be right, or why nothing may be pushed.
    async fn expected(
        &self,
        run: &mut Run,
        reference: &str,
    ) -> Result<Result<Option<Oid>, Outcome>, Halt> {
        if reference == self.base_ref {
            return Ok(Ok(Some(self.base.clone())));
        }
        let looked = self.look(reference, run.progress.published.as_deref()).await;
        let found = looked.map_err(|error| Halt::of_git(error, &mut run.governor))?;
        Ok(found.map_err(|found| {
            let message = format!(
                "PublishBranchTaken: {reference} is at {}, which the result does not build on; \
                 delete it or publish to another branch (looked at again every 5 minutes)",
                short(&found)
            );
            Outcome { retry_after_ms: BRANCH_RETRY_MS, ..parked(Reason::Backoff, message) }
        }))
    }

    /// The branch's commit if the result may replace it, `Err` with it otherwise.
    async fn look(
        &self,
        reference: &str,
        published: Option<&str>,
    ) -> Result<Result<Option<Oid>, Oid>, GitError> {
        let cache = self.repo.cache();
        let names = [reference.to_owned()];
        let Some(found) = cache.ls_remote(&names).await?.remove(reference) else {
            return Ok(Ok(None));
        };
        if published == Some(found.as_str()) {
            return Ok(Ok(Some(found)));
        }
        cache.fetch(Some(reference), None).await?;
        let builds_on = self.repo.is_ancestor(&found, &self.checkpoint).await?;
        Ok(if builds_on { Ok(Some(found)) } else { Err(found) })
    }
}
