//! Where a run begins: the commits to go on from, the bounds of the work, and what can be made ready while
//! the seal is on its way. Nothing of the loop's is started before the seal's answer.

use flyball_core::record::JournalRecord;
use flyball_core::resource::{EntryError, PathSet, PinSet, ResourceSet};
use flyball_core::spec::LoopSpec;
use flyball_core::status::{Progress, Reason};

use super::Run;
use super::halt::Halt;
use super::repository::{Source, short};
use crate::git::{Journal, JournalError, Oid, Place, RunRepo};

/// What the run will most likely begin with, by what the store knows. The journal may know better; then
/// what was made ready is made again.
pub(super) struct Expected {
    checkpoint: Oid,
    /// The tree to be checked is the checkpoint's own: no pinned path can differ.
    unpinned: bool,
    /// An agent is about to act on it.
    acts: bool,
}

impl Expected {
    pub(super) fn of(progress: &Progress, spec: &LoopSpec, tip: &Oid) -> Self {
        let checkpoint = progress.checkpoint.as_ref().and_then(|text| text.parse().ok());
        Self {
            unpinned: checkpoint.is_none() || spec.pins.is_empty(),
            checkpoint: checkpoint.unwrap_or_else(|| tip.clone()),
            acts: spec.agent.is_some() && progress.iterations > 0,
        }
    }

    /// Reads the older records and makes the worktrees. Worktrees that cannot be made are made again when
    /// they are needed, and that failure counts.
    pub(super) async fn make_ready(
        &self,
        repo: &RunRepo,
        older: Option<&Oid>,
    ) -> Result<Vec<JournalRecord>, JournalError> {
        let history = async {
            match older {
                Some(tip) => Journal::history(repo, tip).await,
                None => Ok(Vec::new()),
            }
        };
        // One after the other: making one removes stale locks.
        let worktrees = async {
            let tree = repo.tree_of(&self.checkpoint).await;
            if let Some(tree) = tree.as_ref().ok().filter(|_| self.unpinned) {
                repo.checkout_ahead(Place::Verify, tree).await;
            }
            if self.acts && tree.is_ok() {
                repo.checkout_ahead(Place::Work, &self.checkpoint).await;
            }
        };
        tokio::join!(history, worktrees).0
    }
}

/// The base and the checkpoint to go on from: the tip itself while nothing has been accepted.
pub(super) async fn start(run: &Run, repo: &RunRepo, tip: Oid) -> Result<(Oid, Oid), Halt> {
    let parse = |commit: &Option<String>| commit.as_ref().and_then(|text| text.parse::<Oid>().ok());
    let (base, checkpoint) = (parse(&run.progress.base), parse(&run.progress.checkpoint));
    let (Some(base), Some(checkpoint)) = (base, checkpoint) else {
        return Ok((tip.clone(), tip));
    };
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
