//! Overlap against brute force: every pair of small patterns is compared with the paths that really
//! match both, found by a matcher of its own. Wrong decisions of known kinds must be caught.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::resource::Segment;
use crate::resource::entry::{parse_path, path_matches, paths_overlap};

/// All texts of 1 to `length_max` of these characters.
fn words(alphabet: &str, length_max: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = vec![String::new()];
    for _ in 0..length_max {
        last = last
            .iter()
            .flat_map(|word| alphabet.chars().map(move |c| format!("{word}{c}")))
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// Matches by trying everything, straight from the definition.
fn naive_segment(pattern: &str, text: &str) -> bool {
    fn run(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| run(rest, &text[skip..])),
            Some((c, rest)) => text.first() == Some(c) && run(rest, &text[1..]),
        }
    }
    !(text.is_empty() && pattern.contains('*')) && run(pattern.as_bytes(), text.as_bytes())
}

fn naive_path(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", _)), Some(_)) => true,
        (Some((segment, pattern)), Some((text, path))) => {
            naive_segment(segment, text) && naive_path(pattern, path)
        }
        _ => false,
    }
}

/// Pairs of one-segment patterns for which the decision differs from brute force.
fn wrong_segments(decide: impl Fn(&Segment, &Segment) -> bool) -> Vec<String> {
    // Two patterns of 4 characters with a `*` each have at most 6 others, and a common text need
    // not be longer than those together.
    let texts = words("ab", 6);
    let patterns: Vec<String> =
        words("ab*", 4).into_iter().filter(|pattern| !pattern.contains("**")).collect();
    let matched: Vec<u128> = patterns
        .iter()
        .map(|pattern| {
            let hits = texts.iter().enumerate().filter(|(_, text)| naive_segment(pattern, text));
            hits.fold(0, |bits, (at, _)| bits | 1 << at)
        })
        .collect();
    let parsed: Vec<Segment> = patterns.iter().map(|p| Segment::parse(p).unwrap()).collect();
    let mut wrong = Vec::new();
    for (i, one) in parsed.iter().enumerate() {
        for (j, two) in parsed.iter().enumerate() {
            if decide(one, two) != (matched[i] & matched[j] != 0) {
                wrong.push(format!("{one} and {two}"));
            }
        }
    }
    wrong
}

