//! Sets of paths inside one repository: what a loop may write, and what is pinned.

use super::entry::{
    ENTRY_BYTES_MAX, EntryProblem, parse_path, path_matches, paths_overlap, split_scheme,
};
use super::repo::RepoId;
use super::segment::Segment;
use super::{Entry, EntryError};
use crate::spec::Access;

/// Most pins of a loop: every changed path is compared with each of them.
pub const PINS_MAX: usize = 256;

/// The paths of one repository that a resource set gives for writing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathSet {
    patterns: Vec<Vec<Segment>>,
}

/// The paths of the workspace that the agent may not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PinSet(PathSet);

impl PathSet {
    /// The patterns that exclusive entries leave for paths inside this repository. Patterns may
    /// reach over the repository's own segments: `git:example.org/**` gives all paths of
    /// `example.org/a`.
    pub(super) fn of_repository<'a>(
        entries: impl Iterator<Item = &'a Entry>,
        repository: &RepoId,
    ) -> Self {
        let exclusive =
            entries.filter(|entry| entry.scheme() == "git" && entry.access() == Access::Exclusive);
        let patterns = exclusive.filter_map(|entry| inside(entry.segments(), repository)).collect();
        Self { patterns }
    }

    /// Of patterns as [`PathSet::patterns`] gives them; `None` if one cannot be read.
    pub fn of_patterns<S: AsRef<str>>(patterns: &[S]) -> Option<Self> {
        let patterns = patterns.iter().map(|pattern| parse_path(pattern.as_ref()).ok());
        patterns.collect::<Option<_>>().map(|patterns| Self { patterns })
    }

    /// Whether some path is in both sets.
    pub fn overlaps(&self, other: &Self) -> bool {
        let with = |one: &Vec<Segment>| other.patterns.iter().any(|two| paths_overlap(one, two));
        self.patterns.iter().any(with)
    }

    /// Whether the path, relative to the repository's root and as git writes it, is in the set.
    /// Paths with empty, `.` or `..` segments never are.
    pub fn allows(&self, path: &str) -> bool {
        let plain = path.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
        plain && self.patterns.iter().any(|pattern| path_matches(pattern, path.split('/')))
    }

    /// True when no path is in the set.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// For each pattern the deepest directory that holds all of its paths, relative to the repository's
    /// root; the root itself is empty.
    pub fn roots(&self) -> Vec<String> {
        let root = |pattern: &Vec<Segment>| {
            let literal = |segment: &&Segment| matches!(segment, Segment::Literal(_));
            let length = pattern.iter().take_while(literal).count();
            // What is named in full is a file, or will be.
            let length = if length == pattern.len() { length - 1 } else { length };
            let segments: Vec<&str> = pattern[..length].iter().map(Segment::as_str).collect();
            segments.join("/")
        };
        let mut roots: Vec<String> = self.patterns.iter().map(root).collect();
        roots.sort();
        roots.dedup();
        roots
    }

    /// The patterns as users write them, for briefs and messages.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.patterns.iter().map(|pattern| {
            let segments: Vec<&str> = pattern.iter().map(Segment::as_str).collect();
            segments.join("/")
        })
    }
}

impl PinSet {
    /// Reads pins: patterns relative to the workspace.
    ///
    /// # Errors
    /// One [`EntryError`] per bad pin, or one for too many.
    pub fn parse<S: AsRef<str>>(pins: &[S]) -> Result<Self, Vec<EntryError>> {
        if pins.len() > PINS_MAX {
            let problem = EntryProblem::TooMany { found: pins.len(), max: PINS_MAX };
            return Err(vec![EntryError { index: PINS_MAX, problem }]);
        }
        let (mut patterns, mut errors) = (Vec::new(), Vec::new());
        for (index, pin) in pins.iter().enumerate() {
            match parse_relative(pin.as_ref()) {
                Ok(pattern) => patterns.push(pattern),
                Err(problem) => errors.push(EntryError { index, problem }),
            }
        }
        if errors.is_empty() { Ok(Self(PathSet { patterns })) } else { Err(errors) }
    }

    /// Whether the path, relative to the workspace's root and as git writes it, is pinned.
    pub fn is_pinned(&self, path: &str) -> bool {
        self.0.allows(path)
    }

    /// True when nothing is pinned.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pins as users write them.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.0.patterns()
    }
}

/// Reads a pattern relative to a repository's root.
pub(super) fn parse_relative(text: &str) -> Result<Vec<Segment>, EntryProblem> {
    if text.len() > ENTRY_BYTES_MAX {
        return Err(EntryProblem::TooLong { bytes: text.len() });
    }
    if text.starts_with('/') {
        return Err(EntryProblem::Absolute { found: text.to_owned() });
    }
    // `./src` is refused like any `.`; a scheme would be taken for part of a file name.
    if let Some((scheme, _)) = split_scheme(text) {
        return Err(EntryProblem::SchemeInPath { scheme: scheme.to_owned() });
    }
    parse_path(text)
}

/// The part of the pattern behind the repository's segments; `None` if it matches nothing inside.
fn inside(pattern: &[Segment], repository: &RepoId) -> Option<Vec<Segment>> {
    let mut rest = pattern.iter();
    for own in repository.segments() {
        match rest.next() {
            Some(Segment::Rest) => return Some(vec![Segment::Rest]),
            Some(segment) if segment.matches(own) => {}
            Some(_) | None => return None,
        }
    }
    Some(rest.cloned().collect::<Vec<_>>()).filter(|rest| !rest.is_empty())
}
