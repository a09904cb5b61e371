//! A loop's resource set: parsed, free of inner overlaps, in canonical order.

use super::entry::{Entry, EntryProblem, parse_path, split_scheme};
use super::paths::PathSet;
use super::repo::{CASELESS_HOSTS, RepoId};
use super::segment::Segment;
use crate::spec::{Access, Owns};

/// Most entries of a set. The transaction that assigns a loop compares and puts a key for each, and
/// etcd allows 128 operations per request, shared by a batch of assignments.
pub const ENTRIES_MAX: usize = 48;

/// What is wrong with one entry of a list. A retry gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} {problem}")]
pub struct EntryError {
    /// Position in the list, from 0.
    pub index: usize,
    /// What was found and what is allowed.
    pub problem: EntryProblem,
}

/// What a loop may touch: at most [`ENTRIES_MAX`] entries, sorted, of which no two conflict and no
/// two are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceSet(Vec<Entry>);

impl ResourceSet {
    /// Reads `owns` of a manifest. A bare path means the workspace repository.
    ///
    /// # Errors
    /// One [`EntryError`] for each entry that breaks the grammar or names its repository in another
    /// than the canonical way, or conflicts with an earlier one; one for too many.
    pub fn parse(owns: &[Owns], workspace: Option<&RepoId>) -> Result<Self, Vec<EntryError>> {
        let texts: Vec<&str> = owns.iter().map(text_of).collect();
        Self::collect(&texts, |index| {
            owns.get(index).map_or(Err(EntryProblem::Empty), |owns| parse_owns(owns, workspace))
        })
    }

    /// Reads entries in their canonical form, as claims and statuses keep them.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_canonical<S: AsRef<str>>(entries: &[S]) -> Result<Self, Vec<EntryError>> {
        let texts: Vec<&str> = entries.iter().map(AsRef::as_ref).collect();
        Self::collect(&texts, |index| {
            texts.get(index).map_or(Err(EntryProblem::Empty), |text| text.parse())
        })
    }

    fn collect(
        texts: &[&str],
        parse: impl Fn(usize) -> Result<Entry, EntryProblem>,
    ) -> Result<Self, Vec<EntryError>> {
        if texts.len() > ENTRIES_MAX {
            let problem = EntryProblem::TooMany { found: texts.len(), max: ENTRIES_MAX };
            return Err(vec![EntryError { index: ENTRIES_MAX, problem }]);
        }
        let mut entries: Vec<(usize, Entry)> = Vec::new();
        let mut errors = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match parse(index).and_then(|entry| check_against(&entries, entry, text, texts)) {
                Ok(entry) => entries.push((index, entry)),
                Err(problem) => errors.push(EntryError { index, problem }),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
        entries.sort();
        Ok(Self(entries))
    }

    /// The entries, in canonical order.
    pub fn entries(&self) -> &[Entry] {
        &self.0
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for a set that touches nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries in the canonical form that [`from_canonical`](Self::from_canonical) reads.
    pub fn canonical(&self) -> Vec<String> {
        self.0.iter().map(Entry::to_string).collect()
    }

    /// Whether two owners may not hold these sets at once.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|two| one.conflicts(two)))
    }

    /// The paths of this repository that the set gives for writing.
    pub fn git_patterns(&self, repository: &RepoId) -> PathSet {
        PathSet::of_repository(self.0.iter(), repository)
    }

    /// Access and `<scheme>/<path…>` of every entry's key in the store; see [`Entry::owner_key`].
    pub fn owner_keys(&self) -> impl Iterator<Item = (Access, String)> {
        self.0.iter().map(|entry| (entry.access(), entry.owner_key()))
    }
}

fn text_of(owns: &Owns) -> &str {
    match owns {
        Owns::Exclusive(text) => text,
        Owns::WithAccess(entry) => &entry.resource,
    }
}

fn parse_owns(owns: &Owns, workspace: Option<&RepoId>) -> Result<Entry, EntryProblem> {
    let access = match owns {
        Owns::Exclusive(_) => Access::Exclusive,
        Owns::WithAccess(entry) => entry.access,
    };
    let text = text_of(owns);
    if text.is_empty() {
        return Err(EntryProblem::Empty);
    }
    if split_scheme(text).is_some() {
        let entry = Entry::parse(access, text)?;
        check_repository(&entry, text, workspace)?;
        return Ok(entry);
    }
    if text.starts_with('/') {
        return Err(EntryProblem::Absolute { found: text.to_owned() });
    }
    let pattern = parse_path(text)?;
    match workspace {
        Some(repository) => Entry::from_parts(access, "git", repository.join(pattern)?),
        None => Err(EntryProblem::BareWithoutWorkspace { found: text.to_owned() }),
    }
}

/// Refuses the usual ways to write a repository other than by its canonical id: they would be
/// entries of a repository that nobody has, and overlap with nothing.
fn check_repository(
    entry: &Entry,
    text: &str,
    workspace: Option<&RepoId>,
) -> Result<(), EntryProblem> {
    if entry.scheme() != "git" {
        return Ok(());
    }
    let segments: Vec<&str> = entry.segments().iter().map(Segment::as_str).collect();
    if let Some(repository) = workspace {
        let own: Vec<&str> = repository.segments().collect();
        if segments == own {
            return Err(EntryProblem::NoPath { suggestion: repository.entry_text("**") });
        }
        if segments.starts_with(&own) {
            // What follows is a path; it may be written in any way.
            return Ok(());
        }
    }
    let canonical = canonical_segments(&segments);
    if canonical == segments {
        return Ok(());
    }
    let suggestion = format!("git:{}", canonical.join("/"));
    Err(EntryProblem::NotCanonical { found: text.to_owned(), suggestion })
}

/// The segments with host, owner and name as the canonical id has them. Where the repository's part
/// ends is not known, so `.git` is taken off the first segment that ends with it.
fn canonical_segments(segments: &[&str]) -> Vec<String> {
    let mut canonical: Vec<String> = segments.iter().map(|&segment| segment.to_owned()).collect();
    if let Some(host) = canonical.first_mut() {
        let name = host.rsplit_once('@').map_or(host.as_str(), |(_, name)| name);
        *host = name.to_lowercase();
        if CASELESS_HOSTS.contains(&host.as_str()) {
            for segment in canonical.iter_mut().skip(1).take(2) {
                *segment = segment.to_lowercase();
            }
        }
    }
    let dot_git = |segment: &&mut String| segment.len() > 4 && segment.ends_with(".git");
    if let Some(segment) = canonical.iter_mut().skip(1).find(dot_git) {
        segment.truncate(segment.len() - 4);
    }
    canonical
}

/// Compares a new entry with the earlier ones of its list.
fn check_against(
    earlier: &[(usize, Entry)],
    entry: Entry,
    text: &str,
    texts: &[&str],
) -> Result<Entry, EntryProblem> {
    let clash = |other: &Entry| other.conflicts(&entry) || *other == entry;
    let Some((other_index, other)) = earlier.iter().find(|(_, other)| clash(other)) else {
        return Ok(entry);
    };
    let advice = if other.path() == entry.path() {
        "name it once"
    } else {
        "keep the wider one, or write them so that no path is in both (exclusive includes read)"
    };
    Err(EntryProblem::OverlapsOther {
        found: text.to_owned(),
        other_index: *other_index,
        other: texts.get(*other_index).map_or_else(String::new, |&text| text.to_owned()),
        advice,
    })
}
