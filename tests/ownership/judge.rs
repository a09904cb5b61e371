//! The judge: looks at what happens, from outside, and names the first invariant that is broken. What it
//! computes itself (deadlines, covered paths) shares no code with what it judges.

/// Time kept back to kill, local milliseconds.
pub(crate) const KILL_BUDGET_MS: u64 = 200;
/// Millionths of the TTL kept back for clocks of different speeds.
pub(crate) const DRIFT_PPM: u64 = 20_000;

/// What has been counted.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) handovers: u64,
    pub(crate) faults: u64,
    /// Pushes that a journal refused.
    pub(crate) fenced: u64,
    /// Runs that their guard killed at the deadline.
    pub(crate) killed: u64,
    pub(crate) early_ends: u64,
    pub(crate) simulated_ms: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.handovers += other.handovers;
        self.faults += other.faults;
        self.fenced += other.fenced;
        self.killed += other.killed;
        self.early_ends += other.early_ends;
        self.simulated_ms += other.simulated_ms;
    }
}

#[derive(Default)]
pub(crate) struct Judge {
    /// Per path the highest token that has written it, or has begun to work on it.
    high: [i64; 16],
    /// The first violation.
    pub(crate) violation: Option<String>,
    pub(crate) counts: Counts,
}

impl Judge {
    pub(crate) fn violated(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A run has sealed all it was told to and starts: from here on nothing older may touch its paths.
    pub(crate) fn on_start(&mut self, token: i64, writes: u16) {
        for path in paths(writes) {
            self.high[path] = self.high[path].max(token);
        }
    }

    /// A repository accepted an effect of a run.
    pub(crate) fn on_effect(&mut self, now: u64, at: usize, token: i64, written: u16) {
        for path in paths(written) {
            if self.high[path] > token {
                let high = self.high[path];
                self.violated(format!(
                    "I1 at {now} ms: loop {at} wrote path {path} under token {token} after {high}"
                ));
            }
            self.high[path] = self.high[path].max(token);
        }
    }
}

fn paths(bits: u16) -> impl Iterator<Item = usize> {
    (0..16).filter(move |path| bits & (1 << path) != 0)
}

/// Until when a life may be alive, by the rule and nothing else: counted from the send of renewals
/// whose answers came before it was over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deadline(pub(crate) u64);

impl Deadline {
    pub(crate) fn on_answer(&mut self, sent: u64, heard: u64, ttl_ms: u64) {
        let usable = ttl_ms - ttl_ms * DRIFT_PPM / 1_000_000 - KILL_BUDGET_MS;
        if self.0 == 0 || heard < self.0 {
            self.0 = self.0.max(sent + usable);
        }
    }

    /// A process may be alive at this time.
    pub(crate) fn allows(self, local: u64) -> bool {
        local <= self.0 + KILL_BUDGET_MS
    }
}
