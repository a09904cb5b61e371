//! The worker's side of a journal: as `worker/src/git/journal.rs` does it, over the simulated
//! repository. Sealed before work, appended to with every push, read back when an answer is lost.

use std::time::Duration;

use flyball_core::planted::{self, Bug};

use crate::chance::Chance;
use crate::git::{self, Answer, Call, Push, Record};

/// How often a lost answer is looked for, and how long to wait between.
const READS_MAX: u32 = 4;
const READ_PAUSE: Duration = Duration::from_millis(500);
/// As in the product.
const SEAL_ATTEMPTS_MAX: u32 = 5;

/// Why an append did not happen.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Somebody else owns the loop.
    Fenced,
    /// Nobody knows, or the repository cannot be reached.
    Unknown,
}

/// A journal as last read or written.
pub(crate) struct Journal<'a> {
    uid: String,
    token: i64,
    pub(crate) records: Vec<Record>,
    chance: &'a Chance,
}

impl<'a> Journal<'a> {
    pub(crate) async fn open(uid: &str, token: i64, chance: &'a Chance) -> Result<Self, Refused> {
        let call = Call::Read { uid: uid.to_owned() };
        match git::call(&call).await {
            Some(Answer::Journal { records, .. }) => {
                Ok(Self { uid: uid.to_owned(), token, records, chance })
            }
            _ => Err(Refused::Unknown),
        }
    }

    /// Appends the takeover, or refuses.
    pub(crate) async fn seal(&mut self, kind: &str) -> Result<(), Refused> {
        for _ in 0..SEAL_ATTEMPTS_MAX {
            let last = self.records.last().map_or(0, |record| record.token);
            let older = match planted::is(Bug::TokenWithoutOrder) {
                true => last != self.token,
                false => last < self.token,
            };
            if !older {
                return Err(Refused::Fenced);
            }
            let checkpoint = self.checkpoint();
            match self.append(kind, &checkpoint, None).await {
                Err(Refused::Fenced) => {
                    *self = Self::open(&self.uid, self.token, self.chance).await?;
                }
                result => return result,
            }
        }
        Err(Refused::Unknown)
    }

    /// The newest commit of the work.
    pub(crate) fn checkpoint(&self) -> String {
        self.records.last().map(|record| record.commit.clone()).unwrap_or_default()
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.records.iter().filter(|record| record.kind == kind).count()
    }

    /// Appends a record, and moves a branch with it.
    pub(crate) async fn append(
        &mut self,
        kind: &str,
        commit: &str,
        branch: Option<(String, Option<String>, String)>,
    ) -> Result<(), Refused> {
        let record = Record {
            id: format!("{:016x}", self.chance.next()),
            token: self.token,
            sequence: self.records.last().map_or(1, |record| record.sequence + 1),
            kind: kind.to_owned(),
            commit: commit.to_owned(),
        };
        let old = self.records.last().map(|record| record.id.clone());
        let moves_journal = branch.is_none() || !planted::is(Bug::JournalNotMoved);
        let push =
            Push { uid: self.uid.clone(), old, record: record.clone(), moves_journal, branch };
        match git::call(&Call::Push(push)).await {
            Some(Answer::Done) => {}
            Some(_) => return Err(Refused::Fenced),
            None => self.read_back(&record).await?,
        }
        if moves_journal {
            self.records.push(record);
        }
        Ok(())
    }

    async fn read_back(&self, record: &Record) -> Result<(), Refused> {
        for _ in 0..READS_MAX {
            match Self::open(&self.uid, self.token, self.chance).await {
                Ok(found) if found.records.contains(record) => return Ok(()),
                Ok(found) if found.records.last() != self.records.last() => {
                    return Err(Refused::Fenced);
                }
                // Not there yet: it may still be under way.
                Ok(_) | Err(_) => tokio::time::sleep(READ_PAUSE).await,
            }
        }
        Err(Refused::Unknown)
    }
}
