//! What changed between two trees, and whether it is within the loop's bounds.

use std::collections::BTreeMap;

use flyball_core::record::DiffStat;
use flyball_core::resource::{PathSet, PinSet};
use flyball_core::spec::GovernorSpec;

use super::error::GitError;
use super::oid::Oid;
use super::repo::RunRepo;
use super::snapshot::VIOLATIONS_MAX;

/// Most bytes of a diff's list: two lines per path, see `SNAPSHOT_PATHS_MAX`; a base that moved
/// may differ in more paths than an agent's step.
const DIFF_BYTES_MAX: usize = 64 * 1024 * 1024;

/// File mode of an entry that names a commit of another repository.
const MODE_GITLINK: &str = "160000";
/// File mode of an absent entry.
const MODE_ABSENT: &str = "000000";

/// How a path changed. A rename is a removal and an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// New path.
    Added,
    /// Other content, same kind of file.
    Modified,
    /// Path removed.
    Removed,
    /// Only the executable bit changed.
    Mode,
    /// File, symbolic link or submodule entry turned into another of these.
    Type,
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path from the root of the repository, `/`-separated.
    pub path: String,
    /// How it changed.
    pub kind: ChangeKind,
    /// Lines added; 1 for a binary file.
    pub added: u32,
    /// Lines removed.
    pub removed: u32,
    /// True if either side is an entry for another repository (submodule).
    pub is_submodule: bool,
    /// Mode and object of the old side, as `git update-index --index-info` takes them.
    pub(super) old: (String, String),
}

impl RunRepo {
    /// Differences between two trees (or commits), by path. Attributes cannot hide lines: none
    /// are read.
    ///
    /// # Errors
    /// `Local`; `TooLarge` beyond a bound that fits several 100 000 paths.
    pub async fn diff(&self, from: &Oid, to: &Oid) -> Result<Vec<Change>, GitError> {
        let options = [
            "diff-tree",
            "-r",
            "-z",
            "--raw",
            "--numstat",
            "--no-abbrev",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
            "--ignore-submodules=none",
            from.as_str(),
            to.as_str(),
        ];
        let output = self.call(options).stdout_bytes_max(DIFF_BYTES_MAX).ok().await?;
        parse(&output.stdout)
    }
}

fn parse(output: &[u8]) -> Result<Vec<Change>, GitError> {
    let bad = |what: &str| GitError::local("diff-tree", format!("unexpected output: {what:?}"));
    let mut changes: BTreeMap<String, Change> = BTreeMap::new();
    let mut tokens = output.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            continue;
        }
        if let Some(raw) = token.strip_prefix(':') {
            let fields: Vec<&str> = raw.split(' ').collect();
            let (&[old_mode, new_mode, old, new, _], Some(path)) = (&fields[..], tokens.next())
            else {
                return Err(bad(&token));
            };
            let path = path.into_owned();
            let change = Change {
                kind: kind(old_mode, new_mode, old == new),
                added: 0,
                removed: 0,
                is_submodule: old_mode == MODE_GITLINK || new_mode == MODE_GITLINK,
                old: (old_mode.to_owned(), old.to_owned()),
                path: path.clone(),
            };
            changes.insert(path, change);
        } else {
            let mut fields = token.splitn(3, '\t');
            let (Some(added), Some(removed), Some(path)) =
                (fields.next(), fields.next(), fields.next())
            else {
                return Err(bad(&token));
            };
            let Some(change) = changes.get_mut(path) else { return Err(bad(&token)) };
            // "-" stands for binary: counts as one line.
            change.added = added.parse().unwrap_or(1);
            change.removed = removed.parse().unwrap_or(0);
        }
    }
    Ok(changes.into_values().collect())
}

fn kind(old_mode: &str, new_mode: &str, same_object: bool) -> ChangeKind {
    // The leading digits tell files, symbolic links and submodule entries apart.
    let family = |mode: &str| mode.get(..3).map(str::to_owned);
    match (old_mode, new_mode) {
        (MODE_ABSENT, _) => ChangeKind::Added,
        (_, MODE_ABSENT) => ChangeKind::Removed,
        _ if family(old_mode) != family(new_mode) => ChangeKind::Type,
        _ if same_object => ChangeKind::Mode,
        _ => ChangeKind::Modified,
    }
}

