//! The highest token that this node was given, kept over restarts. A store whose revision is below it
//! went back in time: it was restored from an old state, and hands out tokens a second time. The node
//! says so when it registers, and the scheduler refuses to begin.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use flyball_core::ids::Token;

/// Name of the file in the data directory.
const FILE: &str = "token-mark";

/// What was seen, and of which installation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) installation: String,
    pub(crate) token: i64,
}

/// The mark of one node.
#[derive(Debug, Default)]
pub(crate) struct Mark {
    /// Nothing is kept without.
    path: Option<PathBuf>,
    seen: Mutex<Seen>,
    /// The token of it, for heartbeats, which wait for no disk.
    token: AtomicI64,
}

impl Mark {
    /// The mark of the node with this data directory. One that cannot be read counts as none: it is
    /// a second net below the journals.
    pub(crate) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let seen = text.trim().split_once(' ').and_then(|(installation, token)| {
            let installation = installation.to_owned();
            token.parse().ok().map(|token| Seen { installation, token })
        });
        let seen = seen.unwrap_or_default();
        let token = AtomicI64::new(seen.token);
        Self { path: Some(path), seen: Mutex::new(seen), token }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// The highest token. Never waits.
    pub(crate) fn token(&self) -> i64 {
        self.token.load(Ordering::Acquire)
    }

    /// The node works for this installation now. Tokens of another one are no measure for it.
    pub(crate) fn on_installation(&self, installation: &str) {
        let mut seen = self.lock();
        if seen.installation == installation {
            return;
        }
        if !seen.installation.is_empty() {
            tracing::warn!(
                before = seen.installation,
                now = installation,
                "the store is another installation than before: it was wiped, or this worker was \
                 pointed elsewhere; journals of the earlier one stay in the repositories"
            );
        }
        *seen = Seen { installation: installation.to_owned(), token: 0 };
        self.token.store(0, Ordering::Release);
        self.keep(&seen);
    }

    /// A token was handed to this node.
    pub(crate) fn on_token(&self, token: Token) {
        let mut seen = self.lock();
        if token.0 > seen.token {
            seen.token = token.0;
            self.token.store(token.0, Ordering::Release);
            self.keep(&seen);
        }
    }

    /// Not synced to the disk: it speaks of stores that are restored, not of this machine's crashes.
    fn keep(&self, seen: &Seen) {
        let Some(path) = &self.path else { return };
        let fresh = path.with_extension("new");
        let written = std::fs::write(&fresh, format!("{} {}\n", seen.installation, seen.token))
            .and_then(|()| std::fs::rename(&fresh, path));
        if let Err(error) = written {
            tracing::warn!(%error, "the highest token seen cannot be kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_token_of_an_installation_outlives_the_worker() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::open(dir.path());
        assert_eq!(mark.seen(), Seen::default());
        mark.on_installation("one");
        for token in [5, 9, 7] {
            mark.on_token(Token(token));
        }
        let again = Mark::open(dir.path());
        assert_eq!(again.seen(), Seen { installation: "one".to_owned(), token: 9 });
        assert_eq!((mark.token(), again.token()), (9, 9));
        again.on_installation("one");
        assert_eq!(again.seen().token, 9);
        again.on_installation("two");
        assert_eq!(again.token(), 0);
        assert_eq!(
            Mark::open(dir.path()).seen(),
            Seen { installation: "two".to_owned(), token: 0 }
        );
        std::fs::write(dir.path().join(FILE), "junk").unwrap();
        assert_eq!(Mark::open(dir.path()).seen(), Seen::default());
    }
}
