//! The command line `flyball`: every client verb, and the roles that one binary can play.
//! `main` turns what a command returned into output and an exit code; nothing else prints or exits.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod args;
pub mod client;
mod commands;
mod documents;
mod exit;
mod failure;
mod follow;
mod locate;
mod objects;
pub mod output;
pub mod paths;
mod retry;
pub mod roles;
mod trace;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use self::exit::Exit;
pub use self::failure::{Failure, Outcome};
use crate::args::{Cli, Command};
use crate::output::{Format, Out};

/// Runs the process's command line and answers with its exit code.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(try_main(arguments, Out::process()) as u8)
}

/// Runs a command line and answers how it ended; a failure has been printed then.
pub fn try_main(arguments: Vec<OsString>, mut out: Out) -> Exit {
    let json_wanted = asks_for_json(&arguments);
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refusal) => return out.refused_arguments(&refusal, json_wanted),
    };
    out.configure(cli.global.output, cli.global.no_headers);
    match run(cli, &mut out) {
        Ok(exit) => exit,
        Err(failure) => out.failure(&failure),
    }
}

/// Roles bring their own runtime (the guard has none); client verbs share a small one.
fn run(cli: Cli, out: &mut Out) -> Outcome {
    match cli.command {
        Command::Role(role) => roles::run(role, &cli.global, out),
        Command::Client(verb) => commands::run(verb, &cli.global, out),
    }
}

/// Whether errors go out as JSON, looked at before the arguments are known to be right.
fn asks_for_json(arguments: &[OsString]) -> bool {
    let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
    let joined = ["-ojson", "-o=json", "--output=json"];
    let flags = ["-o", "--output"];
    words.iter().any(|word| joined.contains(&&**word))
        || words.windows(2).any(|pair| flags.contains(&&*pair[0]) && pair[1] == Format::JSON_WORD)
}
