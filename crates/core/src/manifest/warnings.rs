//! What is allowed in a manifest and yet probably not meant.

use crate::spec::{LoopSpec, Manifest, Owns};

/// Characters that mean something in the patterns of other tools, and stand for themselves here.
const LITERAL: [char; 3] = ['[', '?', '{'];

/// Doubts about a valid manifest, one line each: `path: text`.
pub fn warnings(manifest: &Manifest) -> Vec<String> {
    let spec = &manifest.spec;
    let owns = spec.owns.iter().map(text).enumerate();
    let mut found: Vec<_> = owns.filter_map(|(at, text)| literal("owns", at, text)).collect();
    let pins = spec.pins.iter().enumerate();
    found.extend(pins.filter_map(|(at, text)| literal("pins", at, text)));
    if pins_cover_owns(spec) {
        let text = "spec.pins: cover everything in spec.owns: whatever the agent changes is \
                    restored before the checks";
        found.push(text.to_owned());
    }
    found
}

fn text(owns: &Owns) -> &str {
    match owns {
        Owns::Exclusive(text) => text,
        Owns::WithAccess(entry) => &entry.resource,
    }
}

fn literal(list: &str, index: usize, text: &str) -> Option<String> {
    let found = text.chars().find(|c| LITERAL.contains(c))?;
    Some(format!(
        "spec.{list}[{index}]: {found:?} in {text:?} stands for itself; patterns know * and ** only"
    ))
}

/// Whether a pin lies over each owned path, as far as their texts tell.
fn pins_cover_owns(spec: &LoopSpec) -> bool {
    let covers = |pin: &str, path: &str| {
        pin == path
            || pin == "**"
            || pin.strip_suffix("**").is_some_and(|dir| dir.ends_with('/') && path.starts_with(dir))
    };
    // What has a scheme is not, or not by its text, a path of the workspace.
    let covered = |path: &str| !path.contains(':') && spec.pins.iter().any(|pin| covers(pin, path));
    !spec.owns.is_empty() && spec.owns.iter().map(text).all(covered)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::parse_manifest;

    fn found(owns: &[&str], pins: &[&str]) -> Vec<String> {
        let manifest = json!({
            "apiVersion": "flyball.dev/v1", "kind": "Loop", "metadata": { "name": "x" },
            "spec": {
                "goal": "g", "owns": owns, "pins": pins,
                "workspace": { "git": { "url": "/srv/a", "ref": "main" } },
                "checks": [{ "name": "c", "run": "true" }],
            },
        });
        warnings(&parse_manifest(&manifest).unwrap())
    }

    #[test]
    fn patterns_of_other_tools_are_doubted() {
        insta::assert_snapshot!(found(&["src/[ab].rs", "a/*"], &["t/{x,y}", "t/?"]).join("\n"), @r#"
        spec.owns[0]: '[' in "src/[ab].rs" stands for itself; patterns know * and ** only
        spec.pins[0]: '{' in "t/{x,y}" stands for itself; patterns know * and ** only
        spec.pins[1]: '?' in "t/?" stands for itself; patterns know * and ** only
        "#);
    }

    #[test]
    fn pins_over_all_that_is_owned_are_doubted() {
        assert_eq!(found(&["src/**"], &["src/**"]).len(), 1);
        assert_eq!(found(&["src/a/*", "src/b"], &["src/**"]).len(), 1);
        assert_eq!(found(&["src/**", "docs/**"], &["**"]).len(), 1);
        assert!(found(&["src/**", "docs/**"], &["src/**"]).is_empty());
        assert!(found(&["src/**"], &["src/tests/**"]).is_empty());
        assert!(found(&["srcs/**"], &["src/**"]).is_empty());
        assert!(found(&["src/**"], &[]).is_empty());
    }
}
