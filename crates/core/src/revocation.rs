//! Revoked certificates: those that no scheduler takes any more though they have not ended. One is named
//! by its serial number, or all that an identity was given until a time.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// Most records of one installation: each is some 300 bytes in the memory of every scheduler. Whoever has
/// to revoke more than that replaces the authority.
pub const REVOCATIONS_MAX: usize = 4096;
/// Most bytes of the reason, which is for people.
pub const REVOCATION_REASON_BYTES_MAX: usize = 500;
/// Most hexadecimal digits of a serial number: twenty bytes by RFC 5280, and room for those who do not
/// keep to it.
const SERIAL_DIGITS_MAX: usize = 64;

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revoked {
    /// The certificate of this number: lower-case hexadecimal without leading zeros.
    Serial(String),
    /// Every certificate of this identity that began to count before.
    Identity(Identity),
}

/// A text that names nothing that can be revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} {why}")]
pub struct InvalidRevoked {
    found: String,
    why: &'static str,
}

impl Revoked {
    /// The certificate of a serial number, as `flyball pki show` or other tools print it: hexadecimal in
    /// either case, with or without colons and leading zeros.
    ///
    /// # Errors
    /// [`InvalidRevoked`]: no hexadecimal number, or too long.
    pub fn serial(text: &str) -> Result<Self, InvalidRevoked> {
        let digits: String = text.trim().chars().filter(|digit| *digit != ':').collect();
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            let why =
                "is no serial number: use hexadecimal digits, as `flyball pki show` prints them";
            return Err(InvalidRevoked { found: text.to_owned(), why });
        }
        let canonical = canonical(&digits.to_ascii_lowercase());
        if canonical.len() > SERIAL_DIGITS_MAX {
            let why = "is too long for a serial number: at most 64 hexadecimal digits";
            return Err(InvalidRevoked { found: text.to_owned(), why });
        }
        Ok(Self::Serial(canonical))
    }

    /// All certificates of an identity until now.
    ///
    /// # Errors
    /// [`InvalidRevoked`] for whoever has none.
    pub fn identity(identity: Identity) -> Result<Self, InvalidRevoked> {
        if matches!(identity, Identity::Owner | Identity::Stranger) {
            let why = "has no certificate: use user:NAME, node:NAME or scheduler:NAME";
            return Err(InvalidRevoked { found: identity.to_string(), why });
        }
        Ok(Self::Identity(identity))
    }
}

/// Tools differ in whether they print the zero byte that keeps a number positive.
fn canonical(serial: &str) -> String {
    let digits = serial.trim_start_matches('0');
    if digits.is_empty() { "0".to_owned() } else { digits.to_owned() }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(serial) => write!(f, "serial:{serial}"),
            Self::Identity(identity) => identity.fmt(f),
        }
    }
}

impl FromStr for Revoked {
    type Err = InvalidRevoked;

    fn from_str(text: &str) -> Result<Self, InvalidRevoked> {
        if let Some(serial) = text.strip_prefix("serial:") {
            return Self::serial(serial);
        }
        let why = "names no certificate: use serial:NUMBER, user:NAME, node:NAME or scheduler:NAME";
        let unknown = |_| InvalidRevoked { found: text.to_owned(), why };
        text.parse().map_err(unknown).and_then(Self::identity)
    }
}

/// The record of a revocation. Nobody takes one back: whoever is to be let in again gets a new certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Revocation {
    /// Why, in their words; for people.
    pub reason: String,
    /// Who did it.
    pub by: String,
    /// When. Of an identity, certificates that began to count at or before this second are refused.
    pub at: Timestamp,
    /// No certificate that it concerns counts after this time by itself, so the record may go.
    pub until: Timestamp,
    /// Whose a certificate with this number was, if that was known; for people.
    pub whose: String,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// All revocations at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocations {
    /// `None`: the record cannot be read, so nothing of what it names is taken.
    all: BTreeMap<Revoked, Option<Arc<Revocation>>>,
}

impl Revocations {
    /// Adds or replaces a record.
    pub fn put(&mut self, revoked: Revoked, record: Arc<Revocation>) {
        self.all.insert(revoked, Some(record));
    }

    /// Adds a record of which only the key can be read. It counts for every certificate that it may be about.
    pub fn put_unreadable(&mut self, revoked: Revoked) {
        self.all.insert(revoked, None);
    }

