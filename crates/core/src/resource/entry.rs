//! One entry of a resource set: access, scheme and path pattern; its grammar and its overlap.

use std::fmt;
use std::str::FromStr;

use super::segment::{SEGMENT_BYTES_MAX, Segment};
use crate::planted::{self, Bug};
use crate::spec::Access;

/// Longest entry in bytes: it is part of an etcd key, and 48 of them with their claim stay far
/// below etcd's request limit of 1.5 MiB.
pub const ENTRY_BYTES_MAX: usize = 1024;
/// Most segments of an entry: bounds the depth of the claim index, which is walked recursively.
pub const SEGMENTS_MAX: usize = 64;
/// Longest scheme in bytes; schemes are short words such as `git`, `env`, `gpu`.
pub const SCHEME_BYTES_MAX: usize = 32;
/// Marks shared entries in the canonical form; schemes have no spaces, so it cannot be one.
const READ_MARK: &str = "read ";

/// What is wrong with an entry: what was found and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Nothing there.
    #[error("is empty; write a path such as src/** or scheme:path such as gpu:node1/0")]
    Empty,
    /// No scheme, and nothing that a bare path could be relative to.
    #[error(
        "{found:?} is a bare path, which needs workspace.git; without one write scheme:path, e.g. \
         git:example.org/repo/{found}"
    )]
    BareWithoutWorkspace {
        /// The entry.
        found: String,
    },
    /// No scheme where one is needed.
    #[error("{found:?} has no scheme; write scheme:path, e.g. git:example.org/repo/src/**")]
    NoScheme {
        /// The entry.
        found: String,
    },
    /// The text before the first `:` cannot be a scheme.
    #[error(
        "{found:?} is not a scheme: use 1 to {SCHEME_BYTES_MAX} characters of a-z, 0-9 and '-', \
         starting with a letter"
    )]
    BadScheme {
        /// What stands before the `:`.
        found: String,
    },
    /// A URL in place of `scheme:path`.
    #[error(
        "{found:?} is a URL; write git:<host>/<repository>/<path>, without scheme, user and .git"
    )]
    Url {
        /// The entry.
        found: String,
    },
    /// A bare path that starts with `/`.
    #[error("{found:?} is absolute; bare paths are relative to the workspace, without leading '/'")]
    Absolute {
        /// The path.
        found: String,
    },
    /// A scheme where only paths of the workspace are allowed.
    #[error(
        "starts with {scheme:?} and ':' like scheme:path; pins are paths of the workspace, in which \
         a ':' is allowed only behind a '/'"
    )]
    SchemeInPath {
        /// What stands before the `:`.
        scheme: String,
    },
    /// Two slashes in a row, or one at the end.
    #[error(
        "has an empty segment; write one '/' between segments and none at the end (everything \
         below a directory is dir/**)"
    )]
    EmptySegment,
    /// `.` or `..`.
    #[error("has the segment {found:?}; write the path without . and ..")]
    DotSegment {
        /// The segment.
        found: String,
    },
    /// A control character.
    #[error("has the control character {found:?}; only printable characters are allowed")]
    ControlCharacter {
        /// The character.
        found: char,
    },
    /// White space at the start or the end.
    #[error("{found:?} starts or ends with a space; remove it")]
    OuterSpace {
        /// The entry.
        found: String,
    },
    /// `**` before the end.
    #[error("has ** before the end; ** is allowed only as the last segment")]
    RestNotLast,
    /// `**` beside other characters in a segment.
    #[error("has the segment {found:?}; ** must be a whole segment, use one * inside a segment")]
    MixedRest {
        /// The segment.
        found: String,
    },
    /// A segment over the bound.
    #[error("has a segment of {bytes} bytes; at most {SEGMENT_BYTES_MAX} are allowed")]
    SegmentTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The entry is over the bound.
    #[error("has {bytes} bytes; at most {ENTRY_BYTES_MAX} are allowed, with scheme and repository")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Too many segments.
    #[error("has {segments} segments; at most {SEGMENTS_MAX} are allowed, with the repository's")]
    TooDeep {
        /// Their number.
        segments: usize,
    },
    /// A `git:` entry whose repository is not written canonically.
    #[error("{found:?} does not name a repository by its canonical id; write {suggestion:?}")]
    NotCanonical {
        /// What was written.
        found: String,
        /// How to write it.
        suggestion: String,
    },
    /// The workspace repository without a path in it.
    #[error("names the repository and no path in it; for all of it write {suggestion:?}")]
    NoPath {
        /// How to write it.
        suggestion: String,
    },
    /// Two entries of one set overlap, and at least one is exclusive.
    #[error("{found:?} overlaps entry {other_index} ({other:?}) of the same list; {advice}")]
    OverlapsOther {
        /// The later entry, as the user wrote it.
        found: String,
        /// Index of the earlier entry.
        other_index: usize,
        /// The earlier entry, as the user wrote it.
        other: String,
        /// What to do.
        advice: &'static str,
    },
    /// More entries than a list may have.
    #[error("there are {found} entries; at most {max} are allowed; combine some with * or **")]
    TooMany {
        /// How many there are.
        found: usize,
        /// How many are allowed.
        max: usize,
    },
}

