//! Builds what is tested, starts the machine with it, and passes on what it says.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::image::{dir, run};

/// Longest life of the machine; every case has a bound of its own.
const LIFE_SECONDS: &str = "5400";
/// What cases need: the largest memory bomb is of 300 MB.
const MEMORY: &str = "3072";

/// Runs the suite in the machine; whether it passed.
pub(crate) fn run_suite(filters: &[&str]) -> Result<bool, String> {
    let dir = dir();
    if !dir.join("disk").exists() {
        return Err(format!("there is no {}: use --install", dir.join("disk").display()));
    }
    let payload = payload(&dir)?;
    // The second serial line carries the suite's words, the first the kernel's and systemd's.
    let mut machine = Command::new("timeout");
    machine.args(["--kill-after=10", LIFE_SECONDS, "qemu-system-x86_64"]);
    machine.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", MEMORY]);
    machine.args([
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-nic",
        "none",
        "-no-reboot",
    ]);
    machine.args(["-serial", &format!("file:{}", dir.join("console.log").display())]);
    machine.args(["-serial", "stdio", "-device", "virtio-rng-pci"]);
    machine.arg("-kernel").arg(dir.join("kernel")).arg("-initrd").arg(dir.join("initrd"));
    let drive = |path: &Path| format!("file={},format=raw,if=virtio,snapshot=on", path.display());
    machine.args(["-drive", &drive(&dir.join("disk")), "-drive", &drive(&payload)]);
    let suite = format!(
        "/bin/sh -c 'mkdir /srv/vm; tar -xf /dev/vdb -C /srv/vm; exec /srv/vm/vm guest {}'",
        filters.join(" ")
    );
    machine.args(["-append", &format!(
        "root=/dev/vda rw console=ttyS0 panic=-1 systemd.mask=apparmor.service \
         systemd.run=\"{suite}\" systemd.run_success_action=poweroff-force systemd.run_failure_action=poweroff-force"
    )]);
    let mut machine = machine
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the machine cannot be started: {error}"))?;
    let said = machine.stdout.take().map(BufReader::new);
    let mut verdict = None;
    for line in said.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
        println!("{}", line.trim_end());
        if line.starts_with("test result: ") {
            verdict = Some(line.starts_with("test result: ok"));
        }
    }
    let status = machine.wait().map_err(|error| error.to_string())?;
    verdict.ok_or_else(|| {
        format!(
            "the machine ended ({status}) without a result; see {}",
            dir.join("console.log").display()
        )
    })
}

/// Test programs that run in the machine, beside the sandbox's own unit tests.
const PROGRAMS: [&str; 2] = ["guard", "attacks"];

#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Packs the programs, without their debugging information.
fn payload(dir: &Path) -> Result<PathBuf, String> {
    let staged = dir.join("payload");
    let _ = std::fs::remove_dir_all(&staged);
    std::fs::create_dir_all(&staged).map_err(|error| format!("{}: {error}", staged.display()))?;
    let put = |from: &Path, name: &str| {
        run(Command::new("strip").arg("--strip-debug").arg("-o").arg(staged.join(name)).arg(from))
    };
    put(flyball_tests::binary::flyball(), "flyball")?;
    put(&std::env::current_exe().map_err(|error| error.to_string())?, "vm")?;
    for (name, program) in built()? {
        put(&program, &name)?;
    }
    let unit = "deploy/systemd/flyball-worker.service";
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(unit);
    let copied = std::fs::copy(unit, staged.join("flyball-worker.service"));
    copied.map_err(|error| error.to_string())?;
    let tar = dir.join("payload.tar");
    run(Command::new("tar").arg("-C").arg(&staged).arg("-cf").arg(&tar).arg("."))?;
    Ok(tar)
}

/// Builds the test programs as `cargo test` does, all at once; their names and where they are.
fn built() -> Result<Vec<(String, PathBuf)>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["test", "--no-run", "--quiet", "--message-format=json", "--lib"]);
    build.args(["--package", "flyball-sandbox", "--package", "flyball-tests"]);
    build.args(PROGRAMS.iter().flat_map(|name| ["--test", name]));
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    flyball_tests::binary::forget_package(&mut build);
    let done = build.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    let found: Vec<_> = String::from_utf8_lossy(&done.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Artifact>(line).ok())
        .filter_map(|one| Some((one.target.name, one.executable?)))
        .collect();
    match done.status.success() {
        true => Ok(found),
        false => Err(format!("the test programs cannot be built: {}", done.status)),
    }
}
