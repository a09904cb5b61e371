//! Histories: what was seen from outside while faults happened, one JSON object a line. Harnesses and
//! simulations write them; the checker reads nothing else.
//!
//! Nothing in a history comes from the code under test: claims are read off the store's own event log,
//! effects off a hook of the real repository, life off the work itself, the rest off the harness.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was seen, in microseconds of `CLOCK_BOOTTIME`, or of the simulation's clock. All
    /// writers of one history share the clock.
    pub at_us: u64,
    /// What was seen.
    #[serde(flatten)]
    pub event: Event,
}

/// What can be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// The first line.
    Start {
        /// Which scenario, e.g. `F9` or `sim`.
        scenario: String,
        /// From which everything random follows.
        seed: u64,
        /// Lease time to live of workers, milliseconds.
        ttl_ms: u64,
        /// Everything of a run must be dead so long after its deadline, milliseconds.
        kill_budget_ms: u64,
        /// Within this time after the last fault ended every runnable loop must have ended,
        /// milliseconds.
        settle_ms: u64,
        /// Most claims at a time per node; 0: not judged.
        #[serde(default)]
        slots: u32,
    },
    /// A client calls.
    Invoke {
        /// Unique in the history; the return has the same.
        op: u64,
        /// Which client; one has one call under way at most.
        client: String,
        /// What it asks for.
        call: Call,
    },
    /// The call's answer.
    Return {
        /// Of the invocation.
        op: u64,
        /// What was said.
        answer: Answer,
    },
    /// A claim appeared in the store.
    Claimed {
        /// `namespace/name`.
        #[serde(rename = "loop")]
        key: String,
        /// Of the loop.
        uid: String,
        /// Who owns.
        node: String,
        /// Which life of the node.
        incarnation: String,
        /// Create revision of the claim's key.
        token: i64,
        /// The lease that the claim hangs on; 0: none, it would stay for ever.
        lease: i64,
        /// Canonical entries; shared ones end in ` (read)`.
        resources: Vec<String>,
        /// The store's revision of this change.
        revision: i64,
    },
    /// A claim is gone from the store.
    Unclaimed {
        /// `namespace/name`.
        #[serde(rename = "loop")]
        key: String,
        /// Token that it had.
        token: i64,
        /// The store's revision of this change.
        revision: i64,
    },
    /// A loop's status changed in the store.
    Status {
        /// `namespace/name`.
        #[serde(rename = "loop")]
        key: String,
        /// Of the loop.
        uid: String,
        /// Generation that the status speaks of.
        generation: u64,
        /// The phase's word.
        phase: String,
        /// Of the end, as the store has it, e.g. the published commit; empty while there is none.
        result: String,
        /// Tokens of runs that the status lists as never proven to have stopped.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unsealed: Vec<i64>,
        /// The store's revision of this change.
        revision: i64,
    },
    /// What was known of the store's contents is void: it was replaced, e.g. restored from a snapshot,
    /// or its event log was compacted before it was read. What is live is told anew after this line;
    /// revisions may start again at a lower number.
    StoreReset {
        /// In words.
        why: String,
    },
    /// Somebody became the leader, or nobody leads any more.
    Leader {
        /// Who; empty: nobody.
        id: String,
        /// The store's revision of this change.
        revision: i64,
    },
    /// A repository was asked to move a ref.
    Push {
        /// Which repository.
        repo: String,
        /// Which loop's journal it appends to.
        uid: String,
        /// Token of the record that it appends.
        token: i64,
        /// Sequence number of that record.
        sequence: u64,
        /// Kind of the record: `takeover`, `iteration`, `published`, …; empty if the push moves other
        /// refs of the loop without a record, which must never be accepted.
        record: String,
        /// Other refs that it moves.
        refs: Vec<String>,
        /// Whether the repository took it.
        accepted: bool,
    },
    /// A process of a run did something.
    Alive {
        /// Of the loop.
        uid: String,
        /// Token that it was given.
        token: i64,
        /// The node that it runs on.
        node: String,
        /// Its process id; in a simulation any number.
        pid: u64,
    },
    /// From here on nothing of a node's runs may be alive, whatever else happens: its deadline plus the
    /// kill budget have passed, as the harness knows from when it cut or stopped what.
    DeadBy {
        /// The node.
        node: String,
        /// Only runs with tokens up to this one; later ones are of another life.
        token_max: i64,
    },
    /// A fault begins.
    FaultBegins {
        /// What, e.g. `F5` or `kill worker n1`.
        fault: String,
    },
    /// A fault is over.
    FaultEnds {
        /// The same as when it began.
        fault: String,
    },
    /// The scenario's faults can take no loop from its owner; without this some owner has to change.
    OwnersStay {
        /// In words.
        why: String,
    },
    /// Something that shows that the fault bit, e.g. a refused push or a lost lease.
    Bite {
        /// In words.
        what: String,
    },
    /// A secret was put where it belongs. Its value is in no history: whoever seeks it later might find it there.
    SecretPlanted {
        /// What it is called.
        secret: String,
        /// Who has it, in words.
        #[serde(rename = "where")]
        place: String,
    },
    /// All that could be had of a surface was searched for a secret, in every form that the harness knows.
    SecretSought {
        /// What it is called.
        secret: String,
        /// Where it must not be, e.g. `sandbox` or `logs`.
        surface: String,
        /// How much was searched.
        bytes: u64,
    },
    /// A secret was found where it must not be.
    SecretSeen {
        /// What it is called.
        secret: String,
        /// As in [`Event::SecretSought`].
        surface: String,
        /// Where exactly, e.g. a file.
        #[serde(rename = "where")]
        place: String,
    },
    /// The last line. Loops are named that need not have ended, with the reason.
    End {
        /// `namespace/name` of loops that are allowed to be unfinished.
        unfinished: Vec<String>,
    },
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum Call {
    /// Create the loop or leave it as it is.
    Apply {
        /// `namespace/name`.
        #[serde(rename = "loop")]
        key: String,
        /// Digest of the manifest.
        digest: String,
    },
    /// Read the loop.
    Get {
        /// `namespace/name`.
        #[serde(rename = "loop")]
        key: String,
    },
    /// End the loop.
    Cancel {
        /// `namespace/name`.
        #[serde(rename = "loop")]
        key: String,
    },
    /// Remove the loop.
    Delete {
        /// `namespace/name`.
        #[serde(rename = "loop")]
        key: String,
    },
}