/// One entry: how something is held, and a pattern of what. Ordered by scheme, path and access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    access: Access,
    scheme: String,
    segments: Vec<Segment>,
}

impl Entry {
    /// An entry from `scheme:path`, as users write it, bare paths excepted.
    ///
    /// # Errors
    /// What breaks the grammar of the [module](super).
    pub fn parse(access: Access, text: &str) -> Result<Self, EntryProblem> {
        if text.len() > ENTRY_BYTES_MAX {
            return Err(EntryProblem::TooLong { bytes: text.len() });
        }
        let Some((scheme, path)) = split_scheme(text) else {
            return Err(EntryProblem::NoScheme { found: text.to_owned() });
        };
        check_scheme(scheme)?;
        if path.starts_with("//") {
            return Err(EntryProblem::Url { found: text.to_owned() });
        }
        Ok(Self { access, scheme: scheme.to_owned(), segments: parse_path(path)? })
    }

    /// An entry from checked parts; used for bare paths, whose repository is known.
    pub(super) fn from_parts(
        access: Access,
        scheme: &str,
        segments: Vec<Segment>,
    ) -> Result<Self, EntryProblem> {
        if segments.len() > SEGMENTS_MAX {
            return Err(EntryProblem::TooDeep { segments: segments.len() });
        }
        let entry = Self { access, scheme: scheme.to_owned(), segments };
        let bytes = scheme.len() + 1 + entry.path().len();
        if bytes > ENTRY_BYTES_MAX { Err(EntryProblem::TooLong { bytes }) } else { Ok(entry) }
    }

    /// How it is held.
    pub fn access(&self) -> Access {
        self.access
    }

    /// What kind of resource it is.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The pattern, never empty.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The pattern as text; starts with `/` for local repositories.
    pub fn path(&self) -> String {
        let segments: Vec<&str> = self.segments.iter().map(Segment::as_str).collect();
        segments.join("/")
    }

    /// Whether something is named by both, however it is held. Exact.
    pub fn overlaps(&self, other: &Self) -> bool {
        if planted::is(Bug::OverlapByName) {
            return self.owner_key() == other.owner_key();
        }
        self.scheme == other.scheme && paths_overlap(&self.segments, &other.segments)
    }

    /// Whether two owners may not hold these at once: they overlap and not both are shared.
    pub fn conflicts(&self, other: &Self) -> bool {
        let both_read = self.access == Access::Read && other.access == Access::Read;
        !both_read && self.overlaps(other)
    }

