//! Whose certificates are issued, for how long, and why not longer.

use std::time::Duration;

use flyball_core::identity::Identity;
use rcgen::ExtendedKeyUsagePurpose;

/// A node's that is issued by hand, in days: issued anew by hand, and what has to be done on every machine of a fleet more often than
/// monthly is forgotten on one of them; a stolen one is worth a month at most.
pub const NODE_DAYS: u64 = 30;
/// A person's or program's, in days: renewed by hand, and what people must do more often than monthly they
/// work around.
pub const USER_DAYS: u64 = 30;
/// A scheduler's, in days: renewed by hand on machines with few users; a quarter, as public authorities do.
pub const SCHEDULER_DAYS: u64 = 90;
/// An etcd member's or client's, in days: as a scheduler's.
pub const ETCD_DAYS: u64 = 90;
/// The authority's own, in days: nobody can revoke it, so it is replaced; two years leave room for doing
/// that once a year.
pub const CA_DAYS: u64 = 730;
/// Longest life of a certificate that may be asked for: longer ones are forgotten before they end.
pub const LIFETIME_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// Usual life of a join token, in seconds: enough to change to the other machine and paste it.
pub const JOIN_TOKEN_SECONDS: u64 = 15 * 60;
/// Longest life of a join token, in seconds: for machines that are installed during the day.
pub const JOIN_TOKEN_SECONDS_MAX: u64 = 24 * 60 * 60;

/// How far before its issue a certificate begins to count, in seconds: clocks of a fleet differ by less.
pub(crate) const BACKDATE_SECONDS: i64 = 60;

/// Whose a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A caller of the API. The owner has no certificate.
    Caller(Identity),
    /// A member of an etcd cluster.
    EtcdMember(String),
    /// A client of an etcd cluster.
    EtcdClient(String),
}

impl Subject {
    /// Its common name: for people, and for etcd's own users.
    pub fn common_name(&self) -> String {
        match self {
            Self::Caller(identity) => identity.to_string(),
            Self::EtcdMember(name) | Self::EtcdClient(name) => name.clone(),
        }
    }

    /// The usual life of its certificates.
    pub fn lifetime(&self) -> Duration {
        let days = match self {
            Self::Caller(Identity::Node(_)) => NODE_DAYS,
            Self::Caller(Identity::Scheduler(_)) => SCHEDULER_DAYS,
            Self::Caller(Identity::User(_) | Identity::Owner | Identity::Stranger) => USER_DAYS,
            Self::EtcdMember(_) | Self::EtcdClient(_) => ETCD_DAYS,
        };
        crate::DAY * u32::try_from(days).unwrap_or(1)
    }

    /// True if it listens, so that its certificate has to name hosts.
    pub const fn serves(&self) -> bool {
        matches!(self, Self::Caller(Identity::Scheduler(_)) | Self::EtcdMember(_))
    }

    /// What its certificate may be used for.
    pub(crate) fn usages(&self) -> Vec<ExtendedKeyUsagePurpose> {
        let mut usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if self.serves() {
            usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        usages
    }
}
