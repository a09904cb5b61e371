//! What is wrong with the installation as a whole: named conditions, each with the operator's next
//! step. Conditions of one loop are in its status; these belong to nobody's loop. They are kept in
//! memory, logged when they begin and end, and shown by whoever asks (`flyball doctor`). No decision
//! is taken from them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// Most conditions kept at a time: a foreign writer can make any number of keys, a person reads few.
/// Further ones are logged and counted.
const FINDINGS_MAX: usize = 100;

/// The store takes no writes.
pub(crate) const STORE_FULL: &str = "StoreFull";
/// The store does not answer, or has no quorum.
pub(crate) const STORE_UNAVAILABLE: &str = "StoreUnavailable";
/// The store has raised an alarm that is not about room.
pub(crate) const STORE_ALARM: &str = "StoreAlarm";
/// The store went back in time; the subject is the node that knows.
pub(crate) const STORE_BEHIND: &str = "StoreBehind";
/// What to do about it.
pub(crate) const STORE_BEHIND_STEP: &str = "restore the store with raised revisions (etcdutl snapshot restore --bump-revision … \
     --mark-compacted), or raise its revision past that; then restart the schedulers";
/// A node worked for another installation before.
pub(crate) const OTHER_INSTALLATION: &str = "OtherInstallation";
/// The audit trail cannot be written at present.
pub(crate) const AUDIT_BEHIND: &str = "AuditBehind";
/// Entries of the audit trail are lost.
pub(crate) const AUDIT_INCOMPLETE: &str = "AuditIncomplete";
/// Keys and values that cannot be read.
pub(crate) const UNREADABLE_KEY: &str = "UnreadableKey";
/// Keys that lost their lease.
pub(crate) const PERMANENT_KEY: &str = "PermanentKey";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Work goes on.
    Warning,
    /// Something waits for the operator.
    Error,
}

impl Severity {
    /// As shown.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the report of the doctor"))]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One named condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// CamelCase name, as in the troubleshooting guide.
    pub(crate) name: &'static str,
    /// What it is about, e.g. a key or a node; empty for the whole installation.
    pub(crate) subject: String,
    /// What was found, with numbers.
    pub(crate) message: String,
    /// What the operator can do.
    pub(crate) next_step: String,
    /// Since when; for display only.
    pub(crate) since: Timestamp,
}

/// The conditions that hold now. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    by_name: BTreeMap<(&'static str, String), Finding>,
    /// Raised while there was no room.
    left_out: u64,
}

impl Findings {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every change is one call, so a panic elsewhere leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A condition holds. It is logged when it is new.
    pub(crate) fn raise(
        &self,
        severity: Severity,
        (name, subject): (&'static str, &str),
        message: String,
        next_step: &str,
    ) {
        let mut kept = self.lock();
        let key = (name, subject.to_owned());
        if let Some(known) = kept.by_name.get_mut(&key) {
            known.severity = severity;
            known.message = message;
            return;
        }
        match severity {
            Severity::Error => tracing::error!(name, %subject, next_step, "{message}"),
            Severity::Warning => tracing::warn!(name, %subject, next_step, "{message}"),
        }
        if kept.by_name.len() >= FINDINGS_MAX {
            kept.left_out += 1;
            return;
        }
        let (subject, next_step) = (subject.to_owned(), next_step.to_owned());
        let since = Timestamp::now();
        kept.by_name.insert(key, Finding { severity, name, subject, message, next_step, since });
    }

    /// A condition does not hold any more.
    pub(crate) fn clear(&self, name: &'static str, subject: &str) {
        if self.lock().by_name.remove(&(name, subject.to_owned())).is_some() {
            tracing::info!(name, %subject, "a condition is over");
        }
    }

    /// True while a condition of this name about the whole installation holds.
    pub(crate) fn holds(&self, name: &'static str) -> bool {
        self.lock().by_name.contains_key(&(name, String::new()))
    }

    /// Of the conditions of this name only those of these subjects still hold.
    pub(crate) fn retain(&self, name: &'static str, holds: impl Fn(&str) -> bool) {
        self.lock().by_name.retain(|(other, subject), _| {
            let keep = *other != name || holds(subject);
            if !keep {
                tracing::info!(name, %subject, "a condition is over");
            }
            keep
        });
    }

    /// Everything that holds now, worst first, and how many there was no room for.
    pub(crate) fn list(&self) -> (Vec<Finding>, u64) {
        let kept = self.lock();
        let mut findings: Vec<Finding> = kept.by_name.values().cloned().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        (findings, kept.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_listed_worst_first_and_bounded() {
        let findings = Findings::default();
        for number in 0..FINDINGS_MAX + 3 {
            let at = ("ForeignKey", format!("/k{number}"));
            findings.raise(Severity::Warning, (at.0, &at.1), "a key".to_owned(), "delete it");
        }
        findings.retain("ForeignKey", |subject| subject != "/k0");
        findings.raise(Severity::Error, ("StoreFull", ""), "full".to_owned(), "compact");
        findings.raise(Severity::Error, ("StoreFull", ""), "still full".to_owned(), "compact");
        let (listed, left_out) = findings.list();
        assert_eq!((listed.len(), left_out), (FINDINGS_MAX, 3));
        assert_eq!((listed[0].name, listed[0].message.as_str()), ("StoreFull", "still full"));
        assert_eq!(listed[0].severity.as_str(), "error");
        findings.clear("StoreFull", "");
        assert!(findings.list().0.iter().all(|finding| finding.name != "StoreFull"));
    }
}