    /// Takes a record out.
    pub fn remove(&mut self, revoked: &Revoked) {
        self.all.remove(revoked);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Why a certificate is not taken, if it is revoked: of this identity, with this serial number
    /// (lower-case hexadecimal), which began to count at `not_before`. The reason is not told, for it is
    /// the revoked one that reads this.
    pub fn objection(
        &self,
        identity: Option<&Identity>,
        serial: &str,
        not_before: Timestamp,
    ) -> Option<String> {
        if self.all.is_empty() {
            return None;
        }
        let by_serial = self.all.get(&Revoked::Serial(canonical(serial)));
        let by_identity = || {
            let record = self.all.get(&Revoked::Identity(identity?.clone()))?;
            // Certificates know seconds only.
            let concerns =
                |record: &Arc<Revocation>| not_before.as_second() <= record.at.as_second();
            record.as_ref().is_none_or(concerns).then_some(record)
        };
        by_serial.or_else(by_identity).map(|record| match record {
            Some(record) => format!("the certificate was revoked at {}", record.at),
            None => "the certificate is revoked".to_owned(),
        })
    }

    /// Since when certificates of this identity are refused, if they are; new ones have to begin later.
    /// `None` inside: at any time.
    pub fn of_identity(&self, identity: &Identity) -> Option<Option<Timestamp>> {
        let record = self.all.get(&Revoked::Identity(identity.clone()))?;
        Some(record.as_ref().map(|record| record.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record(second: i64) -> Arc<Revocation> {
        Arc::new(Revocation { at: at(second), ..Revocation::default() })
    }

    #[test]
    fn names_round_trip_and_serials_have_one_form() {
        for text in ["serial:7f01", "user:ada", "node:n1", "scheduler:s1"] {
            assert_eq!(text.parse::<Revoked>().map(|one| one.to_string()), Ok(text.to_owned()));
        }
        for text in ["00:7F:01", "7f01", " 007f01 "] {
            assert_eq!(Revoked::serial(text), Ok(Revoked::Serial("7f01".to_owned())), "{text}");
        }
        for text in ["serial:", "serial:xy", "owner", "n1", "", "user:A"] {
            assert!(text.parse::<Revoked>().is_err(), "{text}");
        }
        assert!(Revoked::serial(&"a".repeat(64)).is_ok());
        assert!(Revoked::serial(&"a".repeat(65)).is_err());
    }

    #[test]
    fn a_serial_is_refused_whosever_it_is() {
        let mut all = Revocations::default();
        assert_eq!(all.objection(None, "7f01", at(5)), None);
        assert_eq!((all.len(), all.is_empty()), (0, true));
        all.put(Revoked::serial("7f01").unwrap(), record(9));
        all.put(Revoked::serial("7f03").unwrap(), record(9));
        assert_eq!((all.len(), all.is_empty()), (2, false));
        for serial in ["7f01", "007f01"] {
            assert!(all.objection(None, serial, at(99)).is_some(), "{serial}");
        }
        assert_eq!(all.objection(None, "7f02", at(5)), None);
        all.remove(&Revoked::serial("7f01").unwrap());
        assert_eq!(all.objection(None, "7f01", at(5)), None);
    }

    #[test]
    fn an_identity_is_refused_until_it_gets_a_new_certificate() {
        let mut all = Revocations::default();
        let (n1, n2): (Identity, Identity) =
            ("node:n1".parse().unwrap(), "node:n2".parse().unwrap());
        all.put(Revoked::Identity(n1.clone()), record(9));
        assert!(all.objection(Some(&n1), "1", at(8)).is_some());
        assert!(all.objection(Some(&n1), "1", at(9)).is_some(), "of the same second");
        assert_eq!(all.objection(Some(&n1), "1", at(10)), None, "a new one");
        assert_eq!(all.objection(Some(&n2), "1", at(8)), None, "another node");
        assert_eq!(all.objection(None, "1", at(8)), None);
        assert_eq!(all.of_identity(&n1), Some(Some(at(9))));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let mut all = Revocations::default();
        let n1: Identity = "node:n1".parse().unwrap();
        all.put_unreadable(Revoked::Identity(n1.clone()));
        assert!(all.objection(Some(&n1), "1", at(i64::from(u32::MAX))).is_some());
        assert_eq!(all.of_identity(&n1), Some(None));
    }
}
