//! Runs cases one after the other, and tells how they went in the form that libtest uses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use flyball_tests::etcd;

use super::cases;

/// A named fault.
pub(crate) struct Case {
    /// `F1` to `F38`.
    pub(crate) id: &'static str,
    /// In a few words.
    pub(crate) title: &'static str,
    /// Whether it is run when no case is named: the selection of each CI run.
    pub(crate) usual: bool,
    /// Whether its history has to show that a fault took loops from their owners.
    pub(crate) owners: Owners,
    pub(crate) run: fn(&Attempt) -> Outcome,
}

/// What a case's faults do to owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owners {
    /// They end somebody's ownership; a history without proves nothing.
    Change,
    /// They cannot, or need not, for this reason; the case shows in another way that it bit.
    Stay(&'static str),
}

/// How a case ended that did not fail; failures are panics.
pub(crate) enum Outcome {
    Passed,
    /// With the reason.
    Skipped(String),
}

/// One run of a case.
pub(crate) struct Attempt {
    pub(crate) id: &'static str,
    pub(crate) seed: u64,
    pub(crate) owners: Owners,
    /// Whether the longer form of a case was asked for.
    pub(crate) all: bool,
    /// Kept: history and logs.
    pub(crate) dir: PathBuf,
    /// A program of an earlier version.
    pub(crate) earlier: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) list: bool,
    pub(crate) all: bool,
    pub(crate) seed: u64,
    /// How many random schedules to run.
    pub(crate) soak: u64,
    pub(crate) names: Vec<String>,
    /// A program of an earlier version, for the case that mixes versions.
    pub(crate) earlier: Option<PathBuf>,
}

/// What became of the cases.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: usize,
    filtered: usize,
}

/// Runs what is asked for.
pub(crate) fn run(options: &Options) -> ExitCode {
    if options.list {
        for case in cases::all() {
            println!(
                "{}: test  {}{}",
                case.id,
                case.title,
                if case.usual { "" } else { " (--all)" }
            );
        }
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let mut tally = Tally::default();
    // Built before the first clock runs.
    flyball_tests::binary::flyball();
    for case in cases::all() {
        let named = options.names.iter().any(|name| name.eq_ignore_ascii_case(case.id));
        let wanted = named || (options.names.is_empty() && (options.all || case.usual));
        if wanted && options.soak == 0 {
            run_case(&case, options, options.seed, &mut tally);
        } else {
            tally.filtered += 1;
        }
    }
    for step in 0..options.soak {
        run_case(&cases::SOAK, options, options.seed + step, &mut tally);
    }
    for failed in &tally.failed {
        println!("{failed}");
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; \
         finished in {:.2}s\n",
        if tally.failed.is_empty() { "ok" } else { "FAILED" },
        tally.passed,
        tally.failed.len(),
        tally.skipped,
        tally.filtered,
        begun.elapsed().as_secs_f64(),
    );
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_case(case: &Case, options: &Options, seed: u64, tally: &mut Tally) {
    let begun = Instant::now();
    if etcd::is_skipped() {
        println!("SKIPPED {}: no etcd ({}=1)", case.id, etcd::SKIP_VARIABLE);
        tally.skipped += 1;
        return;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults").join(case.id);
    let dir = dir.join(seed.to_string());
    // What an earlier run left.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a directory for the history");
    let (owners, earlier) = (case.owners, options.earlier.clone());
    let attempt = Attempt { id: case.id, seed, owners, all: options.all, dir, earlier };
    let title = format!("test {} ({}) seed {seed}", case.id, case.title);
    let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(&attempt)));
    let took = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(Outcome::Passed) => {
            println!("{title} ... ok, {took:.1} s");
            tally.passed += 1;
        }
        Ok(Outcome::Skipped(reason)) => {
            println!("SKIPPED {}: {reason}", case.id);
            tally.skipped += 1;
        }
        Err(_) => {
            println!("{title} ... FAILED, {took:.1} s");
            let replay = if case.id == cases::SOAK.id { "--soak 1" } else { case.id };
            tally.failed.push(format!(
                "{}: history and logs are in {}; again with: cargo test -p flyball-tests --test \
                 faults -- --seed {seed} {replay}",
                case.id,
                attempt.dir.display(),
            ));
        }
    }
}