/// All paths of 1 to `segments_max` of these segments, and each of them behind a `/`.
fn paths(segments: &[&'static str], segments_max: usize) -> Vec<Vec<&'static str>> {
    let mut all: Vec<Vec<&'static str>> = Vec::new();
    let mut last: Vec<Vec<&'static str>> = vec![Vec::new()];
    for _ in 0..segments_max {
        last = last
            .iter()
            .flat_map(|path| {
                segments.iter().map(move |segment| [path.as_slice(), &[*segment]].concat())
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    let rooted: Vec<_> = all.iter().map(|path| [&[""], path.as_slice()].concat()).collect();
    all.extend(rooted);
    all
}

/// Pairs of path patterns for which the decision differs from brute force.
fn wrong_paths(decide: impl Fn(&[Segment], &[Segment]) -> bool) -> Vec<String> {
    // Any two of these segments that overlap have one of the four texts in common; a common path of
    // two patterns need not have more segments than the longer one, and one more for `**`.
    let universe = paths(&["a", "b", "ab", "aa"], 3);
    let mut patterns = paths(&["a", "b", "*", "a*", "*b"], 2);
    let with_rest: Vec<_> =
        patterns.iter().map(|path| [path.as_slice(), &["**"]].concat()).collect();
    patterns.extend(with_rest);
    patterns.push(vec!["**"]);
    patterns.push(vec!["", "**"]);
    let matched: Vec<BTreeSet<usize>> = patterns
        .iter()
        .map(|pattern| {
            let hits = universe.iter().enumerate().filter(|(_, path)| naive_path(pattern, path));
            hits.map(|(at, _)| at).collect()
        })
        .collect();
    let parsed: Vec<Vec<Segment>> =
        patterns.iter().map(|pattern| parse_path(&pattern.join("/")).unwrap()).collect();
    let mut wrong = Vec::new();
    for (i, one) in parsed.iter().enumerate() {
        for (path, segments) in universe.iter().enumerate() {
            let found = path_matches(one, segments.iter().copied());
            assert_eq!(found, matched[i].contains(&path), "{:?} {segments:?}", patterns[i]);
        }
        for (j, two) in parsed.iter().enumerate() {
            if decide(one, two) == matched[i].is_disjoint(&matched[j]) {
                wrong.push(format!("{:?} and {:?}", patterns[i], patterns[j]));
            }
        }
    }
    wrong
}

#[test]
fn segments_overlap_exactly_when_a_text_matches_both() {
    assert_eq!(wrong_segments(Segment::overlaps), Vec::<String>::new());
}

#[test]
fn paths_overlap_exactly_when_a_path_matches_both() {
    assert_eq!(wrong_paths(paths_overlap), Vec::<String>::new());
}

#[test]
fn brute_force_catches_wrong_decisions_on_segments() {
    // A pattern read as text: the usual mistake, which misses `a*` and `*b`.
    let one_way =
        |one: &Segment, two: &Segment| one.matches(two.as_str()) || two.matches(one.as_str());
    assert!(wrong_segments(one_way).contains(&"a* and *b".to_owned()));
    // Only what stands before the first `*`.
    let prefix = |segment: &Segment| segment.as_str().split('*').next().unwrap().to_owned();
    let by_prefix = |one: &Segment, two: &Segment| {
        prefix(one).starts_with(&prefix(two)) || prefix(two).starts_with(&prefix(one))
    };
    assert!(wrong_segments(by_prefix).contains(&"*a and *b".to_owned()));
}

#[test]
fn brute_force_catches_wrong_decisions_on_paths() {
    // `**` that also covers the directory itself.
    let also_itself = |one: &[Segment], two: &[Segment]| {
        let bare = |path: &[Segment]| match path.split_last() {
            Some((Segment::Rest, before)) => before.to_vec(),
            _ => path.to_vec(),
        };
        paths_overlap(one, two) || paths_overlap(&bare(one), two) || paths_overlap(one, &bare(two))
    };
    assert!(!wrong_paths(also_itself).is_empty());
    // Lengths forgotten: `a` taken for everything below it.
    let shorter = |one: &[Segment], two: &[Segment]| {
        let both = one.len().min(two.len());
        paths_overlap(&one[..both], &two[..both])
    };
    assert!(!wrong_paths(shorter).is_empty());
}

/// A pattern that matches the path: some runs of characters become `*`, and perhaps the tail `**`.
fn generalised(path: Vec<String>) -> impl Strategy<Value = String> {
    let segment_count = path.len();
    let segments: Vec<_> = path
        .into_iter()
        .map(|text| {
            let length = text.chars().count();
            (0..=length, 0..=length, any::<bool>()).prop_map(move |(from, to, keep)| {
                if keep {
                    return text.clone();
                }
                let (from, to) = (from.min(to), from.max(to));
                let before: String = text.chars().take(from).collect();
                let after: String = text.chars().skip(to).collect();
                format!("{before}*{after}")
            })
        })
        .collect();
    (segments, 0..=segment_count).prop_map(|(mut segments, cut)| {
        if cut < segments.len() {
            segments.truncate(cut);
            segments.push("**".to_owned());
        }
        segments.join("/")
    })
}

fn path_and_two_patterns() -> impl Strategy<Value = (Vec<String>, String, String)> {
    prop::collection::vec("[a-cé☃][a-cé☃. ]{0,5}[a-cé☃]", 1..6)
        .prop_flat_map(|path| (Just(path.clone()), generalised(path.clone()), generalised(path)))
}

proptest! {
    #[test]
    fn patterns_of_one_path_match_it_and_overlap((path, one, two) in path_and_two_patterns()) {
        let (one, two) = (parse_path(&one).unwrap(), parse_path(&two).unwrap());
        let text = path.join("/");
        prop_assert!(path_matches(&one, text.split('/')));
        prop_assert!(path_matches(&two, text.split('/')));
        prop_assert!(paths_overlap(&one, &two));
        prop_assert!(paths_overlap(&two, &one));
    }
}
