//! The private repository of one run, and its two worktrees.
//!
//! The git directory is outside both worktrees, so neither the agent nor a check can configure it
//! or delete it. New objects go into it; those of the remote are read from the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::cache::Cache;
use super::error::{GitError, checkout_failure};
use super::files::{Kind, blocking, init_git_dir, remove_any, restore_config};
use super::objects::{Object, Objects};
use super::oid::Oid;
use super::push::Doubt;
use super::runner::{Call, Git};
use super::upkeep::remove_locks;

/// A worktree of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where the agent acts.
    Work,
    /// Where checks measure a snapshotted tree.
    Verify,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::Verify => "verify",
        }
    }
}

/// What a checkout does with files that are not in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// Removes untracked files and keeps git-ignored ones: build output makes the next build fast.
    KeepIgnored,
    /// Removes everything.
    Remove,
}

/// What a checkout found in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No worktree: what is there now is the tree and nothing else.
    Nothing,
    /// An older one, of which ignored files may have stayed.
    Older,
}

/// Worktrees that are as some tree or commit says already, and were not touched since.
type Ahead = Arc<Mutex<Vec<(Place, Oid, Found)>>>;

/// The private repository of one run.
#[derive(Debug, Clone)]
pub struct RunRepo {
    git: Git,
    dir: PathBuf,
    git_dir: PathBuf,
    url: String,
    cache: Cache,
    doubt: Doubt,
    objects: Objects,
    /// What worktrees were made ahead of their use, see [`RunRepo::checkout_ahead`].
    ahead: Ahead,
}

impl RunRepo {
    /// Makes `<dir>/git`; the worktrees appear with their first checkout. A directory that exists
    /// is taken up again, its worktrees with their build output included.
    ///
    /// # Errors
    /// `Local` if a directory cannot be made.
    pub async fn create(cache: &Cache, dir: &Path) -> Result<Self, GitError> {
        Self::create_with(cache, dir, Doubt::default()).await
    }

    /// The same with a doubt about its pushes that somebody else looks at.
    ///
    /// # Errors
    /// As [`RunRepo::create`].
    pub async fn create_with(cache: &Cache, dir: &Path, doubt: Doubt) -> Result<Self, GitError> {
        let dir = std::path::absolute(dir).map_err(|error| GitError::local("run", error))?;
        let git_dir = dir.join("git");
        let (path, objects) = (git_dir.clone(), cache.objects());
        blocking("create run repository", move || init_git_dir(&path, Kind::Bare, &[&objects]))
            .await?;
        Ok(Self {
            git: cache.git().clone(),
            dir,
            git_dir,
            url: cache.url().to_owned(),
            cache: cache.clone(),
            doubt,
            objects: Objects::default(),
            ahead: Ahead::default(),
        })
    }

    /// Whether one of its pushes may still arrive.
    pub fn doubt(&self) -> &Doubt {
        &self.doubt
    }

    /// The path of a worktree.
    pub fn path(&self, place: Place) -> PathBuf {
        self.dir.join(place.name())
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Directories outside the worktrees that the `.git` of [`RunRepo::lend_git`] reads.
    pub fn object_dirs(&self) -> Vec<PathBuf> {
        vec![self.git_dir.join("objects"), self.cache.objects()]
    }

    /// Removes the run's directory with everything in it, whatever permissions it was left with.
    ///
    /// # Errors
    /// `Local`.
    pub async fn remove(self) -> Result<(), GitError> {
        let dir = self.dir;
        blocking("remove run", move || remove_any(&dir)).await
    }

    /// The cache whose objects this repository reads.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn git(&self) -> &Git {
        &self.git
    }

    pub(super) fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    pub(super) fn index(&self, place: Place) -> PathBuf {
        self.git_dir.join(format!("{}.index", place.name()))
    }

