//! Judges histories that faults left behind: `check-history FILE... [-o json]`. Ends with 0 if nothing is
//! wrong, 1 if an invariant is violated, 2 if a file cannot be judged.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use flyball_tests::checker;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "check-history: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> io::Result<bool> {
    let (mut files, mut json) = (Vec::new(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-o" => match arguments.next().as_deref() {
                Some("json") => json = true,
                other => return Err(io::Error::other(format!("-o takes json, not {other:?}"))),
            },
            "-ojson" | "-o=json" | "--output=json" => json = true,
            option if option.starts_with('-') => {
                return Err(io::Error::other(format!("no option {option}; use FILE... [-o json]")));
            }
            _ => files.push(PathBuf::from(argument)),
        }
    }
    if files.is_empty() {
        return Err(io::Error::other("name the histories: FILE... [-o json]"));
    }
    let mut good = true;
    for file in files {
        let lines = checker::read(&file)
            .map_err(|error| io::Error::other(format!("{}: {error}", file.display())))?;
        let verdict = checker::judge(&lines);
        good &= verdict.is_good();
        let mut out = io::stdout().lock();
        if json {
            let line = serde_json::json!({
                "file": file, "good": verdict.is_good(), "verdict": verdict,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{}: {verdict}", file.display())?;
        }
    }
    Ok(good)
}
