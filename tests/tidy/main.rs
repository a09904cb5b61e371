//! The rules of this tree that no compiler checks: walls between crates, size budgets, headers, text hygiene,
//! dependencies and their licences. Each rule is a pure function over files or over `cargo metadata`, with its
//! own test that shows it a bad sample; the tests in this file feed the rules the real tree.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its own tree should panic")]

mod bans;
mod code;
mod dashboards;
mod licences;
mod links;
mod manifests;
mod offence;
mod shape;
mod text;
mod tree;
mod walls;

use std::io::Write as _;

use offence::{Offence, assert_none};
use tree::{File, Tree};

/// Runs a rule that looks at one file at a time over the whole tree.
fn over_files(rule: impl Fn(&File) -> Vec<Offence>) -> Vec<Offence> {
    Tree::read().files.iter().flat_map(rule).collect()
}

#[test]
fn every_source_file_says_what_it_is_for() {
    assert_none(over_files(shape::header));
}

#[test]
fn functions_and_files_stay_within_their_budgets() {
    assert_none(over_files(shape::functions));
    assert_none(over_files(|file| shape::file_length(file, shape::LONG_FILES)));
    assert_none(shape::stale_exceptions(&Tree::read().files, shape::LONG_FILES));
}

#[test]
fn unsafe_appears_in_the_sandbox_only() {
    assert_none(over_files(code::unsafe_outside_sandbox));
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    assert_none(over_files(code::unfinished));
}

#[test]
fn processes_are_started_in_few_named_places() {
    assert_none(over_files(code::process_spawn));
}

#[test]
fn text_is_clean() {
    assert_none(over_files(text::whitespace));
    assert_none(over_files(text::final_newline));
}

#[test]
fn no_developer_machine_leaks_into_the_tree() {
    let checkout = tree::root();
    assert_none(over_files(|file| text::machine_paths(file, &checkout)));
    assert_none(over_files(text::registry_hosts));
}

#[test]
fn dashboards_show_metrics_that_exist() {
    let tree = Tree::read();
    let file = |path: &str| tree.files.iter().find(|file| file.path == path).unwrap();
    let names = file("crates/telemetry/src/semconv.rs");
    let is_dashboard = |file: &&File| file.path.starts_with("deploy/grafana/");
    let dashboards: Vec<&File> = tree.files.iter().filter(is_dashboard).collect();
    assert!(!dashboards.is_empty());
    assert_none(
        dashboards.iter().flat_map(|one| dashboards::unknown_metrics(one, names)).collect(),
    );
}

#[test]
fn links_between_documents_lead_somewhere() {
    let tree = Tree::read();
    assert_none(
        tree.files.iter().flat_map(|file| links::dangling(file, |p| tree.has(p))).collect(),
    );
}

#[test]
fn crates_keep_their_walls() {
    let packages = manifests::workspace_packages();
    assert_none(walls::edges(&packages));
    assert_none(walls::libraries(&packages));
    assert_none(walls::unlisted(&packages));
}

#[test]
fn manifests_inherit_from_the_workspace() {
    let tree = Tree::read();
    let members = manifests::member_files(&manifests::workspace_packages());
    let files = tree.files.iter().filter(|file| members.contains(&file.path));
    let offences = files.flat_map(|file| {
        let mut found = manifests::lints_inherited(file);
        found.extend(manifests::versions_inherited(file));
        found.extend(manifests::bugs_only_in_tests(file));
        found
    });
    assert_none(offences.collect());
}

#[test]
fn the_core_crate_repeats_the_bans_of_the_root() {
    let tree = Tree::read();
    assert_none(bans::bans_repeated(
        tree.text("clippy.toml"),
        tree.text("crates/core/clippy.toml"),
    ));
}

#[test]
fn every_direct_dependency_is_explained() {
    let tree = Tree::read();
    let packages = manifests::workspace_packages();
    match tree.files.iter().find(|file| file.path == manifests::EXPLAINED_IN) {
        Some(file) => assert_none(manifests::unexplained(&packages, &file.text)),
        // Written past the test runner's capture, so that the gap is seen in a passing run as well.
        None => writeln!(
            std::io::stderr(),
            "\n!!! SKIPPED: {} does not exist, direct dependencies are unexplained\n",
            manifests::EXPLAINED_IN
        )
        .unwrap(),
    }
}

#[test]
fn every_package_has_a_licence_that_we_accept() {
    assert_none(licences::refused(&manifests::all_packages()));
}

#[test]
fn every_package_comes_from_a_registry_or_from_this_tree() {
    assert_none(licences::foreign_sources(&manifests::all_packages()));
}
