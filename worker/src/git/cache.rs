//! One bare repository per remote, shared by all runs on this node. Runs read its objects through
//! alternates; only a fetch writes to it. Nothing is ever pruned in it, because runs rely on its
//! objects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flyball_core::resource::RepoId;

use super::error::{GitError, message_of, remote_failure};
use super::files::{Kind, blocking, init_git_dir, lock_file, restore_config, short_hash};
use super::journal_ref::LoopRefs;
use super::oid::Oid;
use super::runner::Git;
use super::upkeep::{PACKS_MAX, count_packs, remove_half_packs, remove_locks};

/// Most bytes of a list of remote refs: about 100 per ref; we only ask for a handful.
const REFS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The file whose lock says which process fetches.
pub(super) const LOCK_FILE: &str = "flyball.lock";

/// All caches of a node.
#[derive(Debug)]
pub struct Caches {
    root: PathBuf,
    git: Git,
    locks: std::sync::Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Caches {
    /// Caches below `root`, made when first used.
    ///
    /// # Errors
    /// `Local` if `root` cannot be made absolute (runs name it in files of their own).
    pub fn new(git: Git, root: impl AsRef<Path>) -> Result<Self, GitError> {
        let root = std::path::absolute(root).map_err(|error| GitError::local("cache", error))?;
        Ok(Self { root, git, locks: std::sync::Mutex::default() })
    }

    /// The cache of the repository with this canonical id, fetched from `url`.
    ///
    /// # Errors
    /// `Unsupported` if the URL is not one that git may be given; `Local` if the directory cannot
    /// be made.
    pub async fn open(&self, id: &RepoId, url: &str) -> Result<Cache, GitError> {
        check_url(url)?;
        let repository_id = id.as_str();
        let name = directory_name(repository_id);
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            Arc::clone(locks.entry(name.clone()).or_default())
        };
        let dir = self.root.join(name);
        let cache = Cache { git: self.git.clone(), dir, url: url.to_owned(), lock };
        cache.create(repository_id).await?;
        Ok(cache)
    }
}

/// Refuses what git would take for an option or a remote helper.
fn check_url(url: &str) -> Result<(), GitError> {
    let helper = url.split_once("::").is_some_and(|(scheme, _)| !scheme.contains(['/', '@', '[']));
    if url.is_empty() || url.starts_with('-') || helper || url.contains(['\n', '\0']) {
        let message = format!("{url:?} is not the URL or path of a git repository");
        return Err(GitError::Unsupported { message });
    }
    Ok(())
}

/// A readable directory name, unique by the hash of the whole id.
fn directory_name(repository_id: &str) -> String {
    let readable: String = repository_id
        .chars()
        .rev()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' })
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    format!("{}-{}.git", readable.trim_start_matches('.'), short_hash(repository_id))
}

/// The cache of one repository.
#[derive(Debug, Clone)]
pub struct Cache {
    git: Git,
    dir: PathBuf,
    url: String,
    lock: Arc<tokio::sync::Mutex<()>>,
}

/// What one fetch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Commit of the base ref; `None` if none was asked for.
    pub base: Option<Oid>,
    /// Tip of the journal; `None` if there is none or none was asked for.
    pub journal: Option<Oid>,
}

