//! Join tokens: a secret to be shown once, and the authority to expect behind the address.

use std::fmt;
use std::str::FromStr;

use crate::error::PkiError;
use crate::facts::{certificates, facts_of_der, hex};

/// First part of the text; a later form would begin otherwise.
const FORM: &str = "fbj1";
/// Bytes of the id, which is public and has to be unique only.
const ID_BYTES: usize = 8;
/// Bytes of the secret: 192 bits are beyond any guessing.
const SECRET_BYTES: usize = 24;
/// Bytes of a pin, a SHA-256.
const PIN_BYTES: usize = 32;

/// A join token: `fbj1.<id>.<secret>.<pin>`, each in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Which one it is.
    pub id: String,
    /// What proves that its holder was given it.
    pub secret: String,
    /// SHA-256 of the authority's public key.
    pub pin: String,
}

/// A text that is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no join token: it has to be fbj1.<id>.<secret>.<pin>, as `flyball node token create` prints it"
)]
pub struct InvalidToken;

impl JoinToken {
    /// A new one from random bytes.
    ///
    /// # Errors
    /// [`PkiError::Refused`] when the system has no random numbers.
    pub fn generate(pin: String) -> Result<Self, PkiError> {
        Ok(Self { id: random(ID_BYTES)?, secret: random(SECRET_BYTES)?, pin })
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORM}.{}.{}.{}", self.id, self.secret, self.pin)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [FORM, id, secret, pin] = parts[..] else { return Err(InvalidToken) };
        let hexadecimal = |text: &str, bytes: usize| {
            text.len() == 2 * bytes && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let whole = hexadecimal(id, ID_BYTES)
            && hexadecimal(secret, SECRET_BYTES)
            && hexadecimal(pin, PIN_BYTES);
        if !whole {
            return Err(InvalidToken);
        }
        Ok(Self { id: id.to_owned(), secret: secret.to_owned(), pin: pin.to_owned() })
    }
}

/// What is kept of a secret.
pub fn hash_of(secret: &str) -> String {
    hex(ring::digest::digest(&ring::digest::SHA256, secret.as_bytes()).as_ref())
}

pub(crate) fn random(bytes: usize) -> Result<String, PkiError> {
    use ring::rand::SecureRandom;
    let mut buffer = vec![0; bytes];
    let filled = ring::rand::SystemRandom::new().fill(&mut buffer);
    filled.map_err(|_| PkiError::Refused("the system gives no random numbers".to_owned()))?;
    Ok(hex(&buffer))
}

/// The pin of the first certificate of a PEM text.
///
/// # Errors
/// [`PkiError::Certificate`] if there is none.
pub fn pin_of_pem(pem: &str) -> Result<String, PkiError> {
    let first = certificates(pem)?.into_iter().next();
    first.map_or_else(|| Ok(String::new()), |der| Ok(facts_of_der(&der)?.key))
}

/// Certificates of authorities of which one is the pinned one.
#[derive(Debug, Clone)]
pub struct PinnedRoot {
    pub(crate) der: rustls::pki_types::CertificateDer<'static>,
}

impl PinnedRoot {
    /// Picks the certificate with the pinned key.
    ///
    /// # Errors
    /// [`PkiError::Certificate`]: none is of that key, so whoever answered is somebody else.
    pub fn find(pem: &str, pin: &str) -> Result<Self, PkiError> {
        for der in certificates(pem)? {
            let facts = facts_of_der(&der)?;
            if facts.key == pin && facts.is_authority {
                return Ok(Self { der });
            }
        }
        let why = "whoever answers there does not have the authority that the token names: the address is wrong, \
                   or somebody is in between";
        Err(PkiError::Certificate(why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_do_not_show_their_secret() {
        let token = JoinToken::generate("ab".repeat(PIN_BYTES)).unwrap();
        assert_eq!(token.to_string().parse::<JoinToken>(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(&token.secret));
        assert_ne!(token, JoinToken::generate(token.pin.clone()).unwrap());
        let cut = token.to_string();
        for wrong in
            ["", "fbj1", &cut[..cut.len() - 1], &cut.replace("fbj1", "fbj2"), &cut.to_uppercase()]
        {
            assert_eq!(wrong.parse::<JoinToken>(), Err(InvalidToken), "{wrong}");
        }
        assert_ne!(hash_of("a"), hash_of("b"));
    }
}
