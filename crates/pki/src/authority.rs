//! An authority of one's own: a signing key in a directory, the certificates it issues, and its
//! replacement by another without anybody noticing.
//!
//! `ca.pem` holds the trusted certificates, the newest first; `ca-key.pem` the key of one of them, which
//! signs; `cross.pem` the certificate of that one signed by its predecessor. What is issued carries the
//! cross certificate, so that those who know only the predecessor accept it too: the order in which a
//! fleet learns of a new authority does not matter.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use crate::error::PkiError;
use crate::facts::{Facts, facts_of_der, facts_of_pem, uri_of};
use crate::files::{
    CA_CERTIFICATES, CA_KEY, blocks, private_dir, read, read_key, write_private, write_public,
};
use crate::subject::{BACKDATE_SECONDS, LIFETIME_MAX, Subject};
use crate::token::random;

/// Beside the key: what leads from it to its predecessor.
const CROSS: &str = "cross.pem";

/// Bytes of a serial number; random ones of this length never meet.
const SERIAL_BYTES: usize = 16;

/// An authority whose key is here.
pub struct Authority {
    dir: PathBuf,
    key: KeyPair,
    /// The certificate of the key.
    own: String,
    own_facts: Facts,
    /// All trusted certificates, PEM.
    bundle: String,
    /// Appended to what is issued, PEM.
    cross: String,
}

/// Whose key a certificate is for.
#[derive(Debug, Clone, Copy)]
pub enum KeyOf<'a> {
    /// A new one, which is answered too.
    New,
    /// The one that signed this request (DER); nothing else of the request counts.
    Request(&'a [u8]),
}

/// A certificate to be issued.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// Whose.
    pub subject: Subject,
    /// Names and addresses that it listens at.
    pub hosts: Vec<String>,
    /// How long it counts.
    pub lifetime: Duration,
    /// Its key.
    pub key: KeyOf<'a>,
    /// It does not begin to count before; for whoever was revoked until then.
    pub not_before: Option<Timestamp>,
}

/// A certificate, and what goes with it.
pub struct Issued {
    /// The certificate and what leads to the authority, PEM.
    pub chain: String,
    /// All trusted authorities, PEM.
    pub bundle: String,
    /// The key, if it was made here, PEM.
    pub key: Option<String>,
    /// What the certificate says.
    pub facts: Facts,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority in a directory that has none.
    ///
    /// # Errors
    /// There is one already, or a file cannot be written.
    pub fn init(dir: &Path, name: &str, life: Duration, now: Timestamp) -> Result<Self, PkiError> {
        if dir.join(CA_KEY).exists() || dir.join(CA_CERTIFICATES).exists() {
            let why = "there is an authority already; `flyball pki rotate` replaces it, another --dir keeps it";
            return Err(PkiError::content(dir, why));
        }
        private_dir(dir)?;
        let key = KeyPair::generate().map_err(refused)?;
        let own = params_of_authority(name, life, now)?.self_signed(&key).map_err(refused)?.pem();
        write_public(&dir.join(CA_CERTIFICATES), &own)?;
        write_private(&dir.join(CA_KEY), &key.serialize_pem())?;
        Self::load(dir)
    }