impl Cache {
    /// The URL or path of the remote.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn git(&self) -> &Git {
        &self.git
    }

    pub(super) fn objects(&self) -> PathBuf {
        self.dir.join("objects")
    }

    async fn create(&self, repository_id: &str) -> Result<(), GitError> {
        let _in_process = self.lock.lock().await;
        let dir = self.dir.clone();
        let id = repository_id.to_owned();
        let found = blocking("create cache", move || {
            let marker = dir.join("flyball-repository");
            if !marker.exists() {
                init_git_dir(&dir, Kind::Bare, &[])?;
                std::fs::write(&marker, &id)?;
            }
            restore_config(&dir)?;
            remove_half_packs(&dir.join("objects"))?;
            Ok(std::fs::read_to_string(&marker)? == id)
        })
        .await?;
        if found {
            Ok(())
        } else {
            Err(GitError::local("create cache", "its directory belongs to another repository"))
        }
    }

    /// The full name of a branch, tag or full ref at the remote; a branch wins over a tag.
    ///
    /// # Errors
    /// `MissingRef`, `Unreachable`, or a local failure.
    pub async fn resolve(&self, reference: &str) -> Result<String, GitError> {
        let missing = || GitError::MissingRef { reference: reference.to_owned() };
        if !is_ref_name(reference) {
            return Err(missing());
        }
        let names = if reference.starts_with("refs/") || reference == "HEAD" {
            vec![reference.to_owned()]
        } else {
            vec![format!("refs/heads/{reference}"), format!("refs/tags/{reference}")]
        };
        let found = self.ls_remote(&names).await?;
        names.into_iter().find(|name| found.contains_key(name)).ok_or_else(missing)
    }

    /// Fetches what a run begins with: the base, given as for [`Cache::resolve`], and the refs of its
    /// loop. One round trip if the base is a branch or a full name, three if it is a tag. Also gives
    /// the base's full name.
    ///
    /// # Errors
    /// As [`Cache::resolve`] and [`Cache::fetch`].
    pub async fn fetch_start(
        &self,
        reference: &str,
        refs: &LoopRefs,
    ) -> Result<(String, Fetched), GitError> {
        let full = reference.starts_with("refs/") || reference == "HEAD";
        let name = if full { reference.to_owned() } else { format!("refs/heads/{reference}") };
        match self.fetch(Some(&name), Some(refs)).await {
            Ok(fetched) => Ok((name, fetched)),
            Err(GitError::MissingRef { .. }) => {
                let name = self.resolve(reference).await?;
                let fetched = self.fetch(Some(&name), Some(refs)).await?;
                Ok((name, fetched))
            }
            Err(error) => Err(error),
        }
    }

    /// Where these refs (full names) are at the remote right now; absent ones are left out.
    ///
    /// # Errors
    /// `Unreachable` or a local failure.
    pub async fn ls_remote(&self, names: &[String]) -> Result<BTreeMap<String, Oid>, GitError> {
        let call = self
            .git
            .call(&self.dir, ["ls-remote", "--refs", "--", &self.url])
            .network()
            .stdout_bytes_max(REFS_BYTES_MAX);
        // `--refs` hides `HEAD` and peeled tags.
        let call = if names.iter().any(|name| name == "HEAD") {
            self.git.call(&self.dir, ["ls-remote", "--", &self.url]).network()
        } else {
            call
        };
        let output = names.iter().fold(call, |call, name| call.arg(name)).output().await?;
        if output.code != Some(0) {
            return Err(remote_failure("ls-remote", &output.stderr));
        }
        let mut found = BTreeMap::new();
        for line in output.text().lines() {
            let Some((oid, name)) = line.split_once('\t') else { continue };
            // A pattern also matches names that end with it: keep exact ones only.
            if names.iter().any(|wanted| wanted == name) {
                found.insert(name.to_owned(), parse_remote_oid(oid)?);
            }
        }
        Ok(found)
    }

    /// Fetches the base ref (full name, see [`Cache::resolve`]) and the refs of a loop, either or
    /// both, in one round trip.
    ///
    /// # Errors
    /// `MissingRef` if the base is gone, `Unreachable`, or a local failure.
    pub async fn fetch(
        &self,
        base: Option<&str>,
        refs: Option<&LoopRefs>,
    ) -> Result<Fetched, GitError> {
        let base_name = base.map(|name| format!("refs/base/{}", short_hash(name)));
        let mut specs = Vec::new();
        if let (Some(from), Some(to)) = (base, &base_name) {
            if !is_ref_name(from) {
                return Err(GitError::MissingRef { reference: from.to_owned() });
            }
            specs.push(format!("+{from}:{to}"));
        }
        specs.extend(refs.map(LoopRefs::refspec));
        let _in_process = self.lock.lock().await;
        let _between_processes = lock_file(&self.dir.join(LOCK_FILE)).await?;
        if let Err(error) = self.fetch_specs(&specs).await {
            if !matches!(error, GitError::Local { .. }) {
                return Err(error);
            }
            let dir = self.dir.clone();
            blocking("remove stale locks", move || remove_locks(&dir)).await?;
            self.fetch_specs(&specs).await?;
        }
        self.join_packs().await;
        let journal_name = refs.map(LoopRefs::journal);
        let is_branch = base.is_some_and(|name| name.starts_with("refs/heads/"));
        let fetched = Fetched {
            base: self.commit_of(base_name.as_deref(), !is_branch).await?,
            journal: self.commit_of(journal_name.as_deref(), false).await?,
        };
        match (base, &fetched.base) {
            (Some(name), None) => {
                Err(GitError::Unsupported { message: format!("{name} is not a commit") })
            }
            _ => Ok(fetched),
        }
    }

    async fn fetch_specs(&self, specs: &[String]) -> Result<(), GitError> {
        let options = [
            "fetch",
            "--quiet",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--prune",
            "--",
            &self.url,
        ];
        let call = self.git.call(&self.dir, options).network();
        let output = specs.iter().fold(call, |call, spec| call.arg(spec)).output().await?;
        if output.code == Some(0) { Ok(()) } else { Err(remote_failure("fetch", &output.stderr)) }
    }

    /// Joins packs when there are many. Keeps every object, reachable or not; runs that read
    /// meanwhile find the new pack by themselves. A failure costs only speed.
    async fn join_packs(&self) {
        let objects = self.objects();
        let count = blocking("count packs", move || count_packs(&objects)).await.unwrap_or(0);
        if count <= PACKS_MAX {
            return;
        }
        let call = self.git.call(&self.dir, ["repack", "--geometric=2", "-d", "-q"]);
        if let Err(error) = call.network().ok().await {
            tracing::warn!(%error, cache = %self.dir.display(), "packs could not be joined");
        }
    }

    /// The commit that a fetched ref points to, tags peeled; `None` if there is no such ref or it
    /// is not a commit.
    async fn commit_of(&self, name: Option<&str>, peel: bool) -> Result<Option<Oid>, GitError> {
        let Some(name) = name else { return Ok(None) };
        if !peel {
            // Branches point to commits, and a fetch leaves them as files: no process needed.
            let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            if let Ok(oid) = text.trim().parse() {
                return Ok(Some(oid));
            }
        }
        let commit = format!("{name}^{{commit}}");
        let options = ["rev-parse", "--verify", "--quiet", &commit];
        let output = self.git.call(&self.dir, options).output().await?;
        match output.code {
            Some(0) => output.text().trim().parse().map(Some),
            Some(1) => Ok(None),
            _ => Err(GitError::local("rev-parse", message_of(&output.stderr))),
        }
    }

    /// The directory, for tests and diagnosis.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn parse_remote_oid(text: &str) -> Result<Oid, GitError> {
    let unsupported = |_| GitError::Unsupported {
        message: format!("object ids like {text:?}; only SHA-1 repositories are supported"),
    };
    text.parse().map_err(unsupported)
}