    /// A call on the object database.
    pub(super) fn call<const N: usize>(&self, args: [&str; N]) -> Call<'_> {
        self.git.call(&self.git_dir, args)
    }

    /// Starts what reads objects, so that the first one is there at once.
    pub async fn warm_up(&self) {
        self.objects.warm_up(|| self.call(["cat-file", "--batch"]).command()).await;
    }

    /// Reads an object; `None` if it is not here.
    pub(super) async fn object(&self, oid: &Oid) -> Result<Option<Object>, GitError> {
        self.objects.read(oid, || self.call(["cat-file", "--batch"]).command()).await
    }

    /// A call on a worktree with its private index.
    pub(super) fn call_in<const N: usize>(&self, place: Place, args: [&str; N]) -> Call<'_> {
        self.call(args).work_tree(&self.path(place), &self.index(place))
    }

    /// Makes a worktree equal to the tree of a commit (or to a tree): changed and missing files
    /// are written, others keep their times, so that builds stay incremental. A `.git` in it is
    /// removed, see [`RunRepo::lend_git`]. Tells what it found there.
    ///
    /// # Errors
    /// `Local`; a worktree that git cannot repair is made anew once. `Unsupported` if the tree has
    /// paths that git never writes (`.git/…`).
    pub async fn checkout(
        &self,
        place: Place,
        treeish: &Oid,
        leftovers: Leftovers,
    ) -> Result<Found, GitError> {
        if let Some((there, found)) = self.take_ahead(place)
            && there == *treeish
        {
            return Ok(found);
        }
        self.prepare(place).await?;
        match self.checkout_once(place, treeish, leftovers).await {
            Ok(found) => return Ok(found),
            Err(error @ GitError::Unsupported { .. }) => return Err(error),
            Err(error) => tracing::warn!(%error, place = place.name(), "worktree is made anew"),
        }
        let (path, index) = (self.path(place), self.index(place));
        blocking("wipe worktree", move || {
            remove_any(&index)?;
            remove_any(&path)?;
            fs::create_dir_all(&path)
        })
        .await?;
        self.checkout_once(place, treeish, leftovers).await
    }

    /// Makes a worktree ahead of the next [`RunRepo::checkout`], which has nothing to do then if it asks
    /// for the same. To be called only where nothing else touches the worktree in between. A failure
    /// is the next checkout's to find and to tell.
    pub async fn checkout_ahead(&self, place: Place, treeish: &Oid) {
        if let Ok(found) = self.checkout(place, treeish, Leftovers::KeepIgnored).await {
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            ahead.push((place, treeish.clone(), found));
        }
    }

    fn take_ahead(&self, place: Place) -> Option<(Oid, Found)> {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ahead.iter().position(|(there, ..)| *there == place)?;
        let (_, treeish, found) = ahead.swap_remove(at);
        Some((treeish, found))
    }

    async fn checkout_once(
        &self,
        place: Place,
        treeish: &Oid,
        leftovers: Leftovers,
    ) -> Result<Found, GitError> {
        let fresh = !self.index(place).exists();
        let call = self.call_in(place, ["read-tree", "--reset", "-u", "--no-recurse-submodules"]);
        let output = call.arg(treeish.as_str()).output().await?;
        if output.code != Some(0) {
            return Err(checkout_failure("read-tree", &output.stderr));
        }
        if fresh {
            return Ok(Found::Nothing);
        }
        // Twice -f: nested repositories that somebody left behind are removed too.
        let clean = match leftovers {
            Leftovers::KeepIgnored => self.call_in(place, ["clean", "-ffdq"]),
            Leftovers::Remove => self.call_in(place, ["clean", "-ffdxq"]),
        };
        clean.ok().await?;
        Ok(Found::Older)
    }

    /// The worktree is a real directory without `.git`; without an index it is empty.
    async fn prepare(&self, place: Place) -> Result<(), GitError> {
        let (path, index, git_dir) = (self.path(place), self.index(place), self.git_dir.clone());
        blocking("prepare worktree", move || {
            restore_config(&git_dir)?;
            remove_locks(&git_dir)?;
            let real = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            if !real || !index.exists() {
                remove_any(&path)?;
                remove_any(&index)?;
            }
            fs::create_dir_all(&path)?;
            remove_any(&path.join(".git"))
        })
        .await
    }

    /// Gives a worktree a `.git` of its own with the commit checked out on branch `flyball`, so
    /// that agents and checks can use git there. Nobody else ever reads it: whatever is done to
    /// it, deletion included, does not matter. The next checkout removes it.
    ///
    /// # Errors
    /// `Local` if it cannot be written.
    pub async fn lend_git(&self, place: Place, commit: &Oid) -> Result<(), GitError> {
        let lent = self.path(place).join(".git");
        let (index, commit) = (self.index(place), commit.clone());
        let (own, shared) = (self.git_dir.join("objects"), self.cache.objects());
        blocking("lend a git directory", move || {
            remove_any(&lent)?;
            init_git_dir(&lent, Kind::Lent, &[&own, &shared])?;
            fs::write(lent.join("refs/heads/flyball"), format!("{commit}\n"))?;
            fs::copy(index, lent.join("index")).map(drop)
        })
        .await
    }
}