/// The size of a change.
pub fn diff_stat(changes: &[Change]) -> DiffStat {
    let lines = changes
        .iter()
        .fold(0_u32, |sum, change| sum.saturating_add(change.added).saturating_add(change.removed));
    DiffStat { files: u32::try_from(changes.len()).unwrap_or(u32::MAX), lines }
}

/// Every way in which a change breaks the loop's bounds, one line each with numbers, at most
/// `VIOLATIONS_MAX` and a count of the rest. `owns` are the paths that the loop may write.
pub fn check_bounds(
    changes: &[Change],
    owns: &PathSet,
    pins: &PinSet,
    limits: &GovernorSpec,
) -> Vec<String> {
    let mut lines = Vec::new();
    let stat = diff_stat(changes);
    if stat.files > limits.max_files {
        lines.push(format!("{} files changed, at most {} allowed", stat.files, limits.max_files));
    }
    if stat.lines > limits.max_lines {
        lines.push(format!("{} lines changed, at most {} allowed", stat.lines, limits.max_lines));
    }
    let mut more = 0_usize;
    for change in changes {
        let path = &change.path;
        let why = if change.is_submodule {
            "is a submodule entry or nested repository, which a loop cannot change"
        } else if pins.is_pinned(path) {
            "is pinned and may not be changed"
        } else if !owns.allows(path) {
            "is outside of what the loop owns"
        } else {
            continue;
        };
        if lines.len() < VIOLATIONS_MAX {
            lines.push(format!("{path} {why}"));
        } else {
            more += 1;
        }
    }
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use flyball_core::resource::{ResourceSet, canonical_repo_id};
    use flyball_core::spec::Owns;

    use super::*;

    fn change(path: &str, added: u32) -> Change {
        Change {
            path: path.to_owned(),
            kind: ChangeKind::Modified,
            added,
            removed: 0,
            is_submodule: false,
            old: (String::new(), String::new()),
        }
    }

    fn sets(owns: &[&str], pins: &[&str]) -> (PathSet, PinSet) {
        let repository = canonical_repo_id("https://example.org/r").unwrap();
        let owns: Vec<Owns> = owns.iter().map(|p| Owns::Exclusive((*p).to_owned())).collect();
        let owns = ResourceSet::parse(&owns, Some(&repository)).unwrap();
        (owns.git_patterns(&repository), PinSet::parse(pins).unwrap())
    }

    #[test]
    fn bounds_name_the_path_and_the_numbers() {
        let limits = GovernorSpec { max_files: 2, max_lines: 10, ..GovernorSpec::default() };
        let changes = [change("src/a", 5), change("docs/x", 5), change("src/pin", 1)];
        let (owns, pins) = sets(&["src/**"], &["src/pin"]);
        assert_eq!(
            check_bounds(&changes, &owns, &pins, &limits),
            [
                "3 files changed, at most 2 allowed",
                "11 lines changed, at most 10 allowed",
                "docs/x is outside of what the loop owns",
                "src/pin is pinned and may not be changed",
            ]
        );
        assert!(check_bounds(&changes[..1], &owns, &pins, &limits).is_empty());
    }

    #[test]
    fn many_violations_are_bounded() {
        let changes: Vec<Change> = (0..100).map(|n| change(&format!("x{n}"), 0)).collect();
        let (owns, pins) = sets(&[], &[]);
        let limits = GovernorSpec { max_files: 1000, ..GovernorSpec::default() };
        let lines = check_bounds(&changes, &owns, &pins, &limits);
        assert_eq!(lines.len(), VIOLATIONS_MAX + 1);
        assert_eq!(lines.last().unwrap(), "and 80 more");
    }

    #[test]
    fn kinds() {
        assert_eq!(kind("100644", "100755", true), ChangeKind::Mode);
        assert_eq!(kind("100644", "120000", false), ChangeKind::Type);
        assert_eq!(kind("100644", "100644", false), ChangeKind::Modified);
        assert_eq!(kind("000000", "100644", false), ChangeKind::Added);
        assert_eq!(kind("100644", "000000", false), ChangeKind::Removed);
    }
}