/// A conservative form of git's rules for ref names, so that a name is never an option, a pattern
/// or a refspec.
pub(super) fn is_ref_name(name: &str) -> bool {
    let bad = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    !name.is_empty()
        && name.len() <= 1024
        && !name.starts_with(['-', '/'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("//")
        && !name.contains("@{")
        && !name.contains(bad)
        && name.split('/').all(|part| !part.starts_with('.') && !part.ends_with(".lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_start_programs_are_refused() {
        for bad in ["", "-x", "ext::sh -c id", "fd::17", "--upload-pack=id", "a\nb"] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        for good in ["/srv/a.git", "https://h/r", "git@host:r.git", "ssh://[::1]/r", "file:///a"] {
            assert!(check_url(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn ref_names() {
        assert!(is_ref_name("refs/heads/main") && is_ref_name("feature/a-b.c"));
        for bad in ["", "-x", "a..b", "a b", "a:b", "*", "a/.b", "x.lock", "a@{1}", "a//b"] {
            assert!(!is_ref_name(bad), "{bad}");
        }
    }

    #[test]
    fn directory_names_are_safe_and_distinct() {
        let name = directory_name("/srv/git/../some repo");
        assert!(!name.contains('/') && !name.contains(' '));
        assert_ne!(directory_name("a/b"), directory_name("a_b"));
    }
}
