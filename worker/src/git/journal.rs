//! The journal: the loop's append-only record in its own repository, and the seal that fences an
//! owner that lost its claim.
//!
//! A chain of commits on one ref; each holds one [`JournalRecord`] as JSON below a subject line
//! for people. Every push appends to the chain in the same atomic push as whatever else it
//! moves, so the server refuses all of it if anyone appended in between. A ref that does not
//! change is never sent and so fences nothing: that is why there is no push without a record.

use flyball_core::ids::{LoopUid, NodeName, Token};
use flyball_core::planted::{self, Bug};
use flyball_core::record::{JournalEntry, JournalRecord, RECORD_VERSION};

use super::error::{GitError, JournalError};
use super::journal_ref::LoopRefs;
use super::oid::Oid;
use super::push::{Pushed, RefUpdate};
use super::repo::RunRepo;
use super::subject::subject;

/// Most records read at once, newest first: enough for a loop's memory, bounded for a journal that
/// grew over months.
pub const RECORDS_MAX: usize = 200;
/// Most bytes of these records; one is far below 100 kB.
const RECORDS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a seal starts again because somebody appended while it read; each time somebody else
/// made progress.
const SEAL_ATTEMPTS_MAX: usize = 5;

/// Who appends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The loop whose journal it is.
    pub loop_uid: LoopUid,
    /// Token of the claim under which is written.
    pub token: Token,
    /// Node that writes.
    pub node: NodeName,
    /// Generation of the spec it works on.
    pub generation: u64,
    /// What it may change, as records tell it: [`flyball_core::record::told_paths`].
    pub owns: Option<Vec<String>>,
}

/// A loop's journal as last read or written.
#[derive(Debug, Clone)]
pub struct Journal {
    repo: RunRepo,
    refs: LoopRefs,
    tip: Option<Oid>,
    records: Vec<JournalRecord>,
}

/// A successful append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The record's commit, now the journal's tip or an ancestor of it.
    pub commit: Oid,
    /// The record as written.
    pub record: JournalRecord,
    /// True if the push's answer was lost and the record was found by reading back.
    pub read_back: bool,
}

impl Journal {
    /// Fetches the journal and reads its newest records.
    ///
    /// # Errors
    /// `Git` if it cannot be fetched, `Corrupt` if a record cannot be read.
    pub async fn open(repo: &RunRepo, refs: &LoopRefs) -> Result<Self, JournalError> {
        let fetched = repo.cache().fetch(None, Some(refs)).await?;
        Self::at(repo, refs, fetched.journal).await
    }

    /// Reads the journal at a tip that was fetched together with the base (`Cache::fetch`): one
    /// round trip less than [`Journal::open`].
    ///
    /// # Errors
    /// `Corrupt` if a record cannot be read, or a local failure.
    pub async fn at(
        repo: &RunRepo,
        refs: &LoopRefs,
        tip: Option<Oid>,
    ) -> Result<Self, JournalError> {
        let mut journal = Self { repo: repo.clone(), refs: refs.clone(), tip, records: Vec::new() };
        journal.read().await?;
        Ok(journal)
    }

    /// Reads only the newest record at a tip that was fetched: all that a seal needs. The rest is to be read
    /// with [`Journal::history`], e.g. while the seal is on its way, and added with [`Journal::add`].
    ///
    /// # Errors
    /// As [`Journal::at`].
    pub async fn at_last(
        repo: &RunRepo,
        refs: &LoopRefs,
        tip: Option<Oid>,
    ) -> Result<Self, JournalError> {
        let mut journal = Self { repo: repo.clone(), refs: refs.clone(), tip, records: Vec::new() };
        if let Some(tip) = &journal.tip {
            journal.records.push(Self::record(repo, tip).await?);
        }
        Ok(journal)
    }

    /// The record of a commit that is here.
    pub(super) async fn record(repo: &RunRepo, oid: &Oid) -> Result<JournalRecord, JournalError> {
        let found = repo.object(oid).await?;
        let found =
            found.ok_or_else(|| GitError::local("read journal", format!("{oid} is not here")))?;
        let commit = found.commit().ok_or_else(|| JournalError::Corrupt {
            commit: oid.clone(),
            message: "it is not a commit".to_owned(),
        })?;
        let (_, body) = commit.message.split_once("\n\n").unwrap_or_default();
        parse(oid.as_str(), body, oid)
    }

