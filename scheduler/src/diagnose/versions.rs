//! What is known of etcd's versions: their faults that touch leases, reads and durability. None of
//! them can make two owners, since every effect checks its token; they cost availability.

/// A fault and where it is fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KnownBug {
    /// etcd's issue, or what it is called.
    pub(crate) name: &'static str,
    /// What it does to this installation.
    pub(crate) effect: &'static str,
}

/// A known fault with the versions that have it: from (inclusive) to (exclusive), per minor line.
type Row = (KnownBug, &'static [((u32, u32), u32, u32)]);

/// Sources: etcd's changelogs of the lines 3.4, 3.5 and 3.6 as of November 2026.
const ROWS: &[Row] = &[
    (
        KnownBug {
            name: "issues 12528 and 15247",
            effect: "a stalled or deposed etcd leader revokes live leases or confirms renewals: \
                     runs are stopped without need",
        },
        &[((3, 4), 0, 31), ((3, 5), 0, 13)],
    ),
    (
        KnownBug {
            name: "renewal of a revoked lease",
            effect: "a renewal may be confirmed for a lease that is gone: a run goes on in vain \
                     until its token is refused",
        },
        &[((3, 4), 0, 38), ((3, 5), 0, 23), ((3, 6), 0, 5)],
    ),
    (
        KnownBug {
            name: "issue 20418",
            effect: "reads may be stale after a pause of etcd: a new leader reads again and starts \
                     later",
        },
        &[((3, 4), 20, 42), ((3, 5), 0, 28), ((3, 6), 0, 9)],
    ),
];

/// Members of these versions can come to disagree about the data after a crash (issue 13766): this
/// one is not covered by fencing.
const INCONSISTENT: ((u32, u32), u32) = ((3, 5), 3);

/// What to run instead.
pub(crate) const RECOMMENDED: &str = "3.5.28, 3.6.9 or later";

fn parse(version: &str) -> Option<((u32, u32), u32)> {
    let number = version.split(['-', '+']).next()?;
    let mut parts = number.split('.').map(str::parse::<u32>);
    let mut next = || parts.next()?.ok();
    Some(((next()?, next()?), next()?))
}

/// The server inside this process; it has the behaviour of a version without that one's faults.
pub(crate) fn is_embedded(version: &str) -> bool {
    version.contains("+flyball")
}

/// The known faults of a version of etcd; none for one that cannot be read.
pub(crate) fn known_bugs(version: &str) -> Vec<KnownBug> {
    let Some((line, patch)) = parse(version).filter(|_| !is_embedded(version)) else {
        return Vec::new();
    };
    let has = |(_, ranges): &&Row| {
        ranges.iter().any(|(of, from, to)| line == *of && (*from..*to).contains(&patch))
            // Lines before 3.4 got none of the fixes.
            || line < (3, 4)
    };
    ROWS.iter().filter(has).map(|(bug, _)| *bug).collect()
}

/// True for versions that can lose what they acknowledged: not to be used at all.
pub(crate) fn may_lose_data(version: &str) -> bool {
    let (of, fixed) = INCONSISTENT;
    !is_embedded(version) && parse(version).is_some_and(|(line, patch)| line == of && patch < fixed)
}

/// True for lines that get no fixes any more.
pub(crate) fn is_end_of_life(version: &str) -> bool {
    !is_embedded(version) && parse(version).is_some_and(|(line, _)| line <= (3, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_known_by_version() {
        let table = [
            ("3.3.27", 3),
            ("3.4.19", 2),
            ("3.4.23", 3),
            ("3.4.31", 2),
            ("3.4.38", 1),
            ("3.4.42", 0),
            ("3.5.12", 3),
            ("3.5.27", 1),
            ("3.5.28", 0),
            ("3.6.4", 2),
            ("3.6.8", 1),
            ("3.6.9", 0),
            ("3.7.0-rc.1", 0),
            ("3.4.23+flyball.0.1.0", 0),
            ("nonsense", 0),
        ];
        for (version, count) in table {
            assert_eq!(known_bugs(version).len(), count, "{version}");
        }
    }

    #[test]
    fn what_may_lose_data_is_named() {
        let table = [("3.5.0", true), ("3.5.2", true), ("3.5.3", false), ("3.4.2", false)];
        for (version, bad) in table {
            assert_eq!(may_lose_data(version), bad, "{version}");
        }
        assert!(is_end_of_life("3.4.42") && !is_end_of_life("3.5.28"));
        assert!(!is_end_of_life("3.4.23+flyball.0.1.0"));
    }
}
