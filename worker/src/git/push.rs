//! One atomic compare-and-swap push of several refs, and what its answer means.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::{GitError, JournalError, message_of, remote_failure};
use super::oid::Oid;
use super::repo::RunRepo;

/// How often the same commits are pushed again after reading back showed that nothing of the push
/// was applied. Safe because the journal's old value is compared each time and the commits are the
/// same: at most one of the pushes can move the refs.
const PUSH_ATTEMPTS_MAX: u32 = 3;
/// Pause before pushing again, so that a server in trouble is not hammered.
const PUSH_PAUSE: Duration = Duration::from_millis(100);

/// A ref to move from an expected value to a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// Full name.
    pub name: String,
    /// Where it must be; `None`: it must not exist.
    pub old: Option<Oid>,
    /// Where it goes.
    pub new: Oid,
}

/// Whether a push may still reach its server though nobody waits for the answer any more. Clones share
/// the answer. It ends when the journal moves: then the server refuses what comes late.
#[derive(Debug, Clone, Default)]
pub struct Doubt(Arc<AtomicBool>);

impl Doubt {
    /// True if it may.
    pub fn holds(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Says so, and tells what was known before.
    fn set(&self, holds: bool) -> bool {
        self.0.swap(holds, Ordering::AcqRel)
    }
}

/// How it is known that a push was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The server said so.
    Answered,
    /// The answer was lost; the refs were read back.
    ReadBack,
}

/// What one push process told.
enum Answer {
    Applied,
    /// Refused by the client's or the server's compare, or by the server's own rules.
    Refused(String),
    /// The connection failed: before, in or after the push.
    Lost(String),
    Never(GitError),
}

impl RunRepo {
    /// Pushes all updates or none. The first one is the journal.
    ///
    /// # Errors
    /// `Fenced` (without the token found, which the caller reads) if the journal is not where it
    /// was expected, `PublishMoved` if another ref is not, else `Git`.
    pub(super) async fn push(&self, updates: &[RefUpdate]) -> Result<Pushed, JournalError> {
        // Before the first byte: whoever drops this half-way leaves it in doubt.
        let before = self.doubt().set(true);
        let mut lost = false;
        let result = self.push_until_known(updates, &mut lost).await;
        let moved = matches!(result, Ok(_) | Err(JournalError::Fenced { .. }));
        self.doubt().set(!moved && (before || lost));
        result
    }

    async fn push_until_known(
        &self,
        updates: &[RefUpdate],
        lost: &mut bool,
    ) -> Result<Pushed, JournalError> {
        let mut attempt = 1;
        loop {
            let (message, refused) = match self.push_once(updates).await {
                Answer::Applied => return Ok(Pushed::Answered),
                Answer::Never(error) => return Err(error.into()),
                Answer::Refused(message) => (message, true),
                Answer::Lost(message) => {
                    *lost = true;
                    (message, false)
                }
            };
            match self.read_back(updates, &message).await? {
                Found::New => return Ok(Pushed::ReadBack),
                Found::Old if refused => return Err(GitError::Rejected { message }.into()),
                Found::Old if attempt < PUSH_ATTEMPTS_MAX => {
                    attempt += 1;
                    tokio::time::sleep(PUSH_PAUSE).await;
                }
                Found::Old => return Err(GitError::Unreachable { message }.into()),
            }
        }
    }

