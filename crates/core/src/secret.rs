//! Secrets: values that are handed to the step that needs them and shown nowhere else.

use std::fmt;

use zeroize::Zeroizing;

/// Largest value: a key or a certificate chain, and small enough for a command's environment.
pub const SECRET_BYTES_MAX: usize = 32 * 1024;
/// Most bytes of the secrets of one loop together: they are handed to a step's process in one piece with its command.
pub const SECRETS_OF_RUN_BYTES_MAX: usize = 64 * 1024;
/// Most secrets of one namespace: far above what people can rotate.
pub const SECRETS_MAX: usize = 200;

/// A secret's value; overwritten in memory when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

/// A value that cannot be a secret; it does not say which.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Too short to be kept out of output.
    #[error("has {0} bytes; at least {min} are needed, or ordinary output would be taken for it", min = crate::redact::VALUE_BYTES_MIN)]
    TooShort(usize),
    /// Too long.
    #[error("has {0} bytes; at most {SECRET_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// No text that an environment variable can hold.
    #[error(
        "must be UTF-8 text without NUL characters, as it is handed over in an environment variable"
    )]
    NoText,
}

impl SecretValue {
    /// A value; line breaks at its end, as editors leave them, are no part of it.
    ///
    /// # Errors
    /// [`InvalidSecret`] when it cannot be handed over or kept out of output.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        let mut bytes = Zeroizing::new(bytes);
        while bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        let length = bytes.len();
        if bytes.trim_ascii().len() < crate::redact::VALUE_BYTES_MIN {
            return Err(InvalidSecret::TooShort(length));
        }
        if length > SECRET_BYTES_MAX {
            return Err(InvalidSecret::TooLong(length));
        }
        if bytes.contains(&0) || std::str::from_utf8(&bytes).is_err() {
            return Err(InvalidSecret::NoText);
        }
        Ok(Self(bytes))
    }

    /// The value, for whoever hands it on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, for whoever hands it on.
    pub fn expose_text(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_never_shown() {
        let value = SecretValue::new(b"hunter2-hunter2\r\n".to_vec()).unwrap();
        assert_eq!(value.expose_text(), "hunter2-hunter2");
        assert_eq!(value.expose(), b"hunter2-hunter2");
        assert_eq!(SecretValue::new(b"hunter2-hunter2\n\n\r\n".to_vec()), Ok(value.clone()));
        assert_eq!(format!("{value:?}"), "SecretValue(***)");
        assert_eq!((SECRET_BYTES_MAX, SECRETS_OF_RUN_BYTES_MAX), (32_768, 65_536));
        assert!(SecretValue::new(vec![b'x'; SECRET_BYTES_MAX]).is_ok());
        for bad in [
            b"1234567\n".to_vec(),
            vec![b'x'; SECRET_BYTES_MAX + 1],
            b"12345678\0".to_vec(),
            vec![0xff; 20],
        ] {
            let error = SecretValue::new(bad).unwrap_err();
            assert!(!error.to_string().contains("1234567"), "{error}");
        }
    }
}
