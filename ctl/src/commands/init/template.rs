//! The text of a new manifest, with comments that tell what to fill in.

use std::path::Path;

use super::detect::{Project, Scoring};
use super::repository::Repository;

/// Directories that hold tests rather than code, in the order in which they are looked for.
const TEST_DIRECTORIES: [&str; 4] = ["tests", "test", "spec", "__tests__"];
/// Directories that hold code.
const CODE_DIRECTORIES: [&str; 6] = ["src", "lib", "crates", "pkg", "internal", "cmd"];

/// A valid name from the name of a directory.
pub(super) fn loop_name(root: &Path) -> String {
    let base = root.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = base.unwrap_or_default().chars().map(plain).collect();
    // Leaves room for the prefix within the 63 characters of a name.
    let name: String = name.trim_matches('-').chars().take(50).collect();
    let name = name.trim_end_matches('-');
    if name.is_empty() { "fix-tests".to_owned() } else { format!("fix-{name}") }
}

/// The manifest.
pub(super) fn manifest(name: &str, repository: &Repository, project: &Project) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line("# A loop: declares when work is done and what may be touched.");
    line("# Every field is explained by: flyball schema loop.spec");
    line("apiVersion: flyball.dev/v1");
    line("kind: Loop");
    line("metadata:");
    line(&format!("  name: {name}"));
    line("spec:");
    line("  # What is to be reached, in words for the agent.");
    line("  goal: |");
    line("    All tests pass. Fix the code, not the tests.");
    line("  workspace:");
    line("    git:");
    origin(repository, &mut line);
    line(&format!("      url: {}", quoted(&repository.root.to_string_lossy())));
    line(&format!("      ref: {}", quoted(&repository.branch)));
    line("      publish:");
    line(&format!("        branch: flyball/{name}"));
    owns(repository, &mut line);
    line("  # Done when every check passes, proven in a fresh clone.");
    line("  checks:");
    line("    - name: test");
    line(&format!("      run: {}", quoted(project.command())));
    line("      timeout: 10m");
    scoring(*project, &mut line);
    agent(&mut line);
    line("  governor:");
    line("    iterations: 20");
    line("    wallTime: 1h");
    line("    patience: 4");
    text
}

fn origin(repository: &Repository, line: &mut impl FnMut(&str)) {
    if let Some(origin) = &repository.origin {
        line(
            "      # The repository on this machine; for a fleet, name one that every node can reach:",
        );
        line(&format!("      # url: {}", origin.replace('\n', " ")));
    }
    if !repository.has_commit {
        line("      # There is no commit yet: a loop needs one to start from.");
    }
}

fn owns(repository: &Repository, line: &mut impl FnMut(&str)) {
    let present = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| repository.root.join(name).is_dir()).collect()
    };
    let code = present(&CODE_DIRECTORIES);
    line("  # What the agent may change. No other loop gets an overlapping set meanwhile.");
    line("  owns:");
    if code.is_empty() {
        line("    - \"**\"");
    }
    code.iter().for_each(|directory| line(&format!("    - {directory}/**")));
    let tests = present(&TEST_DIRECTORIES);
    if !tests.is_empty() {
        line("  # What the agent may not change: restored before every check.");
        line("  pins:");
        tests.iter().for_each(|directory| line(&format!("    - {directory}/**")));
    }
}

fn scoring(project: Project, line: &mut impl FnMut(&str)) {
    match project.scoring() {
        Scoring::None => {}
        Scoring::Libtest => {
            line("      score:");
            line("        libtest: {}");
        }
        Scoring::Regex { pass, fail } => {
            line("      score:");
            line("        regex:");
            line(&format!("          pass: '{pass}'"));
            line(&format!("          fail: '{fail}'"));
        }
    }
}

