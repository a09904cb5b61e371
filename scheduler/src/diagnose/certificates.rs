//! Findings about certificates: this scheduler's, those that callers have shown, what signs, and what is
//! revoked.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_core::diagnosis::{Area, Finding};
use flyball_core::revocation::{REVOCATIONS_MAX, Revocations};
use flyball_pki::{Facts, LiveIdentity};
use jiff::{SignedDuration, Timestamp};

const AREA: Area = Area::Certificate;

/// Callers with findings of their own; the rest is counted.
const TOLD_MAX: usize = 50;

/// What there is to look at.
pub(crate) struct Certificates<'a> {
    /// What this scheduler shows over TLS; `None` if it does not listen there.
    pub(crate) own: Option<&'a LiveIdentity>,
    /// What the callers on open connections have shown.
    pub(crate) peers: Vec<Arc<Facts>>,
    /// Addresses of the schedulers that can sign; `None` if the store does not say.
    pub(crate) signers: Option<Vec<String>>,
    pub(crate) revoked: &'a Revocations,
}

impl Certificates<'_> {
    /// In order: own, signing, callers, revoked.
    pub(crate) fn findings(&self, now: Timestamp) -> Vec<Finding> {
        let Some(own) = self.own else {
            let message = "this scheduler does not listen with TLS: it needs and asks for none";
            return vec![Finding::ok(AREA, "NoTls", message)];
        };
        let mut found = vec![of_one("OwnCertificate", &own.current().facts, now)];
        if let Some(problem) = own.problem() {
            let message = format!("its files cannot be used as they are now: {problem}");
            let next = "repair them; until then what was read before is shown";
            found.push(Finding::error(AREA, "IdentityUnusable", message, next));
        }
        found.extend(self.signing());
        found.extend(self.callers(now));
        found.push(self.revocations());
        found
    }

    fn signing(&self) -> Option<Finding> {
        let signers = self.signers.as_ref()?;
        Some(match signers.is_empty() {
            false => Finding::ok(AREA, "Signers", format!("signed by {}", signers.join(", "))),
            true => {
                let message = "no scheduler signs: nobody can join with a token, and nothing is renewed by itself";
                Finding::ok(AREA, "NoSigner", message)
            }
        })
    }

    /// Of each caller the certificate that ends last: older ones are of connections that carry on.
    fn callers(&self, now: Timestamp) -> Vec<Finding> {
        let mut newest = BTreeMap::<&str, &Facts>::new();
        for facts in &self.peers {
            let known = newest.entry(&facts.name).or_insert(facts);
            if facts.not_after > known.not_after {
                *known = facts;
            }
        }
        let all: Vec<Finding> =
            newest.values().map(|facts| of_one("CallerCertificate", facts, now)).collect();
        let (fine, late): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|one| one.next_step.is_empty());
        let mut told = late;
        if fine.len() <= TOLD_MAX {
            told.extend(fine);
        } else {
            let message = format!("{} callers have certificates that are not due", fine.len());
            told.push(Finding::ok(AREA, "CallerCertificates", message));
        }
        told
    }

    fn revocations(&self) -> Finding {
        let count = self.revoked.len();
        let message =
            format!("{count} certificates or identities are revoked (flyball pki revoked)");
        let finding = if count * 10 > REVOCATIONS_MAX * 9 {
            let message = format!("{message}; at most {REVOCATIONS_MAX} can be");
            let next = "replace the authority: flyball pki rotate";
            Finding::warning(AREA, "RevocationsNearlyFull", message, next)
        } else {
            Finding::ok(AREA, "Revoked", message)
        };
        finding.figure("revoked", u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// One certificate: how long it counts, and whether it should have been renewed by now.
fn of_one(code: &str, facts: &Facts, now: Timestamp) -> Finding {
    let (due, end) = (facts.renewal_due(), facts.not_after);
    let left = end.duration_since(now);
    let finding = if now > end {
        let next = "issue a new one by hand, or join again: docs/security.md";
        Finding::error(AREA, code, format!("ended at {end}"), next)
    } else if now > due {
        let message = format!("ends at {end}, in {}, and was to be renewed at {due}", rough(left));
        let next = "look at that process' log for why; by hand: flyball pki renew, or flyball pki issue --force";
        Finding::warning(AREA, code, message, next)
    } else {
        let message = format!("until {end}, {} left; renewal is due at {due}", rough(left));
        Finding::ok(AREA, code, message)
    };
    finding.about(facts.name.clone()).figure("secondsLeft", left.as_secs())
}

/// In the unit that people think in.
fn rough(left: SignedDuration) -> String {
    let seconds = left.as_secs();
    match seconds {
        172_800.. => format!("{} days", seconds / 86_400),
        7200.. => format!("{} hours", seconds / 3600),
        120.. => format!("{} minutes", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use flyball_core::diagnosis::Level;

    use super::*;

    fn facts(name: &str, end: i64) -> Arc<Facts> {
        let at = |second| Timestamp::from_second(second).unwrap();
        Arc::new(Facts {
            identity: name.parse().ok(),
            serial: "1".to_owned(),
            not_before: at(0),
            not_after: at(end),
            name: name.to_owned(),
            issuer: "ours".to_owned(),
            hosts: Vec::new(),
            key: String::new(),
            is_authority: false,
        })
    }

    #[test]
    fn a_certificate_that_was_to_be_renewed_is_told_with_its_end() {
        let peers = vec![facts("node:n1", 3060), facts("node:n1", 9060), facts("node:n2", 3060)];
        let revoked = Revocations::default();
        let all = Certificates { own: None, peers, signers: None, revoked: &revoked };
        let told = all.callers(Timestamp::from_second(2500).unwrap());
        let levels: Vec<_> = told.iter().map(|one| (one.subject.as_str(), one.level)).collect();
        assert_eq!(levels, [("node:n2", Level::Warning), ("node:n1", Level::Ok)]);
        assert!(told[0].message.contains("in 9 minutes"), "{}", told[0].message);
        let over = of_one("X", &facts("node:n1", 9), Timestamp::from_second(10).unwrap());
        assert_eq!(over.level, Level::Error);
    }
}
