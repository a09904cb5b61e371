//! The suite inside the machine, and how its cases start programs there.

use std::fs;
use std::io::Write;
use std::process::{Command, ExitCode, Output, Stdio};

use crate::cases::ALL;

/// Where the payload is unpacked.
pub(crate) const PLACE: &str = "/srv/vm";
/// The ordinary user, of the unit file.
pub(crate) const USER: &str = "flyball";
/// Longest life of one program of a case: emulated, some take minutes.
const CASE_SECONDS: &str = "1800";
/// The second serial line; the first is the kernel's.
const LINE: &str = "/dev/ttyS1";

/// Runs the cases; the machine ends after it.
pub(crate) fn suite(filters: &[String]) -> ExitCode {
    say(&format!("kernel {}", read("/proc/sys/kernel/osrelease")));
    if let Err(why) = prepare() {
        say(&format!("the machine cannot be prepared: {why}"));
        return ExitCode::FAILURE;
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, case) in ALL
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|word| name.contains(word)))
    {
        say(&format!("=== {name}, {} s after the start", uptime()));
        match case() {
            Ok(()) => {
                passed += 1;
                say(&format!("test {name} ... ok"));
            }
            Err(why) => {
                say(&format!("{why}\ntest {name} ... FAILED"));
                failed.push(*name);
            }
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    say(&format!("failed: {failed:?}, {} s after the start", uptime()));
    say(&format!("test result: {verdict}. {passed} passed; {} failed; 0 ignored", failed.len()));
    ExitCode::SUCCESS
}

/// An ordinary user, programs where everybody looks for them, and swap that a bound of memory must not spill into.
fn prepare() -> Result<(), String> {
    let script = format!(
        "set -e; useradd --system --create-home --shell /bin/sh {USER}; chmod 755 {PLACE}; \
         install {PLACE}/flyball /usr/local/bin/; cp {PLACE}/flyball-worker.service /etc/systemd/system/; \
         fallocate -l 512M /swap; chmod 600 /swap; mkswap -q /swap; swapon /swap; \
         mkdir -p /var/tmp/cases; chmod 1777 /var/tmp/cases; systemctl daemon-reload; systemctl start dbus.service systemd-logind.service"
    );
    sh(&script).map(|_| ())
}

/// Writes a line, or several, to the host.
pub(crate) fn say(text: &str) {
    let line = fs::File::options().append(true).open(LINE);
    // Nobody could be told.
    let _ = line.and_then(|mut line| line.write_all(format!("{text}\n").as_bytes()));
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn uptime() -> String {
    read("/proc/uptime").split('.').next().unwrap_or_default().to_owned()
}

/// A shell script of root's that must succeed.
pub(crate) fn sh(script: &str) -> Result<String, String> {
    let done = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).output();
    let ended = Ended::of(done.map_err(|error| error.to_string())?);
    if ended.success { Ok(ended.said) } else { Err(format!("{script}\n{}", ended.said)) }
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) success: bool,
    pub(crate) said: String,
}

impl Ended {
    pub(crate) fn of(done: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let said = text(&done.stdout) + &text(&done.stderr);
        Self { success: done.status.success(), said }
    }

    /// It must have succeeded.
    pub(crate) fn succeeded(self) -> Result<String, String> {
        if self.success { Ok(self.said) } else { Err(self.said) }
    }

    /// It must have said this.
    pub(crate) fn says(&self, parts: &[&str]) -> Result<(), String> {
        match parts.iter().find(|part| !self.said.contains(**part)) {
            Some(part) => Err(format!("{part:?} is not said:\n{}", self.said)),
            None => Ok(()),
        }
    }
}

/// Runs a program to its end in a transient service of systemd's.
pub(crate) fn service(user: &str, delegate: bool, argv: &[&str]) -> Result<Ended, String> {
    let delegate = if delegate { "Delegate=yes" } else { "Delegate=no" };
    let done = Command::new("systemd-run")
        .args(["--quiet", "--wait", "--pipe", "--collect", "--property", delegate])
        .args(["--property", &format!("User={user}"), "--working-directory=/var/tmp/cases"])
        .args([
            "--property",
            &format!("RuntimeMaxSec={CASE_SECONDS}"),
            "--setenv=TMPDIR=/var/tmp/cases",
            "--setenv=FLYBALL_SLOW_MACHINE=1",
        ])
        .arg("--")
        .args(argv)
        .stdin(Stdio::null())
        .output();
    Ok(Ended::of(done.map_err(|error| format!("systemd-run: {error}"))?))
}

/// Runs a program instead of the worker, in the service that is shipped, with all that its file asks for.
pub(crate) fn shipped_unit(argv: &str) -> Result<Ended, String> {
    let dir = "/etc/systemd/system/flyball-worker.service.d";
    let (out, user) = ("/run/case.out", USER);
    let drop_in = format!(
        "[Service]\nUser={user}\nExecStart=\nExecStart={argv}\nType=oneshot\nRestart=no\nEnvironment=TMPDIR=/var/tmp/cases FLYBALL_SLOW_MACHINE=1\n\
         StandardOutput=truncate:{out}\nStandardError=inherit\nTimeoutStartSec={CASE_SECONDS}\n"
    );
    fs::create_dir_all(dir).map_err(|error| error.to_string())?;
    fs::write(format!("{dir}/case.conf"), drop_in).map_err(|error| error.to_string())?;
    sh("systemctl daemon-reload; systemctl reset-failed")?;
    let done = Command::new("systemctl").args(["start", "flyball-worker.service"]).output();
    let success = done.map_err(|error| error.to_string())?.status.success();
    Ok(Ended { success, said: read(out) })
}
