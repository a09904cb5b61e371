//! Seals of other loops: what an owner without a proven end could still push is shut out before work starts.

use flyball_core::resource::canonical_repo_id;
use flyball_core::status::Unsealed;

use super::Run;
use super::halt::Halt;
use crate::git::{GitError, Journal, JournalError, LoopRefs, Owner, RunRepo};

/// Pause before a journal that could not be reached is tried again, by whichever loop is placed then.
const RETRY_MS: u64 = 2000;

/// Pause before one that waits for a person is tried again: whoever mends the repository, or gives the
/// seal up, need not come back to every loop that waits for it.
const STUCK_RETRY_MS: u64 = 30_000;

/// Seals the journals of runs that were never proven to have stopped: those of overlapping loops, and
/// the loop's own in a repository that it has left since. Its journal in the present one is sealed by
/// taking over.
pub(super) async fn seal_unsealed(run: &Run) -> Result<(), Halt> {
    let owner = run.owner();
    let here = run.spec.workspace.as_ref().and_then(|it| canonical_repo_id(&it.git.url).ok());
    let taken_over = |unsealed: &Unsealed| {
        let there = canonical_repo_id(&unsealed.repository).ok();
        unsealed.loop_uid == run.id.uid && here.is_some() && there == here
    };
    let others = run.unsealed.iter().filter(|unsealed| !taken_over(unsealed));
    for other in others.filter(|other| !other.repository.is_empty()) {
        if let Err(error) = seal_other(run, &owner, other).await {
            let message = format!(
                "Unsealed: the journal of {} in {} cannot be sealed: {error}",
                other.loop_key, other.repository
            );
            return Err(match error {
                JournalError::Git(error) if error.is_retryable() => {
                    Halt::backoff(message, RETRY_MS)
                }
                // Others keep appending: the next run reads again.
                JournalError::Fenced { .. } => Halt::backoff(message, RETRY_MS),
                _ => Halt::backoff(message, STUCK_RETRY_MS),
            });
        }
    }
    Ok(())
}

/// Appends to the other loop's journal, so that no push of its last owner can be accepted any more.
async fn seal_other(run: &Run, owner: &Owner, other: &Unsealed) -> Result<(), JournalError> {
    let id = canonical_repo_id(&other.repository)
        .map_err(|error| GitError::Unsupported { message: error.to_string() })?;
    let cache = run.context.caches.open(&id, &other.repository).await?;
    let dir = run.dir.join("seal").join(other.loop_uid.as_str());
    let repo = RunRepo::create(&cache, &dir).await?;
    let refs =
        LoopRefs::new(&run.context.config.ref_prefix, &run.context.installation, &other.loop_uid);
    let owner = Owner { loop_uid: other.loop_uid.clone(), ..owner.clone() };
    let mut journal = Journal::open(&repo, &refs).await?;
    journal.seal_for_other(&owner, &run.id.uid, other.token).await.map(drop)
}
