//! Taking a loop over: its journal is sealed, and what the run begins with is fetched, made ready and measured. No agent
//! acts before the seal's answer; the first checks may run while it is on its way, see [`super::ready`].
//!
//! The first run of a loop also looks who else has begun work on its paths: journals of other installations, which no
//! claim of this store excludes. It looks after its own takeover is in the repository, so that of two that begin at the
//! same time at least one sees the other. Later runs need not look: whoever came after the first one has seen it.

use std::sync::Arc;

use flyball_core::planted::{self, Bug};
use flyball_core::record::{JournalRecord, told_paths};
use flyball_core::resource::PathSet;
use flyball_core::status::Progress;
use tokio::sync::watch;

use super::Run;
use super::halt::Halt;
use super::progress;
use super::ready::{Expected, bounds, start};
use super::repository::{Source, Work, short};
use crate::git::{
    Cache, Fetched, GitError, Journal, JournalError, LoopRefs, Oid, Other, Owner, RunRepo,
};
use crate::link::{Link, Refused, RunId};

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

/// Why a loop was not taken over.
enum Stopped {
    Journal(JournalError),
    Halt(Halt),
    /// After the seal, with what the journal told.
    Sealed(Halt, Box<Progress>),
}

impl Stopped {
    fn halt(self, run: &mut Run) -> Halt {
        match self {
            Self::Journal(error) => Halt::of_journal(error, &mut run.governor),
            Self::Halt(halt) => halt,
            Self::Sealed(halt, progress) => {
                run.progress = *progress;
                halt
            }
        }
    }
}

impl From<JournalError> for Stopped {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<Refused> for Stopped {
    fn from(refused: Refused) -> Self {
        Self::Halt(Halt::Silent(refused.to_string()))
    }
}

/// The seal and what follows from it: needs nothing of the run, which measures meanwhile.
struct Sealing {
    link: Arc<Link>,
    id: RunId,
    owner: Owner,
    repo: RunRepo,
    journal: Journal,
    tip: Oid,
    progress: Progress,
    expected: Expected,
    /// The loop's paths, if no run of it is known to have looked for others there.
    look: Option<PathSet>,
    /// Whoever measures goes on if it is told so, and stops if this ends without a word.
    keep: watch::Sender<bool>,
}

/// A journal that nobody older can append to any more, and what it says.
struct Sealed {
    journal: Journal,
    base: Oid,
    checkpoint: Oid,
    progress: Progress,
    as_expected: bool,
}

impl Sealing {
    async fn seal(mut self) -> Result<Sealed, Stopped> {
        // A run before this one has sealed and did not begin: most likely for others, who may still be there.
        // Then the journal needs no further record that says so.
        if self.journal.last().is_some() {
            self.look_for_others().await?;
        }
        let known = self.progress.base.as_ref().and_then(|text| text.parse().ok());
        let from = known.unwrap_or_else(|| self.tip.clone());
        // The older records are read while the seal is on its way.
        let last = self.journal.last().is_some_and(|last| last.sequence > 1);
        let older = self.journal.tip().filter(|_| last).cloned();
        let (sealed, older) = tokio::join!(
            seal(&mut self.journal, &self.owner, &from),
            history(&self.repo, older.as_ref())
        );
        sealed?;
        self.journal.add(older?);
        self.look_for_others().await?;
        let Self { link, id, owner, repo, journal, tip, mut progress, expected, keep, .. } = self;
        progress::catch_up(&mut progress, journal.records(), owner.generation);
        let (base, checkpoint) = match start(&progress, &repo, tip).await {
            Ok(found) => found,
            Err(halt) => return Err(Stopped::Sealed(halt, Box::new(progress))),
        };
        let published = journal.find_published(&checkpoint, owner.generation).is_some();
        let as_expected = !published && expected.is(&progress, &base, &checkpoint);
        // Dropped at once if not.
        let keep = as_expected.then_some(keep);
        if as_expected {
            progress.activity = "observing".to_owned();
        }
        progress.base = Some(base.to_string());
        let fresh = progress.iterations == 0 && checkpoint == base;
        let verb = if fresh { "starts" } else { "goes on" };
        link.update(&id, &progress, format!("{verb} at {}", short(&checkpoint))).await?;
        if let Some(keep) = keep {
            keep.send_replace(true);
        }
        Ok(Sealed { journal, base, checkpoint, progress, as_expected })
    }

