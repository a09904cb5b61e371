//! Secrets that a harness plants, and the search for them in whatever may have leaked: a pure function of bytes.
//!
//! The search knows a value as it is, in hexadecimal digits and in base64, each also inside of something longer and
//! broken up by white space, as encoders wrap lines. It does not know what is compressed, encrypted, reversed, cut
//! into pieces with anything else between them, or printed as a list of numbers.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

/// Letters and digits of a value. Nothing escapes these, and base64 makes of them neither `+` nor `/`, which have
/// other forms elsewhere.
const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// So long that no chance makes it, nor the shortest of its forms.
const VALUE_LENGTH: usize = 32;

/// What is passed over at once: a page of nothing.
const ZEROS: [u8; 4096] = [0; 4096];

/// A value that nobody but its holders may have.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    id: String,
    value: String,
}

impl Secret {
    /// One that was never there before.
    ///
    /// # Panics
    /// When the kernel has no random numbers.
    pub fn random(id: &str) -> Self {
        let mut bytes = [0; VALUE_LENGTH];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
        read.expect("random numbers");
        let letter = |byte: &u8| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]);
        Self { id: id.to_owned(), value: bytes.iter().map(letter).collect() }
    }

    /// What it is called.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The value itself.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// Shows what it is called alone: failures of tests are logs, too.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secret").field(&self.id).finish()
    }
}

/// Looks for values in all their forms at once.
#[derive(Clone)]
pub struct Seeker {
    /// The number of a value, and one of its forms.
    forms: Vec<(usize, Vec<u8>)>,
    /// Forms by their first byte, so that every byte is looked at once.
    by_first: Vec<Vec<usize>>,
}

impl Seeker {
    /// Of these values, which are numbered from 0 on.
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Self {
        let forms: Vec<(usize, Vec<u8>)> = values
            .into_iter()
            .enumerate()
            .flat_map(|(number, value)| forms(value.as_bytes()).map(|form| (number, form)))
            .filter(|(_, form)| !form.is_empty())
            .collect();
        let mut by_first = vec![Vec::new(); 256];
        for (index, (_, form)) in forms.iter().enumerate() {
            by_first[usize::from(form[0])].push(index);
        }
        Self { forms, by_first }
    }

    /// Numbers of the values that are in there.
    pub fn seek(&self, bytes: &[u8]) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            // No form begins with a zero, and logs of a store and memory are mostly these.
            if at.is_multiple_of(ZEROS.len()) && rest.starts_with(&ZEROS) {
                at += ZEROS.len();
                continue;
            }
            for index in &self.by_first[usize::from(rest[0])] {
                let (number, form) = &self.forms[*index];
                if begins_with(rest, form) {
                    found.insert(*number);
                }
            }
            at += 1;
        }
        found
    }
}

/// Whether bytes begin with a form, but for white space inside of it.
fn begins_with(bytes: &[u8], form: &[u8]) -> bool {
    let mut rest = bytes.iter().filter(|byte| !byte.is_ascii_whitespace());
    form.iter().all(|wanted| rest.next() == Some(wanted))
}

/// A value in every form that is known.
fn forms(value: &[u8]) -> [Vec<u8>; 6] {
    let hex = |digits: &[u8; 16]| -> Vec<u8> {
        let pair = |byte: &u8| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]];
        value.iter().flat_map(pair).collect()
    };
    // Inside of something longer it may begin at each byte of a group of three. The groups that are its own alone
    // come out the same whatever stands around them.
    let inner = |skipped: usize| {
        let own = value.get(skipped..).unwrap_or_default();
        base64(&own[..own.len() / 3 * 3])
    };
    let (lower, upper) = (hex(b"0123456789abcdef"), hex(b"0123456789ABCDEF"));
    [value.to_vec(), lower, upper, inner(0), inner(1), inner(2)]
}

/// Base64 of whole groups of three bytes.
fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = |group: &[u8]| {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| DIGITS[bits >> shift & 63])
    };
    bytes.chunks_exact(3).flat_map(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "Tok3nOfTheWorker0123456789abcdef";

    fn sees(text: &str) -> bool {
        !Seeker::new([VALUE]).seek(text.as_bytes()).is_empty()
    }

    #[test]
    fn base64_is_what_others_make_of_it() {
        assert_eq!(base64(b"Man"), b"TWFu");
        assert_eq!(base64(b"light wor"), b"bGlnaHQgd29y");
        assert_eq!(base64(b"\xfb\xff\xbf"), b"+/+/");
    }

    #[test]
    fn every_form_is_found_inside_of_something_longer() {
        // As `printf 'xTok3n…y' | base64` and so on say it, with none, one and two bytes before.
        for text in [
            "a: Tok3nOfTheWorker0123456789abcdef, b",
            "546f6b336e4f66546865576f726b657230313233343536373839616263646566",
            "546F6B336E4F66546865576F726B657230313233343536373839616263646566",
            "VG9rM25PZlRoZVdvcmtlcjAxMjM0NTY3ODlhYmNkZWY=",
            "eFRvazNuT2ZUaGVXb3JrZXIwMTIzNDU2Nzg5YWJjZGVmeQ==",
            "eHhUb2szbk9mVGhlV29ya2VyMDEyMzQ1Njc4OWFiY2RlZnk=",
        ] {
            assert!(sees(text), "{text}");
        }
    }

    #[test]
    fn white_space_hides_nothing() {
        assert!(sees("eFRvazNuT2ZUaGVXb3\r\nJrZXIwMTIzNDU2Nzg5YWJjZGVmeQ=="));
        assert!(sees(
            "54 6f 6b 33 6e 4f 66 54 68 65 57 6f 72 6b 65 72\n30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66"
        ));
    }

    #[test]
    fn what_is_no_such_value_is_not_found() {
        for text in
            ["", "Tok3n", "Tok3nOfTheWorker0123456789abcdeX", "Tok3nOfTheWorker-0123456789abcdef"]
        {
            assert!(!sees(text), "{text}");
        }
        assert!(Seeker::new([]).seek(VALUE.as_bytes()).is_empty());
        assert!(Seeker::new([""]).seek(VALUE.as_bytes()).is_empty(), "an empty value is in all");
    }

    #[test]
    fn pages_of_nothing_hide_nothing() {
        for (before, behind) in [(0, 1), (4096, 4096), (4090, 8192), (12_288, 0), (8191, 5000)] {
            let bytes = [vec![0; before], VALUE.as_bytes().to_vec(), vec![0; behind]].concat();
            assert_eq!(Seeker::new([VALUE]).seek(&bytes).len(), 1, "{before}, {behind}");
        }
        assert!(Seeker::new([VALUE]).seek(&[0; 10_000]).is_empty());
    }

    #[test]
    fn values_are_told_apart() {
        let (one, two) = (Secret::random("one"), Secret::random("two"));
        assert_ne!(one.value(), two.value());
        assert!(!format!("{one:?}").contains(one.value()));
        let seeker = Seeker::new([one.value(), two.value()]);
        assert_eq!(seeker.seek(two.value().as_bytes()), BTreeSet::from([1]));
        let both = format!("{} and {}", two.value(), one.value());
        assert_eq!(seeker.seek(both.as_bytes()), BTreeSet::from([0, 1]));
    }
}
