//! What runs inside: the agent that leaves signs of life, and the hook of the repository. Both are
//! this same program, so that their clock is exact and their lines are whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use flyball_tests::history::{Entry, Event};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::leak;

/// Pause between two signs of life.
const BEAT: Duration = Duration::from_millis(20);
/// Most beats of a process that is never stopped: 60 s, so that a broken guard leaves nothing.
const BEATS_MAX: u32 = 3000;

/// Microseconds of `CLOCK_BOOTTIME`.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every Linux has this clock");
    let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    let own = i128::from(seconds * 1_000_000 + nanos / 1000);
    u64::try_from(own - offset_us()).unwrap_or(0)
}

/// By how much this process's clock is ahead of the host's: it may be in a time namespace.
fn offset_us() -> i128 {
    static OFFSET: OnceLock<i128> = OnceLock::new();
    *OFFSET.get_or_init(|| {
        let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        let line = offsets.lines().find(|line| line.starts_with("boottime"));
        let seconds = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<i128>().ok());
        seconds.unwrap_or(0) * 1_000_000
    })
}

/// Opens a file to which several processes append whole lines.
pub(crate) fn append_to(path: &str) -> File {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs what the arguments name, if they name a part of the work.
pub(crate) fn run(args: &[String]) -> Option<ExitCode> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["agent", beats, file, ms] => agent(beats, file, ms.parse().expect("milliseconds")),
        ["linger", beats] => beat(beats, BEATS_MAX),
        ["bomb", beats, file, ms] => {
            bomb(beats);
            agent(beats, file, ms.parse().expect("milliseconds"));
        }
        ["flood", beats, file, ms] => {
            flood();
            agent(beats, file, ms.parse().expect("milliseconds"));
        }
        ["escape", beats, file, ms] => {
            escape(beats);
            agent(beats, file, ms.parse().expect("milliseconds"));
        }
        ["leak", beats, file, ms] => {
            leak::leak(beats);
            agent(beats, file, ms.parse().expect("milliseconds"));
        }
        ["sleep"] => std::thread::sleep(BEAT * BEATS_MAX),
        ["spin", ms] => spin(Duration::from_millis(ms.parse().expect("milliseconds"))),
        ["hook", log, kind, ref rest @ ..] => hook(log, kind, rest),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

/// While this file is there, agents go on working.
pub(crate) fn held_file(beats: &Path) -> PathBuf {
    beats.with_extension("held")
}

/// Works for a while, then finishes one item of the list. A child of its own lingers on.
fn agent(beats: &str, file: &str, ms: u64) {
    let program = std::env::current_exe().expect("a program knows its own file");
    let mut linger = Command::new(program);
    linger.args(["linger", beats]).stdin(Stdio::null());
    #[expect(clippy::zombie_processes, reason = "it is the guard's to end")]
    let _lingering = linger.spawn().expect("a child can be started");
    let count = Duration::from_millis(ms).as_millis() / BEAT.as_millis();
    beat(beats, u32::try_from(count).expect("a short while"));
    // A case wants somebody at work when it strikes.
    let held = held_file(Path::new(beats));
    for _ in 0..BEATS_MAX {
        if !held.exists() {
            break;
        }
        beat(beats, 1);
    }
    let text = std::fs::read_to_string(file).expect("the list is there");
    let done = text.replacen(" open\n", " done\n", 1);
    std::fs::write(file, done).expect("the list can be written");
}

/// Most children of a bomb, where nothing else stops it.
const BOMB_MAX: usize = 1000;
/// How long a bomb holds what it has.
const BOMB_HOLDS: Duration = Duration::from_secs(2);

/// Forks until it is refused, once, after the case has asked for it.
fn bomb(beats: &str) {
    let dir = Path::new(beats).parent().expect("a directory");
    let asked = std::fs::rename(dir.join("bomb"), dir.join("bomb-lit"));
    if asked.is_err() {
        return;
    }
    let program = std::env::current_exe().expect("a program knows its own file");
    let mut children: Vec<Child> = Vec::new();
    while children.len() < BOMB_MAX {
        match Command::new(&program).arg("sleep").stdin(Stdio::null()).spawn() {
            Ok(child) => children.push(child),
            Err(_) => break,
        }
    }
    std::fs::write(dir.join("bombed"), children.len().to_string()).expect("a file");
    std::thread::sleep(BOMB_HOLDS);
    // Some room for the rest of the work; the others are the guard's to end.
    let half = children.len() / 2;
    for child in children.iter_mut().take(half) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Bytes of output of a flood.
const FLOOD_BYTES: usize = 24 << 20;

/// Writes a lot of output.
fn flood() {
    let line = [b"flood ".repeat(170), b"\n".to_vec()].concat();
    let mut out = std::io::stdout().lock();
    for _ in 0..FLOOD_BYTES / line.len() {
        // Nobody has to read all of it.
        if out.write_all(&line).is_err() {
            return;
        }
    }
}

/// Leaves processes behind in every way that a shell knows.
fn escape(beats: &str) {
    let program = std::env::current_exe().expect("a program knows its own file");
    let linger = format!("exec '{}' linger '{beats}'", program.display());
    for script in [
        format!("setsid sh -c \"{linger}\" &"),
        format!("( ( {linger} ) & ) &"),
        format!("( trap '' TERM INT HUP; ( {linger} ) & ) &"),
        format!("setsid sh -c \"( setsid sh -c \\\"{linger}\\\" & ) &\""),
    ] {
        let status = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).status();
        status.expect("a shell can be started");
    }
}

/// Uses a processor.
fn spin(how_long: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < how_long {
        std::hint::black_box((0..10_000_u64).sum::<u64>());
    }
}

/// Busy loops in processes of their own; dropping this ends them.
pub(crate) struct Busy(Vec<Child>);

impl Busy {
    /// Starts them. They end by themselves too.
    pub(crate) fn start(count: usize, how_long: Duration) -> Self {
        let program = std::env::current_exe().expect("a program knows its own file");
        let ms = how_long.as_millis().to_string();
        let start = || Command::new(&program).args(["spin", &ms]).stdin(Stdio::null()).spawn();
        Self((0..count).map(|_| start().expect("a process can be started")).collect())
    }

    /// Processor time that they have had.
    pub(crate) fn used(&self) -> Duration {
        let ticks: u64 = self.0.iter().map(|child| ticks_of(child.id())).sum();
        Duration::from_millis(ticks * 10)
    }
}

/// Processor time of a process, hundredths of a second: that is what `/proc` counts in.
fn ticks_of(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else { return 0 };
    rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Leaves signs of life.
fn beat(path: &str, count: u32) {
    let variable = |name| std::env::var(name).expect("runs are told who they are");
    let event = Event::Alive {
        uid: variable("FLYBALL_LOOP_UID"),
        token: variable("FLYBALL_FENCE").parse().expect("a token is a number"),
        node: variable("FLYBALL_NODE"),
        pid: u64::from(std::process::id()),
    };
    let mut file = append_to(path);
    for _ in 0..count {
        let entry = Entry { at_us: now_us(), event: event.clone() };
        let mut line = serde_json::to_string(&entry).expect("plain data");
        line.push('\n');
        file.write_all(line.as_bytes()).expect("beats can be written");
        std::thread::sleep(BEAT);
    }
}

/// One call of a hook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HookCall {
    /// When.
    pub(crate) at_us: u64,
    /// `asked` (before anything is moved), `prepared` (all refs are locked), `committed`, `aborted`.
    pub(crate) stage: String,
    /// The process that serves the push; the same for all calls of one push.
    pub(crate) server: i32,
    /// Old value, new value and name of each ref.
    pub(crate) refs: Vec<(String, String, String)>,
}

/// Writes down what git tells a hook.
fn hook(log: &str, kind: &str, rest: &[&str]) {
    let at_us = now_us();
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("git tells the refs");
    let parts = |line: &str| {
        let mut words = line.splitn(3, ' ').map(str::to_owned);
        Some((words.next()?, words.next()?, words.next()?))
    };
    let refs: Vec<_> = text.lines().filter_map(parts).collect();
    let stage = match kind {
        "pre-receive" => "asked",
        _ => rest.first().copied().unwrap_or_default(),
    };
    let server = nix::unistd::getppid().as_raw();
    let call = HookCall { at_us, stage: stage.to_owned(), server, refs };
    let mut line = serde_json::to_string(&call).expect("plain data");
    line.push('\n');
    append_to(log).write_all(line.as_bytes()).expect("the log can be written");
}

/// Installs the hooks into a bare repository.
pub(crate) fn install_hooks(bare: &Path, log: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let program = std::env::current_exe().expect("a program knows its own file");
    for kind in ["pre-receive", "reference-transaction"] {
        let path = bare.join("hooks").join(kind);
        let (program, log) = (program.display(), log.display());
        let script = format!("#!/bin/sh\nexec '{program}' hook '{log}' {kind} \"$@\"\n");
        std::fs::create_dir_all(bare.join("hooks")).expect("directories can be made");
        std::fs::write(&path, script).expect("hooks can be written");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("hooks can be made executable");
    }
}