    /// Stops where another installation has begun work on the same paths that it has not ended.
    async fn look_for_others(&self) -> Result<(), Stopped> {
        let Some(paths) = &self.look else { return Ok(()) };
        let others = self.repo.journals_of_others(self.journal.refs()).await;
        let others = others.map_err(JournalError::from)?;
        let in_the_way = |other: &Other| other.last.as_ref().is_none_or(|it| it.may_act_on(paths));
        let others: Vec<Other> = others.into_iter().filter(in_the_way).collect();
        Halt::other_installation(&others).map_or(Ok(()), |halt| Err(Stopped::Halt(halt)))
    }
}

async fn history(repo: &RunRepo, tip: Option<&Oid>) -> Result<Vec<JournalRecord>, JournalError> {
    match tip {
        Some(tip) => Journal::history(repo, tip).await,
        None => Ok(Vec::new()),
    }
}

impl Work {
    /// Fetches, seals and restores the last checkpoint.
    pub(super) async fn take_over(run: &mut Run, source: Source) -> Result<Self, Halt> {
        run.progress.activity = "taking over".to_owned();
        let bounds = bounds(run, &source);
        let fetched = Self::fetch(run, &source).await;
        let (ground, base, journal) =
            fetched.map_err(|error| Halt::of_journal(error, &mut run.governor))?;
        let repo = ground.repo;
        run.objects = repo.object_dirs();
        let pins = bounds.as_ref().ok().map(|(_, pins)| pins.clone());
        let expected = Expected::of(&run.progress, &run.spec, pins, &base.tip);
        let (keep, wanted) = watch::channel(false);
        let paths = bounds.as_ref().ok().map(|(owns, _)| owns);
        let owner = Owner { owns: paths.and_then(told_paths), ..run.owner() };
        // The store is told where the loop begins once nobody was found, and a changed spec makes it forget. Whose
        // journal was deleted may have been taken for dead. A repository that is not published from is this run's own.
        let unknown = run.progress.base.is_none() || journal.last().is_none();
        let first = unknown && source.publish.is_some();
        let sealing = Sealing {
            link: run.context.link.clone(),
            id: run.id.clone(),
            owner: owner.clone(),
            look: paths.filter(|_| first).cloned(),
            repo: repo.clone(),
            journal,
            tip: base.tip.clone(),
            progress: run.current_progress(),
            expected: expected.clone(),
            keep,
        };
        let ahead = Box::pin(run.measure_ahead(&repo, &expected, wanted));
        let (sealed, measured) = tokio::join!(Box::pin(sealing.seal()), ahead);
        // Whoever cannot say what became of a step says nothing of the loop either.
        if let Err(silent @ Halt::Silent(_)) = measured {
            return Err(silent);
        }
        let sealed = sealed.map_err(|stopped| stopped.halt(run))?;
        // First: the run's end tells of it too.
        run.progress = sealed.progress;
        let measured = if sealed.as_expected { measured? } else { None };
        // Only now: a verdict on the work is one of an owner that has sealed.
        let (owns, pins) = bounds?;
        if let Some(measured) = &measured {
            run.cases = measured.cases.clone();
        }
        Ok(Self {
            checkpoint: sealed.checkpoint,
            source,
            repo,
            journal: sealed.journal,
            owner,
            base_ref: base.name,
            base: sealed.base,
            owns,
            pins,
            fetched: Some(base.tip),
            measured,
            pushed: None,
            conflict: Vec::new(),
            publish_moves: 0,
        })
    }

    async fn fetch(run: &Run, source: &Source) -> Result<(Ground, Base, Journal), JournalError> {
        let ground = Ground::new(run, source).await?;
        let base = ground.fetch().await?;
        let journal = Journal::at_last(&ground.repo, &ground.refs, base.journal.clone()).await?;
        Ok((ground, base, journal))
    }
}
