//! What cargo knows about our packages and theirs, and rules about how manifests are written.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::offence::Offence;
use crate::tree::{File, root};

/// The document with a line for each direct dependency.
pub(crate) const EXPLAINED_IN: &str = "ARCHITECTURE.md";

/// One package, ours or not.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) licence: String,
    /// Empty for packages of this tree.
    pub(crate) source: String,
    /// Relative to the root, or absolute for packages of others.
    pub(crate) manifest: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// A dependency of any kind (normal, build, dev) as the manifest declares it.
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) ours: bool,
}

impl Package {
    #[cfg(test)]
    pub(crate) fn sample(name: &str, ours: &[&str], others: &[&str]) -> Package {
        let list = |names: &[&str], ours| -> Vec<Dependency> {
            names.iter().map(|name| Dependency { name: (*name).to_owned(), ours }).collect()
        };
        let mut dependencies = list(ours, true);
        dependencies.extend(list(others, false));
        Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: "MIT".to_owned(),
            source: String::new(),
            manifest: format!("{name}/Cargo.toml"),
            dependencies,
        }
    }

    fn from_json(value: &Value) -> Package {
        let dependency =
            |d: &Value| Dependency { name: text(d, "name"), ours: d["path"].is_string() };
        let root = format!("{}/", root().display());
        Package {
            name: text(value, "name"),
            version: text(value, "version"),
            licence: text(value, "license"),
            source: text(value, "source"),
            manifest: text(value, "manifest_path").replace(&root, ""),
            dependencies: value["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .map(dependency)
                .collect(),
        }
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// The members of the workspace.
pub(crate) fn workspace_packages() -> Vec<Package> {
    metadata(&["--no-deps"])
}

/// Everything in the lock file that is built on the platform the tests run on.
pub(crate) fn all_packages() -> Vec<Package> {
    metadata(&["--filter-platform", &host()])
}

fn metadata(args: &[&str]) -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(args)
        .output()
        .expect("cargo runs this test, so it can be run by it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    value["packages"].as_array().unwrap().iter().map(Package::from_json).collect()
}

fn host() -> String {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("-vV").output().expect("rustc is beside cargo");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// The manifest files of the members.
pub(crate) fn member_files(packages: &[Package]) -> Vec<String> {
    packages.iter().map(|package| package.manifest.clone()).collect()
}

/// Workspace lints hold for a crate only if it says so.
pub(crate) fn lints_inherited(file: &File) -> Vec<Offence> {
    let inherited = section(&file.text, "[lints]").any(|(_, line)| line == "workspace = true");
    if inherited {
        return Vec::new();
    }
    vec![Offence::new(&file.path, 0, "does not inherit the lints of the workspace")]
}

/// Versions of dependencies stand in the root manifest, once.
pub(crate) fn versions_inherited(file: &File) -> Vec<Offence> {
    let kinds = ["[dependencies]", "[dev-dependencies]", "[build-dependencies]"];
    let lines = kinds.iter().flat_map(|kind| section(&file.text, kind));
    lines
        .filter(|(_, line)| line.contains('=') && !line.starts_with('#'))
        .filter(|(_, line)| !line.contains("workspace = true"))
        .map(|(i, line)| Offence::new(&file.path, i, format!("`{line}` has a version of its own")))
        .collect()
}

/// The lines of one section of a manifest with their numbers.
fn section<'a>(text: &'a str, title: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = text.lines().map(str::trim).enumerate().map(|(i, line)| (i + 1, line));
    lines
        .skip_while(move |(_, line)| *line != title)
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('['))
}

/// Direct dependencies that the table "Dependencies" of the architecture document does not name in the first
/// cell of a row, and names there that are no direct dependency any more.
pub(crate) fn unexplained(packages: &[Package], document: &str) -> Vec<Offence> {
    let all = packages.iter().flat_map(|package| &package.dependencies);
    let used: BTreeSet<&str> = all.filter(|d| !d.ours).map(|d| d.name.as_str()).collect();
    let explained = explained_names(document);
    let missing = used.difference(&explained).map(|name| format!("no row says why {name} is here"));
    let stale = explained.difference(&used).map(|name| format!("{name} is not a dependency"));
    missing.chain(stale).map(|message| Offence::new(EXPLAINED_IN, 0, message)).collect()
}

fn explained_names(document: &str) -> BTreeSet<&str> {
    let is_title = |line: &&str| line.starts_with('#') && line.contains("Dependencies");
    let part = document.lines().skip_while(|line| !is_title(line)).skip(1);
    part.take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix('|')?.split('|').next())
        .skip(2) // the head of the table and the line under it
        .flat_map(|cell| cell.split([',', ' ', '`']))
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn a_manifest_without_lints_is_found() {
    let count = |text| lints_inherited(&File::sample("a/Cargo.toml", text)).len();
    assert_eq!(count("[package]\nworkspace = true\n"), 1);
    assert_eq!(count("[lints]\n[dependencies]\nworkspace = true\n"), 1);
    assert_eq!(count("[lints]\nworkspace = true\n"), 0);
}

#[test]
fn a_version_outside_the_root_is_found() {
    let count = |text| versions_inherited(&File::sample("a/Cargo.toml", text)).len();
    assert_eq!(count("[dependencies]\nserde = \"1\"\ntokio.workspace = true\n"), 1);
    assert_eq!(count("[dev-dependencies]\ninsta = { workspace = true, features = [] }\n"), 0);
    assert_eq!(count("[package]\nversion = \"1\"\n"), 0);
}

#[test]
fn an_unexplained_dependency_is_found() {
    let packages = [Package::sample("flyball-core", &["flyball-x"], &["regex", "serde", "nix"])];
    let document = "# A\nregex here does not count\n## Dependencies\n\n| library | for |\n|---|---|\n\
        | serde, `nix` | regex in another cell |\n| gone | x |\n## End\n| regex | |\n";
    let found = unexplained(&packages, document);
    let expected = ["no row says why regex is here", "gone is not a dependency"];
    assert_eq!(found, expected.map(|message| Offence::new(EXPLAINED_IN, 0, message)));
}

/// Planted bugs are for tests: no other package may turn them on, and no package by default.
pub(crate) fn bugs_only_in_tests(file: &File) -> Vec<Offence> {
    let allowed = ["tests/Cargo.toml", "crates/core/Cargo.toml"];
    let lines = file.text.lines().enumerate();
    let named = lines.filter(|(_, line)| line.contains("planted-bugs") && !line.starts_with('#'));
    named
        .filter(|(_, line)| {
            let declared = file.path == allowed[1] && line.trim() == "planted-bugs = []";
            file.path != allowed[0] && !declared
        })
        .map(|(i, _)| Offence::new(&file.path, i + 1, "planted bugs belong to flyball-tests alone"))
        .collect()
}

/// The features of our own packages in a build of these; none: of what `cargo build` builds here.
pub(crate) fn features(packages: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut tree = Command::new(cargo);
    tree.current_dir(root()).args(["tree", "--locked", "--edges", "normal,build,features"]);
    tree.args(["--invert", "flyball-core", "--prefix", "none"]);
    tree.args(packages.iter().flat_map(|package| ["--package", package]));
    let output = tree.output().expect("cargo runs this test, so it can be run by it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    // `PACKAGE feature "NAME"`, and packages by themselves.
    text.lines().filter(|line| line.contains(" feature ")).map(str::to_owned).collect()
}

/// Features are added up over all packages of one build: what no manifest but that of the tests asks for is in a
/// program that is built beside them.
#[test]
fn the_program_that_is_shipped_can_plant_nothing() {
    let plants = |packages: &[&str]| {
        let features = features(packages);
        assert!(features.iter().any(|it| it.starts_with("flyball-core")), "{features:?}");
        features.iter().any(|it| it.contains("planted-bugs"))
    };
    assert!(!plants(&[]), "`cargo build --release` builds a program that can plant bugs");
    assert!(!plants(&["flyball"]), "`cargo build --release -p flyball` builds one that can");
    assert!(plants(&["flyball", "flyball-tests"]), "a build for tests can, or this looks wrongly");
}

#[test]
fn planted_bugs_elsewhere_are_found() {
    let count = |path, text| bugs_only_in_tests(&File::sample(path, text)).len();
    assert_eq!(
        count("ctl/Cargo.toml", "[dependencies]\nx = { features = [\"planted-bugs\"] }\n"),
        1
    );
    assert_eq!(count("crates/core/Cargo.toml", "[features]\ndefault = [\"planted-bugs\"]\n"), 1);
    assert_eq!(count("crates/core/Cargo.toml", "[features]\nplanted-bugs = []\n"), 0);
    assert_eq!(count("tests/Cargo.toml", "x = { features = [\"planted-bugs\"] }\n"), 0);
}
