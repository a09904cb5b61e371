//! Object ids as git prints them.

use std::fmt;
use std::str::FromStr;

use super::error::GitError;

/// The id of a git object: 40 hex digits (SHA-1). Checked, so that it can be an argument of any
/// git command without being taken for an option or another name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Oid(String);

impl Oid {
    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tree without entries; git knows it without having it stored.
    pub fn empty_tree() -> Self {
        Self("4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned())
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Oid {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        let hex = text.len() == 40
            && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if hex {
            Ok(Self(text.to_owned()))
        } else {
            Err(GitError::local("oid", format!("{text:?} is not an object id")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hex_of_full_length() {
        assert!("4b825dc642cb6eb9a060e54bf8d69288fbee4904".parse::<Oid>().is_ok());
        for bad in ["", "HEAD", "4b82", "--upload-pack=x", &"g".repeat(40), &"A".repeat(40)] {
            assert!(bad.parse::<Oid>().is_err(), "{bad}");
        }
    }
}
