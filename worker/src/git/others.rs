//! Journals of other installations in the same repository: who else has begun work there. A store that was wiped is
//! another installation, whose workers may still be at work for the one before.

use std::collections::BTreeMap;

use flyball_core::ids::InstallationId;
use flyball_core::record::JournalRecord;

use super::error::{GitError, JournalError, remote_failure};
use super::journal::Journal;
use super::journal_ref::LoopRefs;
use super::oid::Oid;
use super::repo::RunRepo;

/// Most bytes of the list of journals: about 140 each, so some 400 000 loops. A push is told of all refs, too.
const LIST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Journals fetched by one call: each is an argument, which together must stay far below the system's bound (2 MB).
const FETCHED_AT_ONCE: usize = 500;

/// The journal of a loop of another installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// Full name of its ref.
    pub reference: String,
    /// Whose it is.
    pub installation: InstallationId,
    /// Its newest record; `None` if it cannot be read.
    pub last: Option<JournalRecord>,
}

impl RunRepo {
    /// The journals of other installations under the prefix of these refs, as of now. One round trip if there are none.
    ///
    /// # Errors
    /// `Unreachable`, also if one was deleted meanwhile; or a local failure.
    pub async fn journals_of_others(&self, refs: &LoopRefs) -> Result<Vec<Other>, GitError> {
        let found = self.list_others(refs).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        // A repository of its own: only the newest commits are fetched, and a shallow repository is not one to work in.
        let side = Self::create(self.cache(), &self.dir().join("others")).await?;
        for some in found.chunks(FETCHED_AT_ONCE) {
            side.fetch_newest(some).await?;
        }
        let tips = side.fetched().await?;
        let mut others = Vec::with_capacity(found.len());
        for (reference, installation) in found {
            let last = match tips.get(&reference) {
                Some(tip) => newest(&side, tip).await?,
                None => None,
            };
            others.push(Other { reference, installation, last });
        }
        Ok(others)
    }

    async fn list_others(
        &self,
        refs: &LoopRefs,
    ) -> Result<Vec<(String, InstallationId)>, GitError> {
        let call = self.call(["ls-remote", "--refs", "--"]).arg(self.url());
        let call = call.arg(refs.every_journal()).network().stdout_bytes_max(LIST_BYTES_MAX);
        let output = call.output().await?;
        if output.code != Some(0) {
            return Err(remote_failure("ls-remote", &output.stderr));
        }
        let text = output.text();
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        let others =
            lines.filter_map(|(_, name)| Some((name.to_owned(), refs.other_installation(name)?)));
        Ok(others.collect())
    }

    async fn fetch_newest(&self, some: &[(String, InstallationId)]) -> Result<(), GitError> {
        let options = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--depth=1", "--"];
        let call = self.call(options).network().arg(self.url());
        let call = some.iter().fold(call, |call, (name, _)| call.arg(format!("+{name}:{name}")));
        let output = call.output().await?;
        if output.code == Some(0) {
            return Ok(());
        }
        match remote_failure("fetch", &output.stderr) {
            // Deleted since it was listed: to be listed again.
            GitError::MissingRef { reference } => {
                Err(GitError::Unreachable { message: format!("{reference} was deleted meanwhile") })
            }
            error => Err(error),
        }
    }

    /// Where the refs of this repository are: of those that moved since they were listed, the newest.
    async fn fetched(&self) -> Result<BTreeMap<String, Oid>, GitError> {
        let call = self.call(["for-each-ref", "--format=%(objectname) %(refname)"]);
        let text = call.stdout_bytes_max(LIST_BYTES_MAX).ok().await?.text();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        Ok(lines.filter_map(|(oid, name)| Some((name.to_owned(), oid.parse().ok()?))).collect())
    }
}

/// The record there; `None` if it is none that this version can read.
async fn newest(side: &RunRepo, tip: &Oid) -> Result<Option<JournalRecord>, GitError> {
    match Journal::record(side, tip).await {
        Ok(record) => Ok(Some(record)),
        Err(JournalError::Git(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
