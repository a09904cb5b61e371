//! Whether two resource patterns name something in common: a decision of the checker's own, so that a
//! mistake in the product's is seen.
//!
//! Grammar: `scheme:segment/segment`; a segment is literal, has `*` inside (any text, also none), is `*`
//! (any one segment), or, at the end only, `**` (one or more segments). A shared entry ends in ` (read)`;
//! the product's own form, `read ` in front, is read too.

/// A pattern without its access.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern {
    scheme: String,
    segments: Vec<String>,
}

impl Pattern {
    /// Reads an entry; true beside it if it is shared. `None` if it has no scheme.
    pub fn parse(text: &str) -> Option<(Self, bool)> {
        let (text, behind) = match text.strip_suffix(" (read)") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (text, before) = match text.strip_prefix("read ") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let (scheme, path) = text.split_once(':')?;
        let segments = path.split('/').map(str::to_owned).collect();
        Some((Self { scheme: scheme.to_owned(), segments }, behind || before))
    }

    /// Scheme and leading literal segments, each with its separator. Patterns that overlap have heads of
    /// which one begins with the other.
    pub fn head(&self) -> String {
        let mut head = format!("{}:", self.scheme);
        for segment in self.segments.iter().take_while(|segment| !segment.contains('*')) {
            head.push_str(segment);
            head.push('/');
        }
        head
    }

    /// Whether some resource is named by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.scheme == other.scheme && paths_meet(&self.segments, &other.segments)
    }
}

fn paths_meet(one: &[String], two: &[String]) -> bool {
    match (one.split_first(), two.split_first()) {
        (None, None) => true,
        (Some((left, _)), Some((right, _))) if left == "**" || right == "**" => true,
        (Some((left, one)), Some((right, two))) => {
            segments_meet(left, right) && paths_meet(one, two)
        }
        _ => false,
    }
}

/// Whether some segment matches both: tries every pair of positions.
fn segments_meet(one: &str, two: &str) -> bool {
    if one.is_empty() || two.is_empty() {
        return one == two;
    }
    let (one, two): (Vec<char>, Vec<char>) = (one.chars().collect(), two.chars().collect());
    // meet[i][j]: what is left of both from i and j on matches a common text.
    let mut meet = vec![vec![false; two.len() + 1]; one.len() + 1];
    for i in (0..=one.len()).rev() {
        for j in (0..=two.len()).rev() {
            let (left, right) = (one.get(i), two.get(j));
            meet[i][j] = match (left, right) {
                (None, None) => true,
                (Some('*'), _) if meet[i + 1][j] => true,
                (_, Some('*')) if meet[i][j + 1] => true,
                (Some('*'), Some(_)) => meet[i][j + 1],
                (Some(_), Some('*')) => meet[i + 1][j],
                (Some(left), Some(right)) => left == right && meet[i + 1][j + 1],
                _ => false,
            };
        }
    }
    meet[0][0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overlap(one: &str, two: &str) -> bool {
        let [one, two] = [one, two].map(|text| Pattern::parse(text).unwrap().0);
        assert_eq!(one.overlaps(&two), two.overlaps(&one), "either way round");
        one.overlaps(&two)
    }

    #[test]
    fn overlaps_by_table() {
        for (one, two, wanted) in [
            ("git:h/r/src/**", "git:h/r/src/a.rs", true),
            ("git:h/r/src/**", "git:h/r/src", false),
            ("git:h/r/src/**", "git:h/r/**", true),
            ("git:h/r/src/*", "git:h/r/src/a/b", false),
            ("git:h/r/*.rs", "git:h/r/a*", true),
            ("git:h/r/a*b", "git:h/r/ab", true),
            ("git:h/r/a*b", "git:h/r/ba*", false),
            ("git:/srv/r/**", "git:*/srv/r/x", false),
            ("gpu:n1/0", "env:n1/0", false),
            ("gpu:n1/0", "gpu:n1/0 (read)", true),
        ] {
            assert_eq!(overlap(one, two), wanted, "{one} and {two}");
        }
        assert!(Pattern::parse("read git:h/r/x").unwrap().1);
        assert!(Pattern::parse("git:h/r/x (read)").unwrap().1);
        assert!(!Pattern::parse("git:h/r/x").unwrap().1);
    }

    /// Whether a text matches a segment: written differently on purpose.
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| matches(rest, &text[taken..])),
            Some((byte, rest)) => text.first() == Some(byte) && matches(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn segments_meet_where_a_text_does(one in "[ab*]{1,3}", two in "[ab*]{1,3}") {
            // Patterns with at most three characters meet in a text of at most six, if anywhere.
            let texts = (1..=6u32).flat_map(|n| (0..1u32 << n).map(move |bits| -> Vec<u8> {
                (0..n).map(|i| if bits >> i & 1 == 0 { b'a' } else { b'b' }).collect()
            }));
            let mut texts = texts;
            let found = texts.any(|t| matches(one.as_bytes(), &t) && matches(two.as_bytes(), &t));
            // `**` inside a segment is not in the grammar; as two `*` it means the same as one.
            prop_assert_eq!(segments_meet(&one, &two), found);
        }

        #[test]
        fn the_product_decides_alike(
            one in "(git|gpu):(a|b|ab|\\*|a\\*)(/(a|b|ab|\\*|\\*b)){0,3}(/\\*\\*)?",
            two in "(git|gpu):(a|b|ab|\\*|a\\*)(/(a|b|ab|\\*|\\*b)){0,3}(/\\*\\*)?",
        ) {
            use flyball_core::resource::Entry;
            let parse = |text: &str| text.parse::<Entry>().unwrap();
            prop_assert_eq!(overlap(&one, &two), parse(&one).overlaps(&parse(&two)));
            if overlap(&one, &two) {
                let [one, two] = [one, two].map(|text| Pattern::parse(&text).unwrap().0.head());
                prop_assert!(one.starts_with(&two) || two.starts_with(&one));
            }
        }
    }
}
