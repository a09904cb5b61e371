//! Licences and origins of all packages in the lock file. `deny.toml` says the same to cargo-deny; this runs everywhere.

use crate::manifests::Package;
use crate::offence::Offence;

/// Licences that allow use, change and sale of the whole without opening it. Keep in step with `deny.toml`.
const ACCEPTED: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Packages whose licence expression cannot be met from the accepted ones.
pub(crate) fn refused(packages: &[Package]) -> Vec<Offence> {
    let refused = packages.iter().filter(|package| !accepts(&package.licence));
    refused
        .map(|p| {
            let message = format!("{} {} has licence `{}`", p.name, p.version, p.licence);
            Offence::new("Cargo.lock", 0, message)
        })
        .collect()
}

/// Packages from elsewhere than a registry or this tree: a git branch can change under the lock file's feet.
pub(crate) fn foreign_sources(packages: &[Package]) -> Vec<Offence> {
    let fine = |p: &Package| p.source.is_empty() || p.source.starts_with("registry+");
    packages
        .iter()
        .filter(|package| !fine(package))
        .map(|p| Offence::new("Cargo.lock", 0, format!("{} comes from {}", p.name, p.source)))
        .collect()
}

/// Evaluates an SPDX expression, also with the old `/` for `OR`.
fn accepts(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens: Vec<&str> = spaced.split_whitespace().rev().collect();
    let verdict = any(&mut tokens);
    verdict && tokens.is_empty()
}

/// Alternatives joined by `OR`; tokens are taken from the end of the list.
fn any(tokens: &mut Vec<&str>) -> bool {
    let mut verdict = all(tokens);
    while tokens.pop_if(|token| *token == "OR").is_some() {
        verdict |= all(tokens);
    }
    verdict
}

/// Terms joined by `AND`.
fn all(tokens: &mut Vec<&str>) -> bool {
    let mut verdict = term(tokens);
    while tokens.pop_if(|token| *token == "AND").is_some() {
        verdict &= term(tokens);
    }
    verdict
}

fn term(tokens: &mut Vec<&str>) -> bool {
    match tokens.pop() {
        Some("(") => {
            let verdict = any(tokens);
            verdict && tokens.pop() == Some(")")
        }
        Some(name) => match tokens.pop_if(|token| *token == "WITH") {
            Some(_) => {
                ACCEPTED.contains(&format!("{name} WITH {}", tokens.pop().unwrap_or("")).as_str())
            }
            None => ACCEPTED.contains(&name),
        },
        None => false,
    }
}

#[test]
fn licence_expressions_are_understood() {
    for fine in [
        "MIT",
        "MIT/Apache-2.0",
        "MIT OR GPL-3.0",
        "(MIT OR X) AND Zlib",
        "Apache-2.0 WITH LLVM-exception OR X",
    ] {
        assert!(accepts(fine), "{fine}");
    }
    for bad in
        ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT OR X) AND Y", "MIT WITH X", "(MIT", "MIT Zlib"]
    {
        assert!(!accepts(bad), "{bad}");
    }
}

#[test]
fn a_refused_licence_is_found() {
    let mut package = Package::sample("left-pad", &[], &[]);
    assert!(refused(std::slice::from_ref(&package)).is_empty());
    package.licence = "AGPL-3.0".to_owned();
    let message = "left-pad 1.0.0 has licence `AGPL-3.0`";
    assert_eq!(refused(&[package]), [Offence::new("Cargo.lock", 0, message)]);
}

#[test]
fn a_package_from_a_branch_is_found() {
    let mut package = Package::sample("left-pad", &[], &[]);
    package.source = "git+https://example.org/left-pad".to_owned();
    assert_eq!(foreign_sources(&[package]).len(), 1);
}
