//! Every bound at its edge: the last that is taken and the first that is not.

use crate::ids::Token;
use crate::resource::entry::parse_path;
use crate::resource::{
    ClaimIndex, ENTRY_BYTES_MAX, Entry, EntryProblem, PINS_MAX, PathSet, PinSet, RepoId,
    ResourceSet, SEGMENT_BYTES_MAX, SEGMENTS_MAX, canonical_repo_id,
};
use crate::spec::Access;

/// Segments of ordinary length that take this many bytes with the slashes between them.
fn path_of(bytes: usize) -> String {
    let part = "a".repeat(SEGMENT_BYTES_MAX.min(100));
    let mut path = String::new();
    while path.len() < bytes {
        let left = bytes - path.len();
        if !path.is_empty() && left > 1 {
            path.push('/');
        }
        path.extend(part.chars().take(bytes - path.len()));
    }
    path
}

fn repo() -> RepoId {
    canonical_repo_id("https://example.org/r").unwrap()
}

#[test]
fn an_entry_has_as_many_bytes_as_are_allowed_and_no_more() {
    let entry =
        |bytes: usize| Entry::parse(Access::Exclusive, &format!("x:{}", path_of(bytes - 2)));
    assert_eq!(path_of(1000).len(), 1000);
    assert!(entry(ENTRY_BYTES_MAX).is_ok());
    for bytes in [ENTRY_BYTES_MAX + 1, ENTRY_BYTES_MAX + 2] {
        assert_eq!(entry(bytes), Err(EntryProblem::TooLong { bytes }));
    }
}

#[test]
fn an_entry_of_parts_has_the_same_bounds() {
    let entry = |bytes: usize| {
        Entry::from_parts(Access::Read, "x", parse_path(&path_of(bytes - 2)).unwrap())
    };
    assert!(entry(ENTRY_BYTES_MAX).is_ok());
    for bytes in [ENTRY_BYTES_MAX + 1, ENTRY_BYTES_MAX + 2] {
        assert_eq!(entry(bytes), Err(EntryProblem::TooLong { bytes }));
    }
    let deep = |segments: usize| {
        let one = parse_path("a").unwrap();
        Entry::from_parts(Access::Read, "x", one.iter().cycle().take(segments).cloned().collect())
    };
    assert!(deep(SEGMENTS_MAX).is_ok());
    for segments in [SEGMENTS_MAX + 1, SEGMENTS_MAX + 2] {
        assert_eq!(deep(segments), Err(EntryProblem::TooDeep { segments }));
    }
}

#[test]
fn pins_have_bounds_too() {
    let pins = |count: usize| PinSet::parse(&vec!["a"; count]);
    assert!(pins(PINS_MAX).is_ok());
    for found in [PINS_MAX + 1, PINS_MAX + 2] {
        let errors = pins(found).unwrap_err();
        assert_eq!(errors[0].problem, EntryProblem::TooMany { found, max: PINS_MAX });
    }
    let pin = |bytes: usize| PinSet::parse(&[path_of(bytes)]);
    assert!(pin(ENTRY_BYTES_MAX).is_ok());
    for bytes in [ENTRY_BYTES_MAX + 1, ENTRY_BYTES_MAX + 2] {
        assert_eq!(pin(bytes).unwrap_err()[0].problem, EntryProblem::TooLong { bytes });
    }
}

#[test]
fn sets_of_paths_and_pins_say_what_is_in_them() {
    let pins = PinSet::parse(&["tests/**", "*.lock"]).unwrap();
    assert_eq!(pins.patterns().collect::<Vec<_>>(), ["tests/**", "*.lock"]);
    assert!(!pins.is_empty());
    assert!(PinSet::parse::<&str>(&[]).unwrap().is_empty());
    let set = |entry: &str| ResourceSet::from_canonical(&[entry]).unwrap().git_patterns(&repo());
    let paths: PathSet = set("git:example.org/r/src/**");
    assert!(!paths.is_empty());
    assert_eq!(paths.patterns().collect::<Vec<_>>(), ["src/**"]);
    assert!(set("gpu:x/1").is_empty());
}

#[test]
fn a_repository_leaves_an_entry_half_its_room() {
    let url = |bytes: usize| {
        let start = "https://h/";
        canonical_repo_id(&format!("{start}{}", path_of(bytes - start.len())))
    };
    assert!(url(ENTRY_BYTES_MAX / 2).is_ok());
    for bytes in [ENTRY_BYTES_MAX / 2 + 1, ENTRY_BYTES_MAX / 2 + 2] {
        let refused = url(bytes).unwrap_err().to_string();
        assert!(refused.contains(&format!("it has {bytes} bytes")), "{refused}");
    }
    let deep =
        |segments: usize| canonical_repo_id(&format!("/{}", vec!["a"; segments].join("/"))).is_ok();
    let most = (1..SEGMENTS_MAX).take_while(|segments| deep(*segments)).last();
    assert!(most.is_some_and(|most| most <= SEGMENTS_MAX / 2), "{most:?}");
    assert!(!deep(SEGMENTS_MAX));
    // Only an address in brackets is a host here, and not a path that has some.
    for odd in ["[a/b]:x", "a/[b]:x"] {
        let refused = canonical_repo_id(odd).unwrap_err().to_string();
        assert!(refused.contains("it is a relative path"), "{odd}: {refused}");
    }
}

#[test]
fn an_index_is_empty_until_somebody_holds_something() {
    let mut index = ClaimIndex::new();
    assert!(index.is_empty());
    index.insert(1, Token(1), &ResourceSet::from_canonical(&["gpu:x/1"]).unwrap());
    assert!(!index.is_empty());
    index.remove(&1);
    assert!(index.is_empty());
}
