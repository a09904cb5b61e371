//! `flyball doctor --local`: looks at this host as a worker would find it, without a scheduler. A
//! guard is started in a directory of its own and has to kill a step that does not want to die.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flyball_core::bounds;
use flyball_core::diagnosis::{Area, Diagnosis, Finding, weaknesses};
use flyball_core::isolation::Layer;
use flyball_sandbox::{Guard, GuardConfig, HostFacts, Step, boottime};

use crate::host;

const AREA: Area = Area::Host;

/// How long the probe step may run before its deadline.
const PROBE_LIFE: Duration = Duration::from_secs(1);

/// Delay of a kill that a quiet machine never reaches; the default kill budget is 500 ms.
const KILL_SLOW: Duration = Duration::from_millis(100);

/// Writes that are measured, and the median that is slow: the guard's and git's files are here.
const WRITES: usize = 8;
const WRITE_SLOW: Duration = Duration::from_millis(50);

/// Free space below which clones soon fail.
const FREE_MIN: u64 = 2 * 1024 * 1024 * 1024;

/// Least version of git: `push --atomic`, worktrees and `--force-with-lease` as they are used here.
const GIT_MIN: (u32, u32) = (2, 30);

/// Ignores SIGTERM, and leaves a child in a session of its own.
const PROBE: &str = "trap '' TERM; setsid sleep 600 & echo up; while :; do sleep 600; done";

/// Looks at everything. `guard_command` starts the guard; `dir` is where a worker's data would be.
pub async fn examine(guard_command: Vec<String>, dir: PathBuf) -> Diagnosis {
    let mut findings = vec![git().await];
    findings.extend(kernel(&HostFacts::read()));
    findings.push(boot_clock());
    let scratch = std::env::temp_dir().join(format!("flyball-doctor-{}", uuid::Uuid::new_v4()));
    findings.extend(guard(guard_command, &scratch).await);
    // Only a probe's own files; what cannot be removed is in the system's directory for such.
    let _ = std::fs::remove_dir_all(&scratch);
    findings.extend(disk(&dir));
    Diagnosis { findings }
}

async fn git() -> Finding {
    let Some(version) = host::git_version().await else {
        let next = "install git 2.30 or later and put it into the worker's PATH";
        return Finding::error(AREA, "GitMissing", "git cannot be run", next);
    };
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if found < GIT_MIN {
        let next = "install git 2.30 or later";
        return Finding::warning(AREA, "GitOld", format!("git {version} is not tested"), next);
    }
    Finding::ok(AREA, "Git", format!("git {version}"))
}

fn kernel(host: &HostFacts) -> Vec<Finding> {
    let has = |yes: bool| if yes { "yes" } else { "no" };
    let cgroup2 = host.cgroup2.as_deref().unwrap_or("no");
    let mut found = vec![Finding::ok(
        AREA,
        "Kernel",
        format!(
            "Linux {}: cgroup v2 {cgroup2}, user namespaces {}, Landlock {}, seccomp {}",
            host.kernel,
            has(host.user_namespaces),
            match host.landlock_abi {
                0 => "no".to_owned(),
                abi => format!("version {abi}"),
            },
            has(host.seccomp),
        ),
    )];
    if host.proc_is_open {
        let message = "users see each other's processes in /proc (where that matters, mount it with \
                       hidepid=invisible)";
        found.push(Finding::ok(AREA, "ProcOpen", message));
    }
    found
}

fn boot_clock() -> Finding {
    let first = boottime();
    std::thread::sleep(Duration::from_millis(2));
    if first.until(boottime()).is_zero() {
        let next = "this kernel cannot keep deadlines; use another one";
        return Finding::error(AREA, "BootClock", "CLOCK_BOOTTIME stands still", next);
    }
    Finding::ok(AREA, "BootClock", format!("CLOCK_BOOTTIME runs, {} s", first.0 / 1000))
}

async fn guard(command: Vec<String>, scratch: &Path) -> Vec<Finding> {
    let guard = match Guard::start(GuardConfig::new(command, scratch)).await {
        Ok(guard) => guard,
        Err(error) => {
            let next = "without a guard nothing runs here: fix what it names";
            return vec![Finding::error(AREA, "Guard", error.to_string(), next)];
        }
    };
    let abilities = host::of_guard(&guard).await;
    let has = |yes: bool| if yes { "yes" } else { "no" };
    let mut found = vec![Finding::ok(
        AREA,
        "Guard",
        format!(
            "the guard starts: containment {}, memory locked {}, priority raised {}, protected \
             from the memory killer {}",
            abilities.containment,
            has(abilities.memory_locked),
            has(abilities.priority_raised),
            has(abilities.oom_protected),
        ),
    )];
    let missing = &abilities.missing_layers;
    let on = Layer::ALL.iter().filter(|layer| !missing.contains_key(layer));
    let on: Vec<&str> = on.map(|layer| layer.name()).collect();
    let text = match missing.is_empty() {
        true => format!("runs are isolated by every layer: {}", on.join(", ")),
        false => format!("runs are isolated by {} of {} layers", on.len(), Layer::ALL.len()),
    };
    found.push(Finding::ok(AREA, "Isolation", text));
    let why = abilities.weaker_because.join("; ");
    let why = if why.is_empty() { why } else { format!(" (not stronger because of {why})") };
    let held = bounds::describe(&abilities.bounds);
    let text = format!("limits of a run are held by: {held}{why}");
    found.push(Finding::ok(AREA, "Limits", text));
    found.extend(weaknesses(AREA, &abilities));
    found.push(probe(&guard, scratch).await);
    found
}