    /// The part of the entry's key in the store that names it: `<scheme>/<path…>`. Two entries have
    /// the same text only if they have the same scheme and path: a scheme has no `/`, and segments
    /// have neither `/` nor control characters. A key that starts with this and goes on with
    /// `/<namespace>/<loop>` is just as unambiguous, since names have no `/` either.
    pub fn owner_key(&self) -> String {
        format!("{}/{}", self.scheme, self.path())
    }

    /// The entry whose [`owner_key`](Self::owner_key) this is.
    ///
    /// # Errors
    /// When no entry has this key.
    pub fn from_owner_key(access: Access, key: &str) -> Result<Self, EntryProblem> {
        match key.split_once('/') {
            Some((scheme, path)) => Self::parse(access, &format!("{scheme}:{path}")),
            None => Err(EntryProblem::NoScheme { found: key.to_owned() }),
        }
    }
}

impl fmt::Display for Entry {
    /// The canonical form, which [`FromStr`] reads back: `git:example.org/r/src/**`, or
    /// `read git:example.org/r/docs/**` when shared.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.access == Access::Read { READ_MARK } else { "" };
        write!(f, "{mark}{}:{}", self.scheme, self.path())
    }
}

impl FromStr for Entry {
    type Err = EntryProblem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(READ_MARK) {
            Some(shared) => Self::parse(Access::Read, shared),
            None => Self::parse(Access::Exclusive, text),
        }
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let (one, two) = (self.segments.iter(), other.segments.iter());
        let by_path = || one.map(Segment::as_str).cmp(two.map(Segment::as_str));
        self.scheme.cmp(&other.scheme).then_with(by_path).then(self.access.cmp(&other.access))
    }
}

/// Splits at the first `:`, unless a `/` comes before it, which makes it part of a bare path.
pub(super) fn split_scheme(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(scheme, _)| !scheme.contains('/'))
}

fn check_scheme(scheme: &str) -> Result<(), EntryProblem> {
    let starts_well = scheme.starts_with(|c: char| c.is_ascii_lowercase());
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if starts_well && scheme.len() <= SCHEME_BYTES_MAX && scheme.bytes().all(inner) {
        Ok(())
    } else {
        Err(EntryProblem::BadScheme { found: scheme.to_owned() })
    }
}

/// Reads the path of an entry. A leading `/` is kept as an empty first segment, so that ids of
/// local repositories are paths like any other.
pub(super) fn parse_path(path: &str) -> Result<Vec<Segment>, EntryProblem> {
    if path.is_empty() {
        return Err(EntryProblem::Empty);
    }
    if path.trim() != path {
        return Err(EntryProblem::OuterSpace { found: path.to_owned() });
    }
    let mut segments = Vec::new();
    let relative = path.strip_prefix('/').inspect(|_| segments.push(Segment::Literal("".into())));
    for text in relative.unwrap_or(path).split('/') {
        if segments.last() == Some(&Segment::Rest) {
            return Err(EntryProblem::RestNotLast);
        }
        segments.push(Segment::parse(text)?);
    }
    if segments.len() > SEGMENTS_MAX {
        return Err(EntryProblem::TooDeep { segments: segments.len() });
    }
    Ok(segments)
}

/// Whether some path matches both patterns. With a `**` a pattern of n other segments matches paths
/// of n + 1 segments and more, without one exactly those of n.
pub(super) fn paths_overlap(one: &[Segment], two: &[Segment]) -> bool {
    for (left, right) in one.iter().zip(two) {
        if *left == Segment::Rest || *right == Segment::Rest {
            // Both have at least one more segment here, and a `**` takes whatever they are.
            return true;
        }
        if !left.overlaps(right) {
            return false;
        }
    }
    one.len() == two.len()
}

/// Whether the pattern matches the path, given by its segments.
pub(super) fn path_matches<'a>(
    pattern: &[Segment],
    mut path: impl Iterator<Item = &'a str>,
) -> bool {
    for segment in pattern {
        match path.next() {
            Some(_) if *segment == Segment::Rest => return true,
            Some(text) if segment.matches(text) => {}
            Some(_) | None => return false,
        }
    }
    path.next().is_none()
}
