//! Text scripts for the scheduler's reactor: commands, and below each the effects they had. A script
//! is reviewed like code; `FLYBALL_REWRITE_SCRIPTS=1 cargo test -p flyball-tests --test script`
//! writes the effects anew, to be looked at as a diff.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod model;
mod money;
mod parse;
mod show;
mod stage;
mod walk;

use std::path::PathBuf;

/// Separates a command from its effects.
const RULE: &str = "----";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("script")
}

/// Runs a script and answers it with the effects that were seen.
fn run(text: &str) -> String {
    let mut stage = stage::Stage::new();
    let mut seen = String::new();
    for block in text.split("\n\n") {
        let block = block.trim_matches('\n');
        if block.is_empty() {
            continue;
        }
        let input = block.split_once(RULE).map_or(block, |(input, _)| input);
        if !seen.is_empty() {
            seen.push('\n');
        }
        seen.push_str(input.trim_end());
        seen.push('\n');
        let commands: Vec<&str> = input
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        if commands.is_empty() {
            continue;
        }
        seen.push_str(RULE);
        seen.push('\n');
        for command in commands {
            for line in stage.run(command) {
                seen.push_str(&line);
                seen.push('\n');
            }
        }
    }
    seen
}

#[test]
fn scripts_have_the_effects_they_say() {
    let rewrite = std::env::var_os("FLYBALL_REWRITE_SCRIPTS").is_some();
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty());
    let mut wrong = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let seen = run(&text);
        if seen == text {
            continue;
        }
        if rewrite {
            std::fs::write(&path, &seen).unwrap();
        } else {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            wrong.push(format!("{name}: {}", first_difference(&text, &seen)));
        }
    }
    assert!(wrong.is_empty(), "{}\nFLYBALL_REWRITE_SCRIPTS=1 writes them anew", wrong.join("\n"));
}

fn first_difference(expected: &str, seen: &str) -> String {
    let mut lines = expected.lines().zip(seen.lines()).enumerate();
    match lines.find(|(_, (expected, seen))| expected != seen) {
        Some((number, (expected, seen))) => {
            format!("line {}\n  expected {expected}\n  seen     {seen}", number + 1)
        }
        None => "one is longer than the other".to_owned(),
    }
}
