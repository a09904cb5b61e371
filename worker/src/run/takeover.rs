//! Taking a loop over: its journal is sealed, and what the run begins with is fetched and made ready. Nothing of the
//! loop's is started before the seal's answer.

use flyball_core::planted::{self, Bug};

use super::Run;
use super::halt::Halt;
use super::progress;
use super::ready::{Expected, bounds, start};
use super::repository::{Source, Work, short};
use crate::git::{Cache, Fetched, GitError, Journal, JournalError, LoopRefs, Oid, Owner, RunRepo};

/// Where a takeover reads and writes.
struct Ground {
    cache: Cache,
    refs: LoopRefs,
    repo: RunRepo,
    /// As the manifest names the base.
    reference: String,
}

/// What was fetched.
struct Base {
    /// Full name of the base ref.
    name: String,
    tip: Oid,
    /// The journal's newest commit there.
    journal: Option<Oid>,
}

impl Ground {
    async fn new(run: &Run, source: &Source) -> Result<Self, GitError> {
        let cache = run.context.caches.open(&source.id, &source.url).await?;
        let repo = RunRepo::create_with(&cache, &run.dir, run.doubt.clone()).await?;
        let prefix = &run.context.config.ref_prefix;
        let refs = LoopRefs::new(prefix, &run.context.installation, &run.id.uid);
        Ok(Self { cache, refs, repo, reference: source.reference.clone() })
    }

    async fn fetch(&self) -> Result<Base, GitError> {
        let fetched = self.cache.fetch_start(&self.reference, &self.refs);
        let (fetched, ()) = tokio::join!(fetched, self.repo.warm_up());
        let (name, Fetched { base, journal }) = fetched?;
        let tip = base.ok_or_else(|| GitError::MissingRef { reference: name.clone() })?;
        Ok(Base { name, tip, journal })
    }
}

/// Sealed before it is believed: until then an owner that was replaced may still append.
async fn seal(journal: &mut Journal, owner: &Owner, base: &Oid) -> Result<(), JournalError> {
    match planted::is(Bug::NoSeal) {
        true => Ok(()),
        false => journal.seal(owner, base).await.map(drop),
    }
}

impl Work {
    /// Fetches, seals and restores the last checkpoint.
    pub(super) async fn take_over(run: &mut Run, source: Source) -> Result<Self, Halt> {
        run.progress.activity = "taking over".to_owned();
        let owner = run.owner();
        let taken = Self::fetch_and_seal(run, &source, &owner).await;
        let (ground, base, journal) =
            taken.map_err(|error| Halt::of_journal(error, &mut run.governor))?;
        progress::catch_up(&mut run.progress, journal.records(), run.generation);
        let Ground { repo, .. } = ground;
        let (from, checkpoint) = start(run, &repo, base.tip.clone()).await?;
        run.governor.on_repository_reached();
        run.objects = repo.object_dirs();
        let (owns, pins) = bounds(run, &source)?;
        let work = Self {
            checkpoint,
            source,
            repo,
            journal,
            owner,
            base_ref: base.name,
            base: from,
            owns,
            pins,
            fetched: Some(base.tip),
            measured: None,
            pushed: None,
            conflict: Vec::new(),
            publish_moves: 0,
        };
        run.progress.base = Some(work.base.to_string());
        let fresh = run.progress.iterations == 0 && work.checkpoint == work.base;
        let verb = if fresh { "starts" } else { "goes on" };
        // Nothing of the start depends on the answer; it is there before the agent acts.
        run.report_ahead(format!("{verb} at {}", short(&work.checkpoint))).await?;
        Ok(work)
    }

    /// Worktrees and older records are made ready while the seal is on its way.
    async fn fetch_and_seal(
        run: &Run,
        source: &Source,
        owner: &Owner,
    ) -> Result<(Ground, Base, Journal), JournalError> {
        let ground = Ground::new(run, source).await?;
        let base = ground.fetch().await?;
        let last = base.journal.as_ref();
        let mut journal = Journal::at_last(&ground.repo, &ground.refs, last.cloned()).await?;
        let known = run.progress.base.as_ref().and_then(|text| text.parse().ok());
        let from = known.unwrap_or_else(|| base.tip.clone());
        let older = last.filter(|_| journal.last().is_some_and(|last| last.sequence > 1)).cloned();
        let expected = Expected::of(&run.progress, &run.spec, &base.tip);
        let (sealed, older) = tokio::join!(
            seal(&mut journal, owner, &from),
            expected.make_ready(&ground.repo, older.as_ref())
        );
        sealed?;
        journal.add(older?);
        Ok((ground, base, journal))
    }
}
