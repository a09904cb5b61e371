//! What the grammar takes and what it refuses, with which words.

use crate::resource::{
    ENTRIES_MAX, ENTRY_BYTES_MAX, Entry, EntryProblem, PINS_MAX, PinSet, RepoId, ResourceSet,
    SEGMENTS_MAX, canonical_repo_id,
};
use crate::spec::{Access, Owns, OwnsWithAccess};

fn repo() -> RepoId {
    canonical_repo_id("https://example.org/team/app.git").unwrap()
}

fn exclusive(entries: &[&str]) -> Vec<Owns> {
    entries.iter().map(|&entry| Owns::Exclusive(entry.to_owned())).collect()
}

fn read(resource: &str) -> Owns {
    Owns::WithAccess(OwnsWithAccess { resource: resource.to_owned(), access: Access::Read })
}

/// The canonical entries, or the errors, one per line.
fn parsed(owns: &[Owns]) -> String {
    match ResourceSet::parse(owns, Some(&repo())) {
        Ok(set) => set.canonical().join("\n"),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn entries_are_canonical_and_sorted() {
    let mut owns = exclusive(&[
        "src/**",
        "gpu:node1/0",
        "Cargo.toml",
        "docs/*.md",
        "app/[id]/page.tsx",
        "notes/a: b",
        "git:example.org/other/**",
        "git:/srv/local/src/*_test.rs",
        "git:example.org/team/app/fixtures/bare.git/HEAD",
        "branch:example.org/team/app/release-*",
        "env:staging",
    ]);
    owns.push(read("vendor/**"));
    assert_eq!(
        parsed(&owns),
        "branch:example.org/team/app/release-*\n\
         env:staging\n\
         git:/srv/local/src/*_test.rs\n\
         git:example.org/other/**\n\
         git:example.org/team/app/Cargo.toml\n\
         git:example.org/team/app/app/[id]/page.tsx\n\
         git:example.org/team/app/docs/*.md\n\
         git:example.org/team/app/fixtures/bare.git/HEAD\n\
         git:example.org/team/app/notes/a: b\n\
         git:example.org/team/app/src/**\n\
         read git:example.org/team/app/vendor/**\n\
         gpu:node1/0"
    );
}

#[test]
fn each_bad_entry_says_what_was_found_and_what_is_allowed() {
    let cases = [
        ("", "is empty; write a path such as src/** or scheme:path such as gpu:node1/0"),
        (
            "src/",
            "has an empty segment; write one '/' between segments and none at the end (everything below a directory is dir/**)",
        ),
        (
            "src//a",
            "has an empty segment; write one '/' between segments and none at the end (everything below a directory is dir/**)",
        ),
        ("./src", "has the segment \".\"; write the path without . and .."),
        ("src/../x", "has the segment \"..\"; write the path without . and .."),
        ("src/**/x", "has ** before the end; ** is allowed only as the last segment"),
        ("**/x", "has ** before the end; ** is allowed only as the last segment"),
        (
            "src/**.rs",
            "has the segment \"**.rs\"; ** must be a whole segment, use one * inside a segment",
        ),
        ("***", "has the segment \"***\"; ** must be a whole segment, use one * inside a segment"),
        ("a\tb", "has the control character '\\t'; only printable characters are allowed"),
        ("src/** ", "\"src/** \" starts or ends with a space; remove it"),
        (
            "/src",
            "\"/src\" is absolute; bare paths are relative to the workspace, without leading '/'",
        ),
        (
            "GPU:0",
            "\"GPU\" is not a scheme: use 1 to 32 characters of a-z, 0-9 and '-', starting with a letter",
        ),
        (
            ":x",
            "\"\" is not a scheme: use 1 to 32 characters of a-z, 0-9 and '-', starting with a letter",
        ),
        ("gpu:", "is empty; write a path such as src/** or scheme:path such as gpu:node1/0"),
        (
            "https://example.org/a",
            "\"https://example.org/a\" is a URL; write git:<host>/<repository>/<path>, without scheme, user and .git",
        ),
        (
            "git:example.org/team/app",
            "names the repository and no path in it; for all of it write \"git:example.org/team/app/**\"",
        ),
        (
            "git:example.org/team/app.git/src/**",
            "\"git:example.org/team/app.git/src/**\" does not name a repository by its canonical id; write \"git:example.org/team/app/src/**\"",
        ),
        (
            "git:me@Example.org/x/**",
            "\"git:me@Example.org/x/**\" does not name a repository by its canonical id; write \"git:example.org/x/**\"",
        ),
        (
            "git:github.com/Org/Repo/Src/**",
            "\"git:github.com/Org/Repo/Src/**\" does not name a repository by its canonical id; write \"git:github.com/org/repo/Src/**\"",
        ),
    ];
    for (entry, message) in cases {
        assert_eq!(parsed(&exclusive(&["ok", entry])), format!("entry 1 {message}"), "{entry:?}");
    }
}

#[test]
fn bounds_are_kept() {
    let long_segment = "x".repeat(256);
    assert_eq!(
        parsed(&exclusive(&[&long_segment])),
        "entry 0 has a segment of 256 bytes; at most 255 are allowed"
    );
    let deep = ["x"; 62].join("/");
    assert_eq!(
        parsed(&exclusive(&[&deep])),
        "entry 0 has 65 segments; at most 64 are allowed, with the repository's"
    );
    let long = [long_segment[1..].to_owned(), "y".repeat(255), "z".repeat(255)].join("/");
    let prefix = "git:example.org/team/app/".len();
    let room = ENTRY_BYTES_MAX - prefix - long.len() - 1;
    assert!(parsed(&exclusive(&[&format!("{long}/{}", "r".repeat(room))])).starts_with("git:"));
    assert_eq!(
        parsed(&exclusive(&[&format!("{long}/{}", "r".repeat(room + 1))])),
        "entry 0 has 1025 bytes; at most 1024 are allowed, with scheme and repository"
    );
    let names: Vec<String> = (0..=ENTRIES_MAX).map(|n| format!("f{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(parsed(&exclusive(&names[..ENTRIES_MAX])).starts_with("git:"));
    assert_eq!(
        parsed(&exclusive(&names)),
        "entry 48 there are 49 entries; at most 48 are allowed; combine some with * or **"
    );
}

#[test]
fn overlaps_inside_one_list_name_both_entries() {
    let wider = "keep the wider one, or write them so that no path is in both (exclusive includes \
                 read)";
    assert_eq!(
        parsed(&exclusive(&["src/**", "docs/**", "src/main.rs"])),
        format!("entry 2 \"src/main.rs\" overlaps entry 0 (\"src/**\") of the same list; {wider}")
    );
    let mixed = [exclusive(&["src/a*"]), vec![read("src/*b")]].concat();
    assert_eq!(
        parsed(&mixed),
        format!("entry 1 \"src/*b\" overlaps entry 0 (\"src/a*\") of the same list; {wider}")
    );
    assert_eq!(
        parsed(&[read("src/**"), read("src/**")]),
        "entry 1 \"src/**\" overlaps entry 0 (\"src/**\") of the same list; name it once"
    );
    assert_eq!(
        parsed(&exclusive(&["src/x", "git:example.org/team/app/src/x"])),
        "entry 1 \"git:example.org/team/app/src/x\" overlaps entry 0 (\"src/x\") of the same list; \
         name it once"
    );
    // Readers may overlap, and a directory is not what is below it.
    assert!(parsed(&[read("src/**"), read("src/main.rs")]).starts_with("read "));
    assert!(parsed(&exclusive(&["src", "src/**"])).starts_with("git:"));
}

#[test]
fn every_bad_entry_is_reported() {
    let errors = ResourceSet::parse(&exclusive(&["a//b", "ok", "**/x", "ok"]), None).unwrap_err();
    let indices: Vec<usize> = errors.iter().map(|error| error.index).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_eq!(
        errors[1].to_string(),
        "entry 1 \"ok\" is a bare path, which needs workspace.git; without one write scheme:path, \
         e.g. git:example.org/repo/ok"
    );
}

#[test]
fn a_set_gives_the_paths_of_its_exclusive_entries() {
    let owns = [
        exclusive(&["src/**", "*.md", "git:example.org/other/lib/**", "gpu:team/app"]),
        vec![read("vendor/**")],
    ]
    .concat();
    let set = ResourceSet::parse(&owns, Some(&repo())).unwrap();
    let paths = set.git_patterns(&repo());
    assert_eq!(paths.patterns().collect::<Vec<_>>(), ["*.md", "src/**"]);
    for inside in ["src/main.rs", "src/a/b/c.rs", "README.md", ".md"] {
        assert!(paths.allows(inside), "{inside}");
    }
    for outside in
        ["src", "vendor/x", "docs/README.md", "lib/x", "src/../x", "src//x", "", "/src/x", "Src/x"]
    {
        assert!(!paths.allows(outside), "{outside}");
    }
    let other = canonical_repo_id("git@example.org:other.git").unwrap();
    assert!(set.git_patterns(&other).allows("lib/x"));
    assert!(!set.git_patterns(&other).allows("src/x"));
}

#[test]
fn patterns_reach_over_repositories() {
    let owns = exclusive(&["git:example.org/**", "git:*/team/app/src/*"]);
    assert!(ResourceSet::parse(&owns, None).is_err());
    let wide = ResourceSet::parse(&owns[..1], None).unwrap();
    assert!(wide.git_patterns(&repo()).allows("any/thing"));
    let hosts = ResourceSet::parse(&owns[1..], None).unwrap();
    assert!(hosts.git_patterns(&repo()).allows("src/a"));
    assert!(!hosts.git_patterns(&repo()).allows("src/a/b"));
    assert!(ResourceSet::default().git_patterns(&repo()).is_empty());
}

#[test]
fn pins_are_paths_of_the_workspace() {
    let pins = PinSet::parse(&["tests/**", "Cargo.lock", "ci/*.sh"]).unwrap();
    assert!(pins.is_pinned("tests/a/b.rs") && pins.is_pinned("Cargo.lock"));
    assert!(!pins.is_pinned("tests") && !pins.is_pinned("ci/x/y.sh"));
    assert!(!PinSet::parse::<&str>(&[]).unwrap().is_pinned("x"));
    let errors = PinSet::parse(&["ok", "/etc/x", "git:example.org/r/x", "a//b"]).unwrap_err();
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "entry 1 \"/etc/x\" is absolute; bare paths are relative to the workspace, without \
             leading '/'",
            "entry 2 starts with \"git\" and ':' like scheme:path; pins are paths of the \
             workspace, in which a ':' is allowed only behind a '/'",
            "entry 3 has an empty segment; write one '/' between segments and none at the end \
             (everything below a directory is dir/**)",
        ]
    );
    let many = vec!["x"; PINS_MAX + 1];
    assert_eq!(PinSet::parse(&many).unwrap_err()[0].index, PINS_MAX);
}

#[test]
fn schemes_have_letters_digits_and_dashes() {
    for text in ["s3:a", "gpu-2:a", "a-1-b:a"] {
        assert!(Entry::parse(Access::Exclusive, text).is_ok(), "{text}");
    }
    for text in ["s_3:a", "gpu.2:a", "2gpu:a", "-a:a", "gPu:a"] {
        assert!(Entry::parse(Access::Exclusive, text).is_err(), "{text}");
    }
}

#[test]
fn a_path_has_as_many_segments_as_are_allowed() {
    let of = |segments: usize| {
        Entry::parse(Access::Exclusive, &format!("x:{}", vec!["a"; segments].join("/")))
    };
    assert!(of(SEGMENTS_MAX).is_ok());
    for more in 1..3 {
        let segments = SEGMENTS_MAX + more;
        assert_eq!(of(segments), Err(EntryProblem::TooDeep { segments }));
    }
}