    /// The newest records of the chain that ends in this commit, newest first.
    ///
    /// # Errors
    /// As [`Journal::at`].
    pub async fn history(repo: &RunRepo, tip: &Oid) -> Result<Vec<JournalRecord>, JournalError> {
        let count = format!("-n{RECORDS_MAX}");
        let options = [
            "log",
            "--first-parent",
            "-z",
            "--encoding=UTF-8",
            &count,
            "--format=%H%n%b",
            tip.as_str(),
        ];
        let call = repo.call(options).stdout_bytes_max(RECORDS_BYTES_MAX);
        let text = call.ok().await?.text();
        let entries = text.split('\0').filter(|entry| !entry.trim().is_empty());
        entries
            .map(|entry| {
                let (commit, body) = entry.trim_start().split_once('\n').unwrap_or((entry, ""));
                parse(commit, body, tip)
            })
            .collect()
    }

    /// Adds older records to what is known: those of [`Journal::history`] at the tip that this was read
    /// at. What is known already stays; after a seal that had to read again nothing is missing.
    pub fn add(&mut self, history: Vec<JournalRecord>) {
        let oldest = self.records.last().map_or(u64::MAX, |record| record.sequence);
        self.records.extend(history.into_iter().filter(|record| record.sequence < oldest));
        self.records.truncate(RECORDS_MAX);
    }

    /// The newest commit of the chain.
    pub fn tip(&self) -> Option<&Oid> {
        self.tip.as_ref()
    }

    /// The newest record.
    pub fn last(&self) -> Option<&JournalRecord> {
        self.records.first()
    }

    /// Known records, newest first, at most [`RECORDS_MAX`].
    pub fn records(&self) -> &[JournalRecord] {
        &self.records
    }

    /// The refs of this loop.
    pub fn refs(&self) -> &LoopRefs {
        &self.refs
    }

    /// The newest run ref's token and checkpoint that records tell of: the token of the newest
    /// record that kept or rebased a checkpoint, and that commit.
    pub fn checkpoint(&self) -> Option<(Token, String)> {
        self.records.iter().find_map(|record| match &record.entry {
            JournalEntry::Iteration(iteration) => {
                iteration.checkpoint.clone().map(|commit| (record.token, commit))
            }
            JournalEntry::Rebased { checkpoint, .. } => Some((record.token, checkpoint.clone())),
            _ => None,
        })
    }

    /// The ref to which this commit was published under this generation of the spec, if the journal
    /// says so. To be asked after a takeover, before publishing (again).
    pub fn find_published(&self, commit: &Oid, generation: u64) -> Option<String> {
        let mut records = self.records.iter().filter(|record| record.generation == generation);
        records.find_map(|record| match &record.entry {
            JournalEntry::Published { commit: published, reference }
                if published == commit.as_str() =>
            {
                Some(reference.clone())
            }
            _ => None,
        })
    }

    /// Seals the journal for a new owner: refuses if its last token is not older, then appends the
    /// takeover. From then on every push of older owners is refused by the server.
    ///
    /// # Errors
    /// [`JournalError::Fenced`] if the journal already is at this token or a later one; others as
    /// for [`Journal::append`].
    pub async fn seal(&mut self, owner: &Owner, base: &Oid) -> Result<Appended, JournalError> {
        let entry = JournalEntry::Takeover { base: base.to_string() };
        self.seal_with(owner, entry).await
    }