    async fn push_once(&self, updates: &[RefUpdate]) -> Answer {
        let mut call = self.call(["push", "--porcelain", "--atomic", "--no-follow-tags"]);
        if !self.git().runs_hooks() {
            call = call.arg("--no-verify");
        }
        for update in updates {
            let old = update.old.as_ref().map_or("", Oid::as_str);
            call = call.arg(format!("--force-with-lease={}:{old}", update.name));
        }
        call = call.network().arg("--").arg(self.url());
        for update in updates {
            call = call.arg(format!("{}:{}", update.new, update.name));
        }
        // Whatever stopped the process, the server may already have had the push.
        let output = match call.output().await {
            Ok(output) => output,
            Err(error) => return Answer::Lost(error.to_string()),
        };
        if output.code == Some(0) {
            return Answer::Applied;
        }
        let text = output.text();
        let reasons: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("!\t"))
            .filter(|line| !line.contains("(atomic push failed)"))
            .collect();
        let lost = reasons.iter().any(|line| line.contains("remote failure"));
        if !reasons.is_empty() && !lost && !failed_to_unpack(&reasons, &output.stderr) {
            let said = message_of(&output.stderr);
            return Answer::Refused(format!("{}; {said}", reasons.join("; ")));
        }
        match remote_failure("push", &output.stderr) {
            error @ (GitError::AtomicUnsupported | GitError::Unsupported { .. }) => {
                Answer::Never(error)
            }
            _ => Answer::Lost(message_of(&output.stderr)),
        }
    }

    /// Looks where the refs are after a push that was refused or whose answer was lost.
    async fn read_back(&self, updates: &[RefUpdate], why: &str) -> Result<Found, JournalError> {
        let names: Vec<String> = updates.iter().map(|update| update.name.clone()).collect();
        let found = match self.cache().ls_remote(&names).await {
            Ok(found) => found,
            Err(error) => {
                let message = format!("{why}; reading back failed too: {error}");
                return Err(GitError::Unknown { message }.into());
            }
        };
        let Some((journal, extra)) = updates.split_first() else { return Ok(Found::New) };
        let now = found.get(&journal.name);
        if now == Some(&journal.new) {
            return self.whole(extra, &found).await;
        }
        if now != journal.old.as_ref() {
            return self.ours_below(journal, now).await;
        }
        for update in extra {
            let now = found.get(&update.name);
            if now != update.old.as_ref() {
                let reference = update.name.clone();
                return Err(JournalError::PublishMoved { reference, found: now.cloned() });
            }
        }
        Ok(Found::Old)
    }

    /// The journal has moved. A server keeps an atomic push whole unless it dies between two refs: git
    /// writes them one after the other, so then the rest is missing and the record says too much.
    async fn whole(
        &self,
        extra: &[RefUpdate],
        found: &BTreeMap<String, Oid>,
    ) -> Result<Found, JournalError> {
        for update in extra {
            if !self.holds(&update.name, &update.new, found.get(&update.name)).await? {
                let message = format!(
                    "the server applied a part of an atomic push: {} does not hold {}",
                    update.name, update.new
                );
                return Err(GitError::Unknown { message }.into());
            }
        }
        Ok(Found::New)
    }

    /// Whether the remote ref that was found at `now` is at a commit or has it below.
    async fn holds(&self, name: &str, commit: &Oid, now: Option<&Oid>) -> Result<bool, GitError> {
        match now {
            None => Ok(false),
            Some(now) if now == commit => Ok(true),
            Some(now) => {
                self.fetch_ref(name).await?;
                self.is_ancestor(commit, now).await
            }
        }
    }

    /// Whether a ref of the remote is at a commit or has it below, as of now.
    ///
    /// # Errors
    /// When the remote cannot be asked.
    pub async fn remote_holds(&self, name: &str, commit: &Oid) -> Result<bool, GitError> {
        let found = self.cache().ls_remote(&[name.to_owned()]).await?;
        self.holds(name, commit, found.get(name)).await
    }

    /// The journal is elsewhere: our record may be in its chain, with others on top.
    async fn ours_below(
        &self,
        journal: &RefUpdate,
        now: Option<&Oid>,
    ) -> Result<Found, JournalError> {
        let fenced = JournalError::Fenced { found_token: 0, own_token: 0 };
        let Some(now) = now else { return Err(fenced) };
        self.fetch_ref(&journal.name).await?;
        if self.is_ancestor(&journal.new, now).await? { Ok(Found::New) } else { Err(fenced) }
    }

    /// Brings the objects of one remote ref into this repository.
    async fn fetch_ref(&self, name: &str) -> Result<(), GitError> {
        let options = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--"];
        let output = self.call(options).network().arg(self.url()).arg(name).output().await?;
        if output.code == Some(0) { Ok(()) } else { Err(remote_failure("fetch", &output.stderr)) }
    }
}

/// Whether the server took the push and could not store what was in it. That is no refusal: half a pack
/// comes from a client that cannot fork, and a server's disk may have room again. Two causes stay as they
/// are, and are its rules: what may be in an object, and how large a push may be.
fn failed_to_unpack(reasons: &[&str], stderr: &str) -> bool {
    const FAULTS: [&str; 3] = ["unpacker error", "failed to unpack", "unable to migrate objects"];
    const RULES: [&str; 2] = ["fsck error", "exceeds maximum allowed size"];
    let has = |needles: &[&str], text: &str| needles.iter().any(|needle| text.contains(needle));
    reasons.iter().any(|line| has(&FAULTS, line)) && !has(&RULES, stderr)
}

/// Where reading back found the refs.
enum Found {
    /// The push was applied.
    New,
    /// Nothing has moved.
    Old,
}
