//! Fault cases on real processes: each breaks something while loops run, and a history of what was
//! seen from outside must show that the fault bit, that there was one owner at a time, and that all
//! work was done in the end.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a suite that cannot go on stops")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a test program of its own")]
mod cases;
mod client;
mod dice;
mod fleet;
mod hands;
mod host;
mod host_limits;
mod http2;
mod judge;
mod leak;
mod load;
mod net;
mod proofs;
mod proxy;
mod recorder;
mod rogue;
mod runner;
mod secrets;
mod served;
mod shape;
mod site;
mod swarm;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;

use runner::Options;

const USAGE: &str = "\
cargo test -p flyball-tests --test faults -- [--list] [--all] [--seed N] [--soak N] [--earlier PROGRAM] [F1 F9 …]
Without names: the selection of each CI run. --soak N: N random schedules from the seed on.
--earlier PROGRAM: a flyball of an earlier version, for F36.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let Some(code) = work::run(&args) {
        return code;
    }
    match options(&args) {
        Ok(options) => runner::run(&options),
        Err(wrong) => {
            eprintln!("{wrong}\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: &[String]) -> Result<Options, String> {
    let mut options = Options { seed: 1, ..Options::default() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            value.parse().map_err(|_| format!("{arg} {value}: not a number"))
        };
        match arg.as_str() {
            "--list" => options.list = true,
            "--all" => options.all = true,
            "--seed" => options.seed = number()?,
            "--soak" => options.soak = number()?,
            "--earlier" => options.earlier = Some(program(args.next())?),
            // Of libtest's flags, those that ask for what is done anyway.
            "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--exact" | "--include-ignored" => {
            }
            name if !name.starts_with('-') => options.names.push(name.to_owned()),
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}

fn program(path: Option<&String>) -> Result<PathBuf, String> {
    let path = PathBuf::from(path.ok_or("--earlier needs the path of a program")?);
    // Processes may run in other directories.
    path.canonicalize().map_err(|error| format!("--earlier {}: {error}", path.display()))
}
