//! What is wrong with the installation as a whole: named conditions, each with the operator's next
//! step. Conditions of one loop are in its status; these belong to nobody's loop. They are kept in
//! memory, logged when they begin and end, and shown by whoever asks (`flyball doctor`). A decision is
//! taken only from one that is about the whole installation ([`Findings::holds`]); those always have room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

/// Most conditions kept at a time that are about one of many things: a foreign writer can make any number of
/// keys, a person reads few. Further ones are logged and counted; an error is kept in a warning's place.
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
/// A node has a lease, and the leader hears nothing of it.
pub(crate) const NODE_SILENT: &str = "NodeSilent";
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

impl Kept {
    /// Makes room for one more, if it can be made.
    fn has_room(&mut self, severity: Severity) -> bool {
        let of_many = self.by_name.keys().filter(|(_, subject)| !subject.is_empty()).count();
        if of_many < FINDINGS_MAX {
            return true;
        }
        self.left_out += 1;
        let mut found = self.by_name.iter().filter(|(key, _)| !key.1.is_empty());
        let lesser = found.find(|(_, finding)| finding.severity < severity);
        let lesser = lesser.map(|(key, _)| key.clone());
        lesser.is_some_and(|key| self.by_name.remove(&key).is_some())
    }
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
        if !subject.is_empty() && !kept.has_room(severity) {
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

    #[test]
    fn what_decisions_rest_on_and_errors_are_not_crowded_out() {
        let findings = Findings::default();
        let full = || {
            findings.raise(Severity::Error, (STORE_FULL, ""), "full".to_owned(), "compact");
            findings.holds(STORE_FULL)
        };
        for number in 0..FINDINGS_MAX * 2 {
            let key = format!("/k{number}");
            findings.raise(Severity::Warning, (UNREADABLE_KEY, &key), "a key".to_owned(), "");
        }
        assert!(full(), "beside any number of warnings");
        for number in 0..FINDINGS_MAX * 2 {
            let node = format!("n{number}");
            findings.raise(Severity::Error, (STORE_BEHIND, &node), "behind".to_owned(), "");
        }
        findings.clear(STORE_FULL, "");
        assert!(full(), "beside any number of errors");
        let (listed, left_out) = findings.list();
        assert!(listed.iter().all(|finding| finding.severity == Severity::Error));
        let all = u64::try_from(FINDINGS_MAX * 4).unwrap();
        let kept = u64::try_from(listed.len()).unwrap();
        assert_eq!((kept, left_out), (101, all - 100), "each that is not shown is counted");
    }
}