    /// Seals the journal of another loop whose run of token `through` was never proven to have
    /// stopped. The token of `owner` is that of the claim that overlaps; claims of one store share
    /// one order. `None` if somebody with a later token than `through` has appended: that run is
    /// shut out already, and whoever did it may be at work there, elsewhere than on our resources.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub async fn seal_for_other(
        &mut self,
        owner: &Owner,
        by: &LoopUid,
        through: Token,
    ) -> Result<Option<Appended>, JournalError> {
        let entry = JournalEntry::SealedByOther { by: by.clone() };
        let mut attempt = 1;
        loop {
            if self.last().is_some_and(|last| last.token > through) {
                return Ok(None);
            }
            // Of the loop whose journal it is.
            let owns = self.last().and_then(|last| last.owns.clone());
            let owner = Owner { owns, ..owner.clone() };
            match self.append(&owner, entry.clone(), &[]).await {
                Err(JournalError::Fenced { .. }) if attempt < SEAL_ATTEMPTS_MAX => {
                    attempt += 1;
                    *self = Self::open(&self.repo, &self.refs).await?;
                }
                result => return result.map(Some),
            }
        }
    }

    async fn seal_with(
        &mut self,
        owner: &Owner,
        entry: JournalEntry,
    ) -> Result<Appended, JournalError> {
        let mut attempt = 1;
        loop {
            self.refuse_unless_older(owner)?;
            match self.append(owner, entry.clone(), &[]).await {
                // Somebody older appended after we read; their record is in the journal now.
                Err(JournalError::Fenced { found_token, .. })
                    if found_token < owner.token.0 && attempt < SEAL_ATTEMPTS_MAX =>
                {
                    attempt += 1;
                    *self = Self::open(&self.repo, &self.refs).await?;
                }
                result => return result,
            }
        }
    }

    fn refuse_unless_older(&self, owner: &Owner) -> Result<(), JournalError> {
        match self.last() {
            Some(last) if planted::is(Bug::TokenWithoutOrder) && last.token != owner.token => {
                Ok(())
            }
            Some(last) if last.token >= owner.token => {
                Err(JournalError::Fenced { found_token: last.token.0, own_token: owner.token.0 })
            }
            _ => Ok(()),
        }
    }

    /// Appends one record and moves `extra` refs (run ref, publish branch) in the same atomic
    /// push. Either everything is applied or nothing. A lost answer is resolved by reading back.
    ///
    /// # Errors
    /// [`JournalError::Fenced`]: stop, somebody else owns the loop. `PublishMoved`: observe again.
    /// `Git(Rejected)`: the server's own rules. `Git(Unreachable)`: nothing was applied yet; if a
    /// push is still under way and lands later, the next append says [`JournalError::Late`].
    /// `Git(Unknown)`: not even reading back worked; open the journal again later.
    pub async fn append(
        &mut self,
        owner: &Owner,
        entry: JournalEntry,
        extra: &[RefUpdate],
    ) -> Result<Appended, JournalError> {
        let record = JournalRecord {
            version: RECORD_VERSION,
            loop_uid: owner.loop_uid.clone(),
            token: owner.token,
            generation: owner.generation,
            sequence: self.last().map_or(1, |last| last.sequence.saturating_add(1)),
            node: owner.node.clone(),
            at: jiff::Timestamp::now(),
            owns: owner.owns.clone(),
            entry,
        };
        let commit = self.write_record(&record).await?;
        let journal =
            RefUpdate { name: self.refs.journal(), old: self.tip.clone(), new: commit.clone() };
        let moves_journal = extra.is_empty() || !planted::is(Bug::JournalNotMoved);
        let mut updates = extra.to_vec();
        if moves_journal {
            updates.insert(0, journal);
        }
        let pushed = match self.repo.push(&updates).await {
            Ok(pushed) => pushed,
            Err(JournalError::Fenced { .. }) => return Err(self.fenced(owner).await?),
            Err(error) => return Err(error),
        };
        if moves_journal {
            self.tip = Some(commit.clone());
        }
        self.records.insert(0, record.clone());
        self.records.truncate(RECORDS_MAX);
        Ok(Appended { commit, record, read_back: pushed == Pushed::ReadBack })
    }

    /// Reads the journal again to say who fenced us.
    async fn fenced(&self, owner: &Owner) -> Result<JournalError, JournalError> {
        let now = Self::open(&self.repo, &self.refs).await?;
        if now.last().is_some_and(|last| last.token == owner.token && last.node == owner.node) {
            return Ok(JournalError::Late);
        }
        let found_token = now.last().map_or(0, |last| last.token.0);
        Ok(JournalError::Fenced { found_token, own_token: owner.token.0 })
    }

    /// The record's commit. One that tells of a checkpoint has it as its second parent: what the journal
    /// vouches for is then reachable from the journal alone. A server that is killed while it moves the
    /// refs of one push may have moved the journal and not the run ref: git takes all locks together, but
    /// writes one ref after the other.
    async fn write_record(&self, record: &JournalRecord) -> Result<Oid, GitError> {
        let json = serde_json::to_string_pretty(record)
            .map_err(|error| GitError::local("write record", error))?;
        let message = format!("{}\n\n{json}", subject(record));
        let mut parents: Vec<Oid> = self.tip.iter().cloned().collect();
        // The first parent is always the record before.
        if !parents.is_empty() {
            parents.extend(checkpoint_of(&record.entry));
        }
        self.repo.commit_tree(&Oid::empty_tree(), &parents, &message, record.at).await
    }

    /// Reads the newest records of the chain.
    async fn read(&mut self) -> Result<(), JournalError> {
        if let Some(tip) = &self.tip {
            self.records = Self::history(&self.repo, tip).await?;
        }
        Ok(())
    }
}

/// A record from the body of its commit.
fn parse(commit: &str, body: &str, tip: &Oid) -> Result<JournalRecord, JournalError> {
    serde_json::from_str(body).map_err(|error| JournalError::Corrupt {
        commit: commit.trim().parse().unwrap_or_else(|_| tip.clone()),
        message: error.to_string(),
    })
}

/// The checkpoint that a record vouches for.
fn checkpoint_of(entry: &JournalEntry) -> Option<Oid> {
    let text = match entry {
        JournalEntry::Iteration(iteration) => iteration.checkpoint.as_ref()?,
        JournalEntry::Rebased { checkpoint, .. } => checkpoint,
        JournalEntry::Published { commit, .. } => commit,
        _ => return None,
    };
    text.parse().ok()
}