    /// Reads an authority.
    ///
    /// # Errors
    /// A file that is missing, unreadable or exposed, or a key without its certificate.
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        let (key_path, path) = (dir.join(CA_KEY), dir.join(CA_CERTIFICATES));
        let key = KeyPair::from_pem(&read_key(&key_path)?)
            .map_err(|error| PkiError::content(&key_path, format!("not a key: {error}")))?;
        let bundle = read(&path)?;
        let spki = spki_pin(&key);
        let found = blocks(&bundle).into_iter().find_map(|pem| {
            let facts = facts_of_pem(&pem).ok()?.into_iter().next()?;
            (facts.key == spki).then_some((pem, facts))
        });
        let Some((own, own_facts)) = found else {
            let why = format!("has no certificate of the key in {}", key_path.display());
            return Err(PkiError::content(&path, why));
        };
        let cross_path = dir.join(CROSS);
        let cross = if cross_path.exists() { read(&cross_path)? } else { String::new() };
        let leads_here = |pem: &String| {
            facts_of_pem(pem).is_ok_and(|facts| facts.iter().all(|facts| facts.key == spki))
        };
        let cross = blocks(&cross).into_iter().filter(leads_here).collect();
        Ok(Self { dir: dir.to_owned(), key, own, own_facts, bundle, cross })
    }

    /// All trusted certificates, PEM.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// What its own certificate says.
    pub fn facts(&self) -> &Facts {
        &self.own_facts
    }

    /// SHA-256 of its public key, for join tokens.
    pub fn pin(&self) -> &str {
        &self.own_facts.key
    }

    /// Issues a certificate. It never outlives the authority.
    ///
    /// # Errors
    /// [`PkiError::Refused`]: a life out of bounds, a host that is none, or a request that does not prove
    /// that its sender has the key.
    pub fn issue(&self, order: &Order<'_>, now: Timestamp) -> Result<Issued, PkiError> {
        let params = self.params(order, now)?;
        let issuer = Issuer::from_ca_cert_pem(&self.own, &self.key).map_err(refused)?;
        let (certificate, key) = match order.key {
            KeyOf::New => {
                let key = KeyPair::generate().map_err(refused)?;
                let certificate = params.signed_by(&key, &issuer).map_err(refused)?;
                (certificate, Some(key.serialize_pem()))
            }
            KeyOf::Request(der) => {
                let request = CertificateSigningRequestParams::from_der(&der.to_vec().into());
                let unusable = |error| {
                    PkiError::Refused(format!("the signing request cannot be used: {error}"))
                };
                let request = request.map_err(unusable)?;
                (params.signed_by(&request.public_key, &issuer).map_err(refused)?, None)
            }
        };
        let facts = facts_of_der(certificate.der())?;
        let chain = format!("{}{}", certificate.pem(), self.cross);
        Ok(Issued { chain, bundle: self.bundle.clone(), key, facts })
    }

    fn params(&self, order: &Order<'_>, now: Timestamp) -> Result<CertificateParams, PkiError> {
        if order.lifetime.is_zero() || order.lifetime > LIFETIME_MAX {
            let days = LIFETIME_MAX.as_secs() / crate::DAY.as_secs();
            let why =
                format!("a life of {} s; allowed are 1 s to {days} days", order.lifetime.as_secs());
            return Err(PkiError::Refused(why));
        }
        if order.subject.serves() == order.hosts.is_empty() {
            let why = match order.subject.serves() {
                true => {
                    "a certificate to listen with needs the names and addresses it is reached at: --host"
                }
                false => "only schedulers and etcd members listen, so only they have a --host",
            };
            return Err(PkiError::Refused(why.to_owned()));
        }
        let mut params = CertificateParams::new(order.hosts.clone()).map_err(refused)?;
        if let Subject::Caller(identity) = &order.subject {
            let uri = uri_of(identity)
                .ok_or_else(|| PkiError::Refused(format!("{identity} has no certificate")))?;
            let uri = uri.try_into().map_err(refused)?;
            params.subject_alt_names.push(SanType::URI(uri));
        }
        let begin = seconds(now) - BACKDATE_SECONDS;
        let begin = begin.max(order.not_before.map_or(i64::MIN, seconds));
        let life = i64::try_from(order.lifetime.as_secs()).unwrap_or(i64::MAX);
        let end = seconds(now).saturating_add(life).min(seconds(self.own_facts.not_after));
        (params.not_before, params.not_after) = (at(begin)?, at(end)?);
        params.serial_number = Some(serial()?);
        params.distinguished_name = named(&order.subject.common_name());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = order.subject.usages();
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    /// Replaces the authority by a new one. Both are trusted until [`Authority::retire`]; what the new
    /// one issues is accepted by those who know only the old one.
    ///
    /// # Errors
    /// Files that cannot be written. Whatever was written before leaves the old authority working.
    pub fn rotate(&self, life: Duration, now: Timestamp) -> Result<Self, PkiError> {
        let name = self.own_facts.name.rsplit_once(' ').map_or("flyball", |(name, _)| name);
        let key = KeyPair::generate().map_err(refused)?;
        let params = params_of_authority(name, life, now)?;
        let own = params.self_signed(&key).map_err(refused)?.pem();
        let mut crossed = params;
        crossed.serial_number = Some(serial()?);
        crossed.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        crossed.not_after = at(seconds(self.own_facts.not_after))?.min(crossed.not_after);
        crossed.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_pem(&self.own, &self.key).map_err(refused)?;
        let cross = crossed.signed_by(&key, &issuer).map_err(refused)?.pem();
        // The key last: until then the old one signs, and what is there for the new one is not used.
        write_public(&self.dir.join(CA_CERTIFICATES), &format!("{own}{}", self.bundle))?;
        write_public(&self.dir.join(CROSS), &cross)?;
        write_private(&self.dir.join(CA_KEY), &key.serialize_pem())?;
        Self::load(&self.dir)
    }

    /// Stops trusting all but the authority that signs now. What earlier ones issued is refused by
    /// whoever has the new `ca.pem`.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn retire(&self) -> Result<Self, PkiError> {
        write_public(&self.dir.join(CA_CERTIFICATES), &self.own)?;
        let cross = self.dir.join(CROSS);
        if cross.exists() {
            std::fs::remove_file(&cross).map_err(PkiError::file(&cross))?;
        }
        Self::load(&self.dir)
    }
}

fn params_of_authority(
    name: &str,
    life: Duration,
    now: Timestamp,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    // Told apart by people and by whoever looks for the issuer of a certificate.
    params.distinguished_name = named(&format!("{name} {}", random(4)?));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    let life = i64::try_from(life.as_secs()).unwrap_or(i64::MAX);
    params.not_before = at(seconds(now) - BACKDATE_SECONDS)?;
    params.not_after = at(seconds(now).saturating_add(life))?;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn serial() -> Result<SerialNumber, PkiError> {
    use ring::rand::SecureRandom;
    let mut bytes = [0; SERIAL_BYTES];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| PkiError::Refused("the system gives no random numbers".to_owned()))?;
    // A positive number that does not begin with a zero byte, so that all print it alike.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn spki_pin(key: &KeyPair) -> String {
    use rcgen::PublicKeyData;
    let digest = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
    crate::facts::hex(digest.as_ref())
}

fn seconds(at: Timestamp) -> i64 {
    at.as_second()
}

fn at(seconds: i64) -> Result<time::OffsetDateTime, PkiError> {
    time::OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|error| PkiError::Refused(format!("a time that no certificate can hold: {error}")))
}

fn refused(error: rcgen::Error) -> PkiError {
    PkiError::Refused(error.to_string())
}

#[cfg(test)]
mod tests;
