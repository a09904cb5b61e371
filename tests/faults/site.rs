//! The repository that a fleet works on, and what its hooks saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flyball_core::record::{JournalEntry, JournalRecord};
use flyball_tests::history::{Entry, Event};
use flyball_tests::repo::Repo;

use super::served::Served;
use super::work::{HookCall, install_hooks};

/// A bare repository with hooks.
pub(crate) struct Site {
    repo: Repo,
    log: PathBuf,
    /// The server in front of it, if there is one.
    pub(crate) served: Option<Served>,
}

impl Site {
    /// A repository with one list of open items per loop.
    pub(crate) fn new(loops: &[String], items: usize, dir: &Path, served: bool) -> Self {
        let text: String = (1..=items).map(|item| format!("i{item} open\n")).collect();
        let names: Vec<_> = loops.iter().map(|name| format!("{name}.txt")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
        let repo = Repo::with(&files);
        // Commits of refused pushes are read at the end.
        repo.config("gc.auto", "0");
        repo.config("receive.autogc", "false");
        let log = dir.join("hooks.jsonl");
        install_hooks(&repo.path(), &log);
        let served = served.then(|| Served::start(&repo.path()));
        Self { repo, log, served }
    }

    /// Its path, as loops name it.
    pub(crate) fn url(&self) -> String {
        match &self.served {
            Some(served) => served.url(),
            None => self.repo.path().display().to_string(),
        }
    }

    /// All pushes of journals so far, as the hooks saw them.
    pub(crate) fn pushes(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be under way.
        let calls = text.lines().filter_map(|line| serde_json::from_str::<HookCall>(line).ok());
        let mut asked: BTreeMap<i32, HookCall> = BTreeMap::new();
        let mut prepared: BTreeMap<i32, HookCall> = BTreeMap::new();
        let mut found = Vec::new();
        for call in calls {
            match call.stage.as_str() {
                "asked" => {
                    let earlier = asked.insert(call.server, call);
                    // Process ids come again; what was asked before has had its end.
                    found.extend(earlier.and_then(|call| self.push(&call, false)));
                }
                "prepared" => drop(prepared.insert(call.server, call)),
                "committed" => {
                    if let Some(locked) = prepared.remove(&call.server) {
                        let ours = asked.remove(&call.server).is_some();
                        // The time at which all refs were locked: nobody else could move them
                        // until the end of this push.
                        found.extend(ours.then(|| self.push(&locked, true)).flatten());
                    }
                }
                _ => drop(prepared.remove(&call.server)),
            }
        }
        found.extend(asked.into_values().filter_map(|call| self.push(&call, false)));
        found.sort_by_key(|entry| entry.at_us);
        found
    }

    /// The push of a journal's record; `None` for other pushes.
    fn push(&self, call: &HookCall, accepted: bool) -> Option<Entry> {
        let (_, new, name) = call.refs.iter().find(|(_, _, name)| name.ends_with("/journal"))?;
        let uid = name.rsplit('/').nth(1)?.to_owned();
        let record = self.record(new);
        let others = call.refs.iter().map(|(_, _, name)| name.clone());
        let event = Event::Push {
            repo: self.url(),
            uid,
            token: record.as_ref().map_or(0, |record| record.token.0),
            sequence: record.as_ref().map_or(0, |record| record.sequence),
            record: record.map_or_else(|| "unknown".to_owned(), |record| kind(&record.entry)),
            refs: others.filter(|other| other != name).collect(),
            accepted,
        };
        Some(Entry { at_us: call.at_us, event })
    }

    /// The record in a journal's commit; of a refused push it may be gone.
    fn record(&self, commit: &str) -> Option<JournalRecord> {
        let body = self.repo.try_git(&["log", "-1", "--format=%b", commit]).ok()?;
        serde_json::from_str(&body).ok()
    }
}

fn kind(entry: &JournalEntry) -> String {
    let kind = match entry {
        JournalEntry::Takeover { .. } => "takeover",
        JournalEntry::SealedByOther { .. } => "sealed-by-other",
        JournalEntry::Iteration(_) => "iteration",
        JournalEntry::Rebased { .. } => "rebased",
        JournalEntry::Published { .. } => "published",
        JournalEntry::Ended { .. } => "ended",
    };
    kind.to_owned()
}
