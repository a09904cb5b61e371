//! What a certificate says: whose it is, which one, and from when to when.

use flyball_core::identity::Identity;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::error::PkiError;
use crate::subject::BACKDATE_SECONDS;

/// Scheme of the one URI among a certificate's alternative names that says whose it is:
/// `flyball://user/NAME`, `flyball://node/NAME` or `flyball://scheduler/NAME`.
const SCHEME: &str = "flyball://";

/// What is read from a certificate; nothing here says that it is genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Whose it is; `None` if it has no `flyball://` name.
    pub identity: Option<Identity>,
    /// Its number, lower-case hexadecimal.
    pub serial: String,
    /// From when it counts.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Its common name, for people.
    pub name: String,
    /// The common name of who issued it, for people.
    pub issuer: String,
    /// DNS names and addresses.
    pub hosts: Vec<String>,
    /// SHA-256 of its public key with algorithm, hexadecimal.
    pub key: String,
    /// True for an authority's.
    pub is_authority: bool,
}

impl Facts {
    /// When it is to be renewed: two thirds into its life, so that a third is left for trying.
    pub fn renewal_due(&self) -> Timestamp {
        let life = self.not_after.as_second() - self.not_before.as_second();
        // Ours begin a little before they were issued.
        let life = if life > BACKDATE_SECONDS { life - BACKDATE_SECONDS } else { life };
        Timestamp::from_second(self.not_after.as_second() - life / 3).unwrap_or(self.not_before)
    }

    /// True between its two times.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// Whose it is.
    ///
    /// # Errors
    /// [`PkiError::Certificate`] if it does not say.
    pub fn require_identity(&self) -> Result<&Identity, PkiError> {
        self.identity.as_ref().ok_or_else(|| {
            PkiError::Certificate(format!(
                "the certificate of {:?} names nobody here: among its alternative names there has to be one \
                 URI flyball://user/NAME, flyball://node/NAME or flyball://scheduler/NAME",
                self.name
            ))
        })
    }
}

/// The URI that stands for an identity in a certificate; the owner has none.
pub fn uri_of(identity: &Identity) -> Option<String> {
    match identity {
        Identity::Owner | Identity::Stranger => None,
        Identity::User(name) => Some(format!("{SCHEME}user/{name}")),
        Identity::Node(name) => Some(format!("{SCHEME}node/{name}")),
        Identity::Scheduler(name) => Some(format!("{SCHEME}scheduler/{name}")),
    }
}

/// Reads a certificate.
///
/// # Errors
/// [`PkiError::Certificate`]: unreadable, or with more than one or a misspelt `flyball://` name.
pub fn facts_of_der(der: &[u8]) -> Result<Facts, PkiError> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| PkiError::Certificate(format!("not a certificate: {error}")))?;
    let (mut identities, mut hosts) = (Vec::new(), Vec::new());
    let names = parsed.subject_alternative_name();
    let names =
        names.map_err(|error| PkiError::Certificate(format!("alternative names: {error}")))?;
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => identities.push(identity_of(uri)?),
            GeneralName::DNSName(name) => hosts.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => hosts.extend(address(bytes)),
            _ => {}
        }
    }
    if identities.len() > 1 {
        let why = "the certificate has several flyball:// names; one caller is one identity";
        return Err(PkiError::Certificate(why.to_owned()));
    }
    let time = |at: x509_parser::time::ASN1Time| {
        Timestamp::from_second(at.timestamp()).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    Ok(Facts {
        identity: identities.pop(),
        serial: hex(parsed.raw_serial()),
        not_before: time(parsed.validity().not_before),
        not_after: time(parsed.validity().not_after),
        name: common_name(parsed.subject()),
        issuer: common_name(parsed.issuer()),
        hosts,
        key: hex(ring::digest::digest(&ring::digest::SHA256, parsed.public_key().raw).as_ref()),
        is_authority: parsed.is_ca(),
    })
}

/// Reads the certificates of a PEM text, in order.
///
/// # Errors
/// See [`facts_of_der`].
pub fn facts_of_pem(pem: &str) -> Result<Vec<Facts>, PkiError> {
    certificates(pem)?.iter().map(|der| facts_of_der(der)).collect()
}

/// The certificates of a PEM text.
pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read = read.map_err(|error| PkiError::Certificate(format!("not PEM: {error}")))?;
    if read.is_empty() {
        return Err(PkiError::Certificate("there is no certificate in it".to_owned()));
    }
    Ok(read)
}

fn identity_of(uri: &str) -> Result<Identity, PkiError> {
    let rest = uri.strip_prefix(SCHEME).unwrap_or_default();
    let identity =
        rest.split_once('/').and_then(|(kind, name)| format!("{kind}:{name}").parse().ok());
    identity.ok_or_else(|| {
        PkiError::Certificate(format!(
            "{uri:?} is no identity: use flyball://user/NAME, flyball://node/NAME or \
             flyball://scheduler/NAME, with names of a-z, 0-9 and '-'"
        ))
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let address = four.or_else(|_| <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from));
    address.ok().map(|address| address.to_string())
}

fn common_name(name: &x509_parser::x509::X509Name<'_>) -> String {
    let name = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    name.unwrap_or_default().to_owned()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_for_identities() {
        for text in ["user:ada", "node:n1", "scheduler:s-1"] {
            let identity: Identity = text.parse().unwrap();
            assert_eq!(identity_of(&uri_of(&identity).unwrap()).unwrap(), identity);
        }
        for wrong in [
            "flyball://",
            "flyball://owner",
            "flyball://node/",
            "flyball://node/a/b",
            "flyball://node/A",
        ] {
            assert!(identity_of(wrong).is_err(), "{wrong}");
        }
        assert_eq!(uri_of(&Identity::Owner), None);
    }
}