/// What a client was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It is so.
    Object {
        /// Of the loop.
        uid: String,
        /// Of its spec.
        generation: u64,
        /// Digest of the manifest as stored; empty if the call does not tell.
        digest: String,
        /// The phase's word.
        phase: String,
        /// As in [`Event::Status`].
        result: String,
    },
    /// There is no such loop.
    NotFound,
    /// Refused; nothing was changed.
    Refused {
        /// In words.
        message: String,
    },
    /// Nobody knows whether it was done.
    Unknown {
        /// In words.
        message: String,
    },
}

/// Writes a history; shared by the threads of a harness. Every line is flushed at once, so that a
/// killed harness leaves what it saw.
pub struct Writer {
    file: Mutex<File>,
}

impl Writer {
    /// Begins a history in a new file.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Mutex::new(File::create(path)?) })
    }

    /// Adds a line.
    ///
    /// # Panics
    /// When it cannot be written: a history with gaps must not be judged.
    pub fn write(&self, at_us: u64, event: Event) {
        let mut line = serde_json::to_string(&Entry { at_us, event }).expect("plain data");
        line.push('\n');
        let mut file = self.file.lock().expect("no writer panics while it holds the lock");
        file.write_all(line.as_bytes()).expect("the history can be written");
    }
}

/// Reads a history, in the order of its times.
///
/// # Errors
/// When the file cannot be read or a line is no entry.
pub fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        if !line.trim().is_empty() {
            entries.push(serde_json::from_str(&line)?);
        }
    }
    entries.sort_by_key(|entry: &Entry| entry.at_us);
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        let writer = Writer::create(&path).unwrap();
        let call = Call::Get { key: "default/a".to_owned() };
        let second = Event::Invoke { op: 1, client: "c".to_owned(), call };
        writer.write(2, second.clone());
        writer.write(1, Event::Bite { what: "x".to_owned() });
        let entries = read(&path).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1], Entry { at_us: 2, event: second });
    }
}
