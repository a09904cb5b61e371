//! Links in Markdown to files of this tree.

use crate::offence::Offence;
use crate::tree::File;

/// Links whose target is not in the tree. `exists` answers for paths relative to its root.
pub(crate) fn dangling(file: &File, exists: impl Fn(&str) -> bool) -> Vec<Offence> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut in_code = false;
    for (i, line) in file.text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for target in targets(line) {
            let there = local_path(target).is_none_or(|path| match resolve(&file.path, path) {
                Some(resolved) => exists(&resolved),
                None => false,
            });
            if !there {
                found.push(Offence::new(
                    &file.path,
                    i + 1,
                    format!("link to {target}, which is not there"),
                ));
            }
        }
    }
    found
}

/// What stands between `](` and `)`.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next())
}

/// The path of a link within the tree; none for web addresses and for anchors in the same document.
fn local_path(target: &str) -> Option<&str> {
    let path = target.split('#').next().unwrap_or_default();
    let elsewhere = path.contains("://") || path.starts_with("mailto:");
    (!path.is_empty() && !elsewhere).then_some(path)
}

/// The path from the root of the tree; none for one that leaves it.
fn resolve(document: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    if let Some(absolute) = path.strip_prefix('/') {
        parts.clear();
        return Some(absolute.to_owned());
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[test]
fn a_dangling_link_is_found() {
    let exists = |path: &str| ["README.md", "docs/a.md", ""].contains(&path);
    let count = |text| dangling(&File::sample("docs/b.md", text), exists).len();
    assert_eq!(
        count(
            "[a](a.md) [up](../README.md#top) [root](/README.md) [web](https://x.y/z) [here](#x) [all](..)"
        ),
        0
    );
    assert_eq!(count("[a](c.md)"), 1);
    assert_eq!(count("![picture](../picture.svg \"a title\")"), 1);
    assert_eq!(count("[out](../../x)"), 1);
    assert_eq!(count("```\n[a](c.md)\n```\n"), 0);
}
