//! One segment of a resource path: literal, a pattern, or the trailing `**`; matching and overlap.

use std::fmt;

use super::EntryProblem;

/// Longest segment in bytes: the longest file name on Linux (NAME_MAX).
pub const SEGMENT_BYTES_MAX: usize = 255;

/// One segment of an entry's path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Exactly this text. Empty only as the first segment, for paths that start with `/`.
    Literal(Box<str>),
    /// Has at least one `*`; never matches the empty segment.
    Glob(Glob),
    /// `**`: one or more segments. Always the last one.
    Rest,
}

/// A pattern for one segment: text pieces with a `*` between each two. It always has a `*`, and no
/// two adjacent ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Glob(Box<str>);

impl Segment {
    /// Reads one segment, which must not contain `/`.
    ///
    /// # Errors
    /// Empty, `.`, `..`, a control character, `**` beside other characters, or too long.
    pub fn parse(text: &str) -> Result<Self, EntryProblem> {
        if text.is_empty() {
            return Err(EntryProblem::EmptySegment);
        }
        if text == "." || text == ".." {
            return Err(EntryProblem::DotSegment { found: text.to_owned() });
        }
        if text.len() > SEGMENT_BYTES_MAX {
            return Err(EntryProblem::SegmentTooLong { bytes: text.len() });
        }
        if let Some(found) = text.chars().find(|c| c.is_control()) {
            return Err(EntryProblem::ControlCharacter { found });
        }
        if text == "**" {
            return Ok(Self::Rest);
        }
        if text.contains("**") {
            return Err(EntryProblem::MixedRest { found: text.to_owned() });
        }
        if text.contains('*') {
            return Ok(Self::Glob(Glob(text.into())));
        }
        Ok(Self::Literal(text.into()))
    }

    /// The segment as written.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Glob(glob) => glob.as_str(),
            Self::Rest => "**",
        }
    }

    /// Whether this segment of a pattern matches that one segment of a path.
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Literal(literal) => **literal == *text,
            Self::Glob(glob) => glob.matches(text),
            Self::Rest => true,
        }
    }

    /// Whether some single segment matches both.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rest, _) | (_, Self::Rest) => true,
            (Self::Literal(one), _) => other.matches(one),
            (_, Self::Literal(two)) => self.matches(two),
            (Self::Glob(one), Self::Glob(two)) => one.overlaps(two),
        }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Glob {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text before the first `*`; every match starts with it.
    pub(super) fn prefix(&self) -> &str {
        self.0.split_once('*').map_or(&self.0, |(prefix, _)| prefix)
    }

    /// The text after the last `*`; every match ends with it.
    fn suffix(&self) -> &str {
        self.0.rsplit_once('*').map_or(&self.0, |(_, suffix)| suffix)
    }

    /// Whether the pattern matches this segment. Linear: each inner piece is taken at its first
    /// occurrence, which leaves the most room for the pieces after it.
    pub(super) fn matches(&self, text: &str) -> bool {
        let (prefix, suffix) = (self.prefix(), self.suffix());
        let inner = text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix));
        let (Some(mut inner), false) = (inner, text.is_empty()) else {
            return false;
        };
        // What lies between the first and the last `*`; nothing when they are the same one.
        let pieces = self.0.get(prefix.len() + 1..self.0.len() - suffix.len()).unwrap_or_default();
        for piece in pieces.split('*').filter(|piece| !piece.is_empty()) {
            match inner.find(piece) {
                Some(at) => inner = &inner[at + piece.len()..],
                None => return false,
            }
        }
        true
    }

    /// Whether some segment matches both patterns. Exact: both have a `*`, so if the prefixes fit
    /// and the suffixes fit, then "longer prefix, all inner pieces of the one, all inner pieces of
    /// the other, longer suffix" matches both; and if either does not fit, nothing can.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (one, two) = (self.prefix(), other.prefix());
        let prefixes_fit = one.starts_with(two) || two.starts_with(one);
        let (one, two) = (self.suffix(), other.suffix());
        prefixes_fit && (one.ends_with(two) || two.ends_with(one))
    }
}
