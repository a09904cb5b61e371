//! What this machine's own kernel may not have: control groups with their controllers, systemd's delegation and
//! refused user namespaces, tried on a Debian kernel in a virtual machine. The same program is the suite in there.
//!
//! `cargo test -p flyball-tests --test vm -- --install` makes the machine's disk first (Debian packages, minutes),
//! `-- --run [CASE…]` takes the one that is there. Without either it skips loudly. The machine is emulated in software
//! (no /dev/kvm), has no network, and ends by itself.
#![expect(clippy::print_stdout, reason = "a test program")]

mod cases;
mod guest;
mod image;
mod loops;
mod machine;
mod refusals;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if let Some(("guest", filters)) =
        arguments.split_first().map(|(one, rest)| (one.as_str(), rest))
    {
        return guest::suite(filters);
    }
    let filters: Vec<&str> =
        arguments.iter().filter(|word| !word.starts_with('-')).map(String::as_str).collect();
    if has("--list") {
        return ExitCode::SUCCESS;
    }
    if !has("--install") && !has("--run") {
        println!(
            "!!! SKIPPED: control groups, delegation and refused user namespaces in a virtual machine."
        );
        println!(
            "!!! To run it: cargo test -p flyball-tests --test vm -- --install    (once; then --run)"
        );
        println!("test result: ok. 0 passed; 0 failed; {} ignored", cases::ALL.len());
        return ExitCode::SUCCESS;
    }
    let made = if has("--install") { image::install() } else { Ok(()) };
    match made.and_then(|()| machine::run_suite(&filters)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("{why}");
            println!("test result: FAILED. 0 passed; 1 failed; 0 ignored");
            ExitCode::FAILURE
        }
    }
}
