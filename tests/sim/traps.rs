//! Traps: where a script stops what passes through the world, to let it go on when it likes. What is caught
//! is late or lost as it could be on any network; nothing is forged.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

/// Something on its way.
pub(crate) struct Passing<'a> {
    /// The host where it arrives.
    pub(crate) at: &'a str,
    /// The host that it comes from.
    pub(crate) from: &'a str,
    /// The path of a call, or the kind of the record that is pushed.
    pub(crate) what: &'a str,
    /// The request's message, or the uid of the loop that pushes; empty for streams.
    pub(crate) bytes: &'a [u8],
}

/// What becomes of what is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It passes, and is counted.
    Count,
    /// It is done when the trap is opened.
    Wait,
    /// It is done at once, and answered when the trap is opened.
    AnswerLater,
    /// It is done at once, and when the trap is opened the caller hears that something broke.
    LoseAnswer,
    /// It is never done and never answered.
    Lose,
}

type Matches = Box<dyn Fn(&Passing<'_>) -> bool + Send + Sync>;

/// One trap.
pub(crate) struct Trap {
    pub(crate) then: Then,
    matches: Matches,
    /// Nothing more is caught when so much was.
    most: usize,
    caught: AtomicUsize,
    done: AtomicUsize,
    /// Cancelled when it is opened; wakes in the order of waiting.
    gate: CancellationToken,
}

impl Trap {
    /// How often something was caught.
    pub(crate) fn caught(&self) -> usize {
        self.caught.load(Ordering::Relaxed)
    }

    /// How much of what was caught has been done.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Lets go what is caught, and catches nothing more.
    pub(crate) fn open(&self) {
        self.gate.cancel();
    }

    /// Waits until it is opened.
    pub(crate) async fn opened(&self) {
        self.gate.cancelled().await;
    }

    /// Something that was caught is done.
    pub(crate) fn finish(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn takes(&self, passing: &Passing<'_>) -> bool {
        let open = self.gate.is_cancelled() || self.caught() >= self.most;
        let takes = !open && (self.matches)(passing);
        if takes {
            self.caught.fetch_add(1, Ordering::Relaxed);
        }
        takes
    }
}

/// All traps of a world.
#[derive(Default)]
pub(crate) struct Traps {
    /// A script plays in this world. In others nothing is looked at.
    scripted: AtomicBool,
    set: Mutex<Vec<Arc<Trap>>>,
}

impl Traps {
    /// There will be traps.
    pub(crate) fn expect(&self) {
        self.scripted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn are_expected(&self) -> bool {
        self.scripted.load(Ordering::Relaxed)
    }

    /// Sets a trap that catches `most` at most. Of several the one that was set first takes.
    pub(crate) fn set(&self, then: Then, most: usize, matches: Matches) -> Arc<Trap> {
        let trap = Arc::new(Trap {
            then,
            matches,
            most,
            caught: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            gate: CancellationToken::new(),
        });
        self.set.lock().expect("whole").push(trap.clone());
        trap
    }

    /// The trap that takes this, if one does.
    pub(crate) fn take(&self, passing: &Passing<'_>) -> Option<Arc<Trap>> {
        let set = self.set.lock().expect("whole");
        set.iter().find(|trap| trap.takes(passing) && trap.then != Then::Count).cloned()
    }

    /// Opens all.
    pub(crate) fn open_all(&self) {
        self.set.lock().expect("whole").iter().for_each(|trap| trap.open());
    }
}