fn agent(line: &mut impl FnMut(&str)) {
    line("  # The program that makes one change per iteration; it finds its brief as text in the");
    line(
        "  # file $FLYBALL_BRIEF_TEXT, as JSON in $FLYBALL_BRIEF. Without one the loop only measures.",
    );
    line("  # agent:");
    line("  #   command: my-agent --task-file \"$FLYBALL_BRIEF_TEXT\"");
    line("  #   timeout: 30m");
}

/// A YAML scalar in double quotes, which need escapes for two characters only: the texts come
/// from file names, branches and our own tables.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    if word && text.chars().all(plain) && !["true", "false", "null", "yes", "no"].contains(&text) {
        return text.to_owned();
    }
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", clean.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use flyball_core::manifest::parse_manifest;

    use super::*;

    fn repository(root: &Path) -> Repository {
        Repository {
            root: root.to_owned(),
            branch: "main".to_owned(),
            origin: Some("git@example.org:team/app.git".to_owned()),
            has_commit: true,
            is_dirty: false,
            below: Default::default(),
        }
    }

    #[test]
    fn every_kind_of_project_gets_a_valid_manifest() {
        let directory = tempfile::tempdir().unwrap();
        let kinds = [
            Project::Cargo,
            Project::Go,
            Project::Npm,
            Project::Pytest,
            Project::Make("check"),
            Project::Unknown,
        ];
        for project in kinds {
            let text = manifest("fix-it", &repository(directory.path()), &project);
            let json: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(parse_manifest(&json).map(|_| ()), Ok(()), "{project:?}\n{text}");
        }
    }

    #[test]
    fn odd_paths_and_branches_stay_what_they_are() {
        let mut repository = repository(Path::new("/srv/a \"b\": #c\\d"));
        repository.branch = "no".to_owned();
        let text = manifest("x", &repository, &Project::Unknown);
        let json: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let manifest = parse_manifest(&json).unwrap();
        let git = manifest.spec.workspace.unwrap().git;
        assert_eq!(git.url, "/srv/a \"b\": #c\\d");
        assert_eq!(git.reference, "no");
    }

    #[test]
    fn a_rust_manifest_in_full() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("My App");
        std::fs::create_dir_all(root.join("src")).unwrap();
        std::fs::create_dir_all(root.join("tests")).unwrap();
        let text = manifest(&loop_name(&root), &repository(&root), &Project::Cargo);
        let text = text.replace(&*directory.path().to_string_lossy(), "/home/me");
        insta::assert_snapshot!(text, @r#"
        # A loop: declares when work is done and what may be touched.
        # Every field is explained by: flyball schema loop.spec
        apiVersion: flyball.dev/v1
        kind: Loop
        metadata:
          name: fix-my-app
        spec:
          # What is to be reached, in words for the agent.
          goal: |
            All tests pass. Fix the code, not the tests.
          workspace:
            git:
              # The repository on this machine; for a fleet, name one that every node can reach:
              # url: git@example.org:team/app.git
              url: "/home/me/My App"
              ref: main
              publish:
                branch: flyball/fix-my-app
          # What the agent may change. No other loop gets an overlapping set meanwhile.
          owns:
            - src/**
          # What the agent may not change: restored before every check.
          pins:
            - tests/**
          # Done when every check passes, proven in a fresh clone.
          checks:
            - name: test
              run: "cargo test --no-fail-fast"
              timeout: 10m
              score:
                libtest: {}
          # The program that makes one change per iteration; it finds its brief as text in the
          # file $FLYBALL_BRIEF_TEXT, as JSON in $FLYBALL_BRIEF. Without one the loop only measures.
          # agent:
          #   command: my-agent --task-file "$FLYBALL_BRIEF_TEXT"
          #   timeout: 30m
          governor:
            iterations: 20
            wallTime: 1h
            patience: 4
        "#);
    }

    #[test]
    fn names_are_always_valid() {
        for path in ["/srv/My App", "/srv/___", "/", &format!("/{}", "x".repeat(200)), "/a/é"] {
            let name = loop_name(Path::new(path));
            assert_eq!(flyball_core::ids::check_name(&name), Ok(()), "{path}: {name}");
        }
    }
}