/// A step that does not want to die, and the deadline that passes.
async fn probe(guard: &Guard, scratch: &Path) -> Finding {
    let failed = |message: String| {
        let next = "runs could outlive their lease here: do not run a worker, and report this";
        Finding::error(AREA, "Kill", message, next)
    };
    let deadline = boottime() + PROBE_LIFE;
    let output = scratch.join("probe.out");
    let step = Step {
        argv: ["sh", "-c", PROBE].map(str::to_owned).to_vec(),
        cwd: scratch.to_owned(),
        env: vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())],
        output: output.clone(),
        stdin: None,
        output_bytes_max: 4096,
        timeout: Duration::from_secs(60),
        label: "doctor".to_owned(),
        confinement: None,
    };
    if !guard.extender().extend(deadline) {
        return failed("the guard takes no deadline".to_owned());
    }
    // Held: dropping it would kill the step before its deadline.
    let held = match guard.spawn(step) {
        Ok(handle) => handle,
        Err(error) => return failed(format!("the guard cannot start a step: {error}")),
    };
    let loss = tokio::time::timeout(PROBE_LIFE * 10, guard.lost()).await;
    let delay = deadline.until(boottime());
    drop(held);
    let began = std::fs::read_to_string(&output).is_ok_and(|text| text.contains("up"));
    match loss {
        Ok(loss) if loss.proven && began => {
            let millis = delay.as_millis();
            let text = format!(
                "a step that ignores SIGTERM and leaves its session is gone, proven, {millis} ms \
                 after its deadline"
            );
            let finding = if delay > KILL_SLOW {
                let next = "this machine is busy; give the guard priority (LimitNICE=-20)";
                Finding::warning(AREA, "KillSlow", text, next)
            } else {
                Finding::ok(AREA, "Kill", text)
            };
            finding.figure("delayMillis", millis)
        }
        Ok(_) if !began => failed("the probe step did not begin within a second".to_owned()),
        Ok(loss) => failed(format!("nobody could prove that the probe is gone: {}", loss.reason)),
        Err(_) => failed(format!("the guard has not ended {delay:?} after the deadline")),
    }
}

fn disk(dir: &Path) -> Vec<Finding> {
    let there = dir.ancestors().find(|dir| dir.is_dir()).unwrap_or_else(|| Path::new("/"));
    vec![writes(there), free(there)]
}

fn writes(dir: &Path) -> Finding {
    let path = dir.join(format!(".flyball-doctor-{}", uuid::Uuid::new_v4()));
    let measured = measure_writes(&path);
    // Also after a failure: it may have been made.
    let _ = std::fs::remove_file(&path);
    let about = dir.display();
    match measured {
        Err(error) => {
            let next = "give a directory that this user may write to: --data-dir";
            Finding::error(AREA, "DataDir", format!("{about} cannot be written: {error}"), next)
        }
        Ok(sorted) => {
            let p50 = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
            let max = sorted.last().copied().unwrap_or_default();
            let text = format!(
                "{about}: {WRITES} synced writes: p50 {} us, max {} us",
                p50.as_micros(),
                max.as_micros()
            );
            let finding = if p50 > WRITE_SLOW {
                let next = "put the data directory on a disk with a quick fsync (an SSD)";
                Finding::warning(AREA, "DiskSlow", text, next)
            } else {
                Finding::ok(AREA, "Disk", text)
            };
            finding.figure("p50Micros", p50.as_micros()).figure("maxMicros", max.as_micros())
        }
    }
}

fn measure_writes(path: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = std::fs::File::create_new(path)?;
    let mut took = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok(took)
}

fn free(dir: &Path) -> Finding {
    let stat = match nix::sys::statvfs::statvfs(dir) {
        Ok(stat) => stat,
        Err(errno) => {
            let message = format!("the free space of {} cannot be read: {errno}", dir.display());
            return Finding::warning(AREA, "FreeSpace", message, "look at the file system");
        }
    };
    let bytes = stat.blocks_available().saturating_mul(stat.fragment_size());
    let text = format!("{}: {} MiB free", dir.display(), bytes / (1024 * 1024));
    let finding = if bytes < FREE_MIN {
        Finding::warning(AREA, "FreeSpace", text, "make room: clones and output of runs go there")
    } else {
        Finding::ok(AREA, "FreeSpace", text)
    };
    finding.figure("freeBytes", bytes)
}
