//! Where a run begins: the commits to go on from, the bounds of the work, and what is made ready and measured while the
//! seal is on its way.
//!
//! Checks observe: what they say of a tree is as true before the seal as after it, if it still is the tree that the run
//! begins with. If the seal fails, or the journal then says something else, they are ended and what they said is
//! dropped. Agents, whose changes count, wait for the seal.

use flyball_core::resource::{EntryError, PathSet, PinSet, ResourceSet};
use flyball_core::spec::LoopSpec;
use flyball_core::status::{Progress, Reason};
use tokio::sync::watch;

use super::Run;
use super::checks::Measured;
use super::halt::Halt;
use super::repository::{Source, short};
use crate::git::{GitError, Leftovers, Oid, Place, RunRepo};
use crate::runs::Stop;

/// What the run will most likely begin with, by what the store knows. The journal may know better; then
/// what was made ready is made again.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    base: Oid,
    checkpoint: Oid,
    iterations: u32,
    /// Unless they are invalid.
    pins: Option<PinSet>,
    /// Nothing is to be carried over to a base that has moved.
    settled: bool,
    /// An agent is about to act on it.
    acts: bool,
}

impl Expected {
    pub(super) fn of(
        progress: &Progress,
        spec: &LoopSpec,
        pins: Option<PinSet>,
        tip: &Oid,
    ) -> Self {
        let (base, checkpoint) = accepted(progress).unwrap_or_else(|| (tip.clone(), tip.clone()));
        Self {
            settled: base == *tip,
            base,
            checkpoint,
            iterations: progress.iterations,
            pins,
            acts: spec.agent.is_some() && progress.iterations > 0,
        }
    }

    /// Whether this is what the run begins with.
    pub(super) fn is(&self, progress: &Progress, base: &Oid, checkpoint: &Oid) -> bool {
        self.settled
            && self.base == *base
            && self.checkpoint == *checkpoint
            && self.iterations == progress.iterations
    }
}

impl Run {
    /// Makes the worktrees and measures what the run will most likely begin with. `None` if that cannot be known yet,
    /// or is not `wanted`: then it is done when it is needed, and a failure then counts.
    pub(super) async fn measure_ahead(
        &mut self,
        repo: &RunRepo,
        expected: &Expected,
        wanted: watch::Receiver<bool>,
    ) -> Result<Option<Measured>, Halt> {
        let Expected { base, checkpoint, pins, settled, .. } = expected;
        let Some(pins) = pins.as_ref().filter(|_| *settled) else { return Ok(None) };
        let checkout = async {
            let tree = verified_tree(repo, pins, base, checkpoint).await?;
            repo.checkout(Place::Verify, &tree, Leftovers::KeepIgnored).await
        };
        if checkout.await.is_err() {
            return Ok(None);
        }
        self.wanted = Some(wanted);
        // After the other worktree: making one removes stale locks.
        let work = async {
            if expected.acts {
                repo.checkout_ahead(Place::Work, checkpoint).await;
            }
        };
        let dir = repo.path(Place::Verify);
        let (measured, ()) = tokio::join!(self.measure(&dir, expected.iterations, "check"), work);
        let unwanted = self.is_unwanted();
        self.wanted = None;
        match measured {
            Ok(measured) => Ok(Some(measured)),
            Err(Halt::End(_)) if unwanted => Ok(None),
            Err(halt) => Err(halt),
        }
    }

    /// Whether what is measured ahead is of no use: the takeover has failed or found something else, or the run was to
    /// stop before it was through.
    pub(super) fn is_unwanted(&self) -> bool {
        match &self.wanted {
            Some(wanted) if !*wanted.borrow() => {
                wanted.has_changed().is_err() || self.stop() != Stop::No
            }
            _ => false,
        }
    }
}

/// Returns when what is measured ahead is of no use; never once it is known to be wanted.
pub(super) async fn unwanted(
    wanted: Option<watch::Receiver<bool>>,
    mut stop: watch::Receiver<Stop>,
) {
    let Some(mut wanted) = wanted else { return std::future::pending().await };
    let kept = async { wanted.wait_for(|kept| *kept).await.is_ok() };
    let stopped = async { stop.wait_for(|stop| *stop != Stop::No).await.is_ok() };
    let kept = tokio::select! {
        biased;
        kept = kept => kept,
        _ = stopped => false,
    };
    if kept {
        std::future::pending::<()>().await;
    }
}

/// The tree of a commit with pinned paths as in the base.
pub(super) async fn verified_tree(
    repo: &RunRepo,
    pins: &PinSet,
    base: &Oid,
    commit: &Oid,
) -> Result<Oid, GitError> {
    let tree = repo.tree_of(commit).await?;
    if commit == base || pins.is_empty() {
        return Ok(tree);
    }
    let base_tree = repo.tree_of(base).await?;
    repo.restore_pins(&tree, &base_tree, pins).await
}

/// The base and the checkpoint that were accepted last, if anything was.
fn accepted(progress: &Progress) -> Option<(Oid, Oid)> {
    let parse = |commit: &Option<String>| commit.as_ref()?.parse().ok();
    Some((parse(&progress.base)?, parse(&progress.checkpoint)?))
}

/// The base and the checkpoint to go on from: the tip itself while nothing has been accepted.
pub(super) async fn start(
    progress: &Progress,
    repo: &RunRepo,
    tip: Oid,
) -> Result<(Oid, Oid), Halt> {
    let Some((base, checkpoint)) = accepted(progress) else { return Ok((tip.clone(), tip)) };
    match repo.missing_commit(&[&base, &checkpoint]).await {
        Ok(None) => Ok((base, checkpoint)),
        Ok(Some(commit)) => Err(Halt::hold(format!(
            "CheckpointMissing: {} is not in the repository any more, and the accepted work with it; \
             a changed spec starts over",
            short(&commit)
        ))),
        Err(error) => Err(Halt::node_fault(&error.to_string())),
    }
}

/// What may be changed and what is pinned.
pub(super) fn bounds(run: &Run, source: &Source) -> Result<(PathSet, PinSet), Halt> {
    let invalid = |errors: Vec<EntryError>| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Halt::failed(Reason::InvalidWork, errors.join("; "))
    };
    let pins = PinSet::parse(&run.spec.pins).map_err(invalid)?;
    let set = ResourceSet::parse(&source.owns, Some(&source.id)).map_err(invalid)?;
    Ok((set.git_patterns(&source.id), pins))
}
