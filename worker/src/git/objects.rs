//! Reading objects through one git process that stays: what a takeover reads one after the other (records of
//! the journal, commits, their trees) would else be a process each, and starting those is most of its time.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use super::error::GitError;
use super::oid::Oid;
use super::runner::Running;

/// Longest time for one object. It is on this machine's disk, so more means that the process hangs.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Largest object that is read: records and commits of ours are far below a megabyte, and a message of a
/// commit of somebody else's is not worth more.
const OBJECT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An object's kind and content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) kind: String,
    pub(super) content: Vec<u8>,
}

/// The process of one repository, started with the first question and again after a failure. Clones
/// share it; one question at a time.
#[derive(Debug, Clone, Default)]
pub(super) struct Objects(Arc<Mutex<Option<Process>>>);

#[derive(Debug)]
struct Process {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Killed with everything it started when this is dropped.
    _running: Running,
}

impl Objects {
    /// Starts the process ahead of the first question, so that nobody waits for it then.
    pub(super) async fn warm_up(&self, start: impl FnOnce() -> tokio::process::Command) {
        let mut process = self.0.lock().await;
        if process.is_none() {
            // Whoever asks next starts it again and says what is wrong.
            *process = Process::start(start()).ok();
        }
    }

    /// The object; `None` if there is none of this name.
    pub(super) async fn read(
        &self,
        oid: &Oid,
        start: impl FnOnce() -> tokio::process::Command,
    ) -> Result<Option<Object>, GitError> {
        let mut slot = self.0.lock().await;
        // Taken out: a question that is dropped half-way leaves no process with its answer in the pipe.
        let mut process = match slot.take() {
            Some(process) => process,
            None => Process::start(start())?,
        };
        let answer = tokio::time::timeout(ANSWER_MAX, process.ask(oid)).await;
        let answer = answer.map_err(|_| GitError::TimedOut {
            operation: "cat-file".to_owned(),
            seconds: ANSWER_MAX.as_secs(),
        })??;
        *slot = Some(process);
        Ok(answer)
    }
}

impl Process {
    fn start(mut command: tokio::process::Command) -> Result<Self, GitError> {
        let failed = |error| GitError::local("cat-file", error);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let running = Running { child };
        let (questions, answers) =
            pipes.ok_or_else(|| GitError::local("cat-file", "its pipes are missing"))?;
        Ok(Self { questions, answers: BufReader::new(answers), _running: running })
    }

    async fn ask(&mut self, oid: &Oid) -> Result<Option<Object>, GitError> {
        let failed = |error: std::io::Error| GitError::local("cat-file", error);
        self.questions.write_all(format!("{oid}\n").as_bytes()).await.map_err(failed)?;
        self.questions.flush().await.map_err(failed)?;
        let mut line = String::new();
        self.answers.read_line(&mut line).await.map_err(failed)?;
        let malformed = || GitError::local("cat-file", format!("it answered {line:?}"));
        let mut words = line.split_ascii_whitespace();
        let (_, kind) = words.next().zip(words.next()).ok_or_else(malformed)?;
        if kind == "missing" {
            return Ok(None);
        }
        let bytes: usize = words.next().and_then(|word| word.parse().ok()).ok_or_else(malformed)?;
        if bytes > OBJECT_BYTES_MAX {
            return Err(GitError::TooLarge {
                operation: "cat-file".to_owned(),
                bytes_max: OBJECT_BYTES_MAX,
            });
        }
        // The content is followed by a line's end.
        let mut content = vec![0; bytes + 1];
        self.answers.read_exact(&mut content).await.map_err(failed)?;
        content.truncate(bytes);
        Ok(Some(Object { kind: kind.to_owned(), content }))
    }
}

/// Header lines of a commit's content, up to the empty line, and its message.
fn parts(content: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(content);
    match text.split_once("\n\n") {
        Some((headers, message)) => (headers.to_owned(), message.to_owned()),
        None => (text.into_owned(), String::new()),
    }
}

/// What is read of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) tree: Oid,
    pub(super) first_parent: Option<Oid>,
    pub(super) message: String,
}

impl Object {
    /// The commit that this object is, if it is one.
    pub(super) fn commit(&self) -> Option<Commit> {
        if self.kind != "commit" {
            return None;
        }
        let (headers, message) = parts(&self.content);
        let field = |name: &str| {
            let line = headers.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(' ')?.parse::<Oid>().ok()
        };
        Some(Commit { tree: field("tree")?, first_parent: field("parent"), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_from_its_content() {
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let text = format!("tree {one}\nparent {two}\nparent {one}\nauthor x\n\nsubject\n\n{{}}\n");
        let object = |kind: &str, text: &str| Object {
            kind: kind.to_owned(),
            content: text.as_bytes().to_vec(),
        };
        let commit = object("commit", &text).commit().unwrap();
        assert_eq!(commit.tree.as_str(), one);
        assert_eq!(commit.first_parent.unwrap().as_str(), two);
        assert_eq!(commit.message, "subject\n\n{}\n");
        let root = format!("tree {one}\nauthor x\n\nparent {two}\n");
        assert_eq!(object("commit", &root).commit().unwrap().first_parent, None);
        assert_eq!(object("tree", &text).commit(), None);
        assert_eq!(object("commit", "nothing").commit(), None);
    }
}
