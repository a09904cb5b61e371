//! What `flyball doctor` says: findings about schedulers, store, leases and nodes, each with its
//! figures and the operator's next step. Nothing here decides anything.

mod abilities;

pub use abilities::weaknesses;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How a finding is to be taken.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    #[default]
    Ok,
    /// Work goes on, but with less than there could be.
    Warning,
    /// Something does not work, or will not for long.
    Error,
}

impl Level {
    /// As shown and written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What a finding is about; also the order of the sections.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// From here to the schedulers.
    #[default]
    Connection,
    /// The scheduler that answered.
    Scheduler,
    /// Clocks.
    Clock,
    /// The store.
    Store,
    /// Leases: how long they take and what they promise.
    Lease,
    /// Worker nodes.
    Node,
    /// Certificates.
    Certificate,
    /// This machine, looked at without a scheduler.
    Host,
    /// Named conditions of the installation as a whole.
    Condition,
}

impl Area {
    /// Heading of its section.
    pub fn title(self) -> &'static str {
        match self {
            Self::Connection => "Connection",
            Self::Scheduler => "Scheduler",
            Self::Clock => "Clock",
            Self::Store => "Store",
            Self::Lease => "Leases",
            Self::Node => "Nodes",
            Self::Certificate => "Certificates",
            Self::Host => "This host",
            Self::Condition => "Conditions",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Finding {
    /// Its section.
    pub area: Area,
    /// How it is to be taken.
    pub level: Level,
    /// Stable CamelCase name, e.g. `EtcdKnownBugs`.
    pub code: String,
    /// What it is about, e.g. a node or a member; empty if the section says it.
    pub subject: String,
    /// What was found, with numbers.
    pub message: String,
    /// What the operator can do; empty only when it is [`Level::Ok`].
    pub next_step: String,
    /// The numbers for scripts; the unit is the end of each name, e.g. `p99Micros`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, i64>,
}

impl Finding {
    fn new(level: Level, area: Area, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { area, level, code, message, ..Self::default() }
    }

    /// Something that is as it should be.
    pub fn ok(area: Area, code: &str, message: impl Into<String>) -> Self {
        Self::new(Level::Ok, area, code, message)
    }

    /// Something that should be looked at, and what can be done.
    pub fn warning(area: Area, code: &str, message: impl Into<String>, next: &str) -> Self {
        Self { next_step: next.to_owned(), ..Self::new(Level::Warning, area, code, message) }
    }

    /// Something that does not work, and what can be done.
    pub fn error(area: Area, code: &str, message: impl Into<String>, next: &str) -> Self {
        Self { next_step: next.to_owned(), ..Self::new(Level::Error, area, code, message) }
    }

    /// With what it is about.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    /// With a number for scripts.
    #[must_use]
    pub fn figure(mut self, name: &str, value: impl TryInto<i64>) -> Self {
        self.figures.insert(name.to_owned(), value.try_into().unwrap_or(i64::MAX));
        self
    }
}

/// What a scheduler finds when it looks at itself, its store and its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Diagnosis {
    /// In the order of the sections.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// The worst of its findings.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_counts_and_documents_survive() {
        let findings = vec![
            Finding::ok(Area::Store, "Version", "etcd 3.6.9").figure("p50Micros", 12_u64),
            Finding::warning(Area::Node, "Containment", "weaker", "run as root").about("n1"),
        ];
        let diagnosis = Diagnosis { findings };
        assert_eq!(diagnosis.worst(), Level::Warning);
        assert_eq!(Diagnosis::default().worst(), Level::Ok);
        let json = serde_json::to_string(&diagnosis).unwrap();
        assert!(
            json.contains(r#""level":"warning","code":"Containment","subject":"n1""#),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Diagnosis>(&json).unwrap(), diagnosis);
    }
}
