//! The repository that a fleet works on, and what its hooks saw.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use flyball_core::record::{JournalEntry, JournalRecord};
use flyball_tests::history::{Entry, Event};
use flyball_tests::repo::Repo;

use super::served::Served;
use super::work::{HookCall, install_hooks};

/// A push that has been asked for and has not ended.
struct UnderWay {
    asked: HookCall,
    /// Set while the server holds the locks of all refs.
    locked: Option<HookCall>,
}

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

    /// All that is in there, reachable or not: names of refs, and every object.
    pub(crate) fn contents(&self) -> String {
        let objects = ["cat-file", "--batch-all-objects", "--batch", "--unordered"];
        self.repo.git(&["for-each-ref"]) + &self.repo.git(&objects)
    }

    /// All pushes of journals so far, as the hooks saw them.
    pub(crate) fn pushes(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be under way.
        let calls = text.lines().filter_map(|line| serde_json::from_str::<HookCall>(line).ok());
        let mut under_way: BTreeMap<i32, UnderWay> = BTreeMap::new();
        let mut found = Vec::new();
        for call in calls {
            let server = call.server;
            match call.stage.as_str() {
                "asked" => {
                    let begun = UnderWay { asked: call, locked: None };
                    let earlier = under_way.insert(server, begun);
                    // Process ids come again; what was asked before has had its end.
                    found.extend(earlier.and_then(|push| self.cut_off(&push)));
                }
                "prepared" => {
                    if let Some(push) = under_way.get_mut(&server) {
                        push.locked = Some(call);
                    }
                }
                "committed" => {
                    // The time at which all refs were locked: nobody else could move them until
                    // the end of this push. Git also tells of transactions without locks.
                    let locked = under_way.get_mut(&server).and_then(|push| push.locked.take());
                    if let Some(locked) = locked {
                        under_way.remove(&server);
                        found.extend(self.push(&locked, true));
                    }
                }
                _ => {
                    if let Some(push) = under_way.get_mut(&server) {
                        push.locked = None;
                    }
                }
            }
        }
        found.extend(under_way.into_values().filter_map(|push| self.cut_off(&push)));
        found.sort_by_key(|entry| entry.at_us);
        found
    }

    /// A push whose end no hook told of. A server that was killed may have moved the journal just
    /// before: then what it got is in the journal, which only grows.
    fn cut_off(&self, push: &UnderWay) -> Option<Entry> {
        match &push.locked {
            Some(locked) if self.kept(locked) => self.push(locked, true),
            _ => self.push(&push.asked, false),
        }
    }

    /// True when the journal holds what was sent to it.
    fn kept(&self, call: &HookCall) -> bool {
        call.refs.iter().find(|(_, _, name)| name.ends_with("/journal")).is_some_and(
            |(_, new, name)| self.repo.try_git(&["merge-base", "--is-ancestor", new, name]).is_ok(),
        )
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
