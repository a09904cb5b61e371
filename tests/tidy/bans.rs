//! Clippy reads the nearest `clippy.toml` and no other, so the core crate's file must repeat the root's bans.

use crate::offence::Offence;

/// Bans (`{ path = … }`) of the root's file that the core crate's file lacks.
pub(crate) fn bans_repeated(root: &str, core: &str) -> Vec<Offence> {
    let missing = bans(root).filter(|ban| !bans(core).any(|known| known == *ban));
    missing
        .map(|ban| {
            Offence::new("crates/core/clippy.toml", 0, format!("lacks the root's ban of {ban}"))
        })
        .collect()
}

/// The banned paths, one per line of the file.
fn bans(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split("path = \"").nth(1)?.split('"').next())
}

#[test]
fn a_ban_that_is_not_repeated_is_found() {
    let root = "disallowed-methods = [\n    { path = \"a::b\", reason = \"c\" },\n]\n";
    assert_eq!(bans_repeated(root, "disallowed-types = []\n").len(), 1);
    assert!(bans_repeated(root, root).is_empty());
}
