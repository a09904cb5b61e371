//! What it costs to start a confined step: `/bin/true` under the guard with every layer, against a bare fork and
//! exec, and against bubblewrap with the same namespaces and mounts (it has no Landlock and no system call
//! filter). The goal is to be no slower than bubblewrap. Also: a hundred at a time, and what each holds in memory.
//!
//! The same program is the guard, which must be a process of its own.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use flyball_core::score::ExitKind;
use flyball_sandbox::{Confinement, FAR_AWAY, Guard, GuardConfig, Step, Writable};

/// Rounds; the sides take turns in each.
const ROUNDS: usize = 200;
/// First rounds that are not counted.
const WARM_UP: usize = 20;
/// Steps at a time.
const AT_ONCE: usize = 100;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("guard") {
        return flyball_sandbox::guard_main();
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(bench());
    ExitCode::SUCCESS
}

async fn bench() {
    // Not below /tmp, where mounts stand in for Landlock's rules.
    let dir = tempfile::Builder::new().prefix("flyball-bench").tempdir_in("/var/tmp").unwrap();
    let work = dir.path().join("work");
    std::fs::create_dir_all(work.join("own")).unwrap();
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let config = GuardConfig::new(vec![program, "guard".to_owned()], dir.path().join("state"));
    let guard = Guard::start(config).await.unwrap();
    assert!(guard.extender().extend(FAR_AWAY));
    let missing = &guard.abilities().missing_layers;
    println!("layers missing here: {missing:?}");
    let has_bwrap = Command::new("bwrap").arg("--version").stdout(Stdio::null()).status().is_ok();

    let (mut bare, mut ours, mut bwrap) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + WARM_UP {
        let taken = [
            timed(|| run(&mut Command::new("/bin/true"))),
            confined(&guard, dir.path(), &work).await,
            if has_bwrap { timed(|| run(&mut bubblewrap(&work))) } else { Duration::ZERO },
        ];
        if round >= WARM_UP {
            bare.push(taken[0]);
            ours.push(taken[1]);
            bwrap.push(taken[2]);
        }
    }
    let (bare, ours, bwrap) = (spread(bare), spread(ours), spread(bwrap));
    println!("bare fork and exec     {}", show(&bare));
    println!("confined step          {}  {:.2} x bare", show(&ours), ratio(&ours, &bare));
    if has_bwrap {
        let times = ratio(&ours, &bwrap);
        let verdict = if times <= 1.0 { "met" } else { "MISSED" };
        println!("bubblewrap             {}  {:.2} x bare", show(&bwrap), ratio(&bwrap, &bare));
        println!("confined / bubblewrap  {times:.2} (goal at most 1.00): {verdict}");
    } else {
        println!("bubblewrap is not installed: no comparison");
    }
    many(&guard, dir.path(), &work).await;
    guard.shut_down().await;
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn run(command: &mut Command) {
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
}

fn bubblewrap(work: &Path) -> Command {
    let work = work.to_str().unwrap();
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc"]);
    for dir in ["bin", "sbin", "lib", "lib64"] {
        let path = format!("/{dir}");
        match Path::new(&path).is_symlink() {
            true => command.args(["--symlink", &format!("usr/{dir}"), &path]),
            false => command.args(["--ro-bind-try", &path, &path]),
        };
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--bind", work, work]);
    command.args(["--chdir", work, "--new-session", "--die-with-parent", "/bin/true"]);
    command
}

fn step(dir: &Path, work: &Path, number: usize, argv: &[&str]) -> Step {
    let only = Some(vec![work.join("own")]);
    let write = vec![Writable { path: work.to_owned(), only }];
    Step {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        cwd: work.to_owned(),
        env: Vec::new(),
        output: dir.join(format!("out-{number}")),
        stdin: None,
        output_bytes_max: 1000,
        timeout: Duration::from_secs(60),
        label: "bench".to_owned(),
        confinement: Some(Confinement { write, ..Confinement::default() }),
    }
}

async fn confined(guard: &Guard, dir: &Path, work: &Path) -> Duration {
    let begun = Instant::now();
    let mut handle = guard.spawn(step(dir, work, 0, &["/bin/true"])).unwrap();
    let end = handle.wait().await;
    assert_eq!(end.exit, ExitKind::Exited(0), "{end:?}");
    begun.elapsed()
}

/// A hundred steps at a time: how long until all run, and what their processes hold.
async fn many(guard: &Guard, dir: &Path, work: &Path) {
    let before = pss_kib(guard.pid());
    let begun = Instant::now();
    let steps: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            // Process numbers are the same in each namespace.
            let script = format!("touch own/{number}-up; exec sleep 30");
            let mut one = step(dir, work, number, &["/bin/sh", "-c", &script]);
            one.env = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
            guard.spawn(one).unwrap()
        })
        .collect();
    let give_up = begun + Duration::from_secs(60);
    while std::fs::read_dir(work.join("own")).unwrap().count() < AT_ONCE {
        assert!(Instant::now() < give_up, "not all have started");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    let each = pss_kib(guard.pid()).saturating_sub(before) / AT_ONCE as u64;
    let begun = Instant::now();
    guard.kill_all_and_prove().await.unwrap();
    println!(
        "{AT_ONCE} at a time: all at work after {:.1} ms, {each} KiB each (init and command, shared pages shared \
         out), all proven dead {:.1} ms after the order",
        took.as_secs_f64() * 1000.0,
        begun.elapsed().as_secs_f64() * 1000.0,
    );
    drop(steps);
}

/// Proportional memory of all descendants of a process, in KiB.
fn pss_kib(root: u32) -> u64 {
    let mut sum = 0;
    let mut pending = vec![root];
    while let Some(pid) = pending.pop() {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
        let rollup = rollup.unwrap_or_default();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        sum += number.unwrap_or(0);
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        pending.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    sum
}

fn spread(mut all: Vec<Duration>) -> Vec<Duration> {
    all.sort();
    all
}

fn show(sorted: &[Duration]) -> String {
    let at = |share: usize| sorted[(sorted.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    format!("p50 {:.2} ms [p10 {:.2} .. p90 {:.2}]", at(50), at(10), at(90))
}

fn ratio(one: &[Duration], two: &[Duration]) -> f64 {
    one[one.len() / 2].as_secs_f64() / two[two.len() / 2].as_secs_f64()
}
