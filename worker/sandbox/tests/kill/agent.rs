//! The agent: everything that a process can do to outlive its parent without help from outside.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// What it writes into the pipe once all of it is up.
pub(crate) const WORDS: [&str; 4] = ["main,", "daemon,", "orphan,", "no-file,"];

/// `$1` is this program. The pipe is descriptor 9 of every process.
pub(crate) const SCRIPT: &str = r#"
exec 9>lives
trap '' TERM HUP INT QUIT USR1 USR2
(setsid sh -c 'trap "" TERM HUP INT; (cd /; echo daemon, >&9; while :; do sleep 0.1; done) & ' &)
((nohup sh -c 'echo orphan, >&9; while :; do (sleep 0.2 &) ; sleep 0.2; done' >/dev/null 2>&1 &) &)
"$1" no-file &
echo main, >&9
while :; do sleep 0.1; done
"#;

/// Puts `sleep` into memory and becomes it.
pub(crate) fn become_no_file() -> ExitCode {
    let mut memory = File::from(memfd_create(c"agent", MFdFlags::empty()).unwrap());
    memory.write_all(&std::fs::read("/bin/sleep").unwrap()).unwrap();
    // Still open after the exec, as the script left it that way.
    File::options().append(true).open("lives").unwrap().write_all(b"no-file,").unwrap();
    let arguments = [c"sleep".to_owned(), c"1000".to_owned()];
    let environment: Vec<CString> = std::env::vars()
        .map(|(key, value)| CString::new(format!("{key}={value}")).unwrap())
        .collect();
    match nix::unistd::fexecve(&memory, &arguments, &environment) {
        Ok(never) => match never {},
        Err(_) => ExitCode::FAILURE,
    }
}
