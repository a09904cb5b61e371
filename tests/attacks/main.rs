//! Scripted attempts to get out of a step's confinement, each of which must fail; and with each layer off,
//! at least one that gets through, as otherwise nothing here would test that layer. One program in several
//! roles: the suite, the suite as an ordinary user, its attempts with layers off, and the guard.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a test program")]

mod bombs;
mod controls;
mod list;
mod metadata;
mod scene;
mod scripts;
mod tools;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use flyball_core::isolation::Layer;

use flyball_sandbox::Who;
use list::{Attack, Bare};
use scene::{SECRET, Scene};

/// Who the ordinary user is: nobody in particular.
const ORDINARY: u32 = 65534;
/// What a step takes itself for.
const INNER_USER: u32 = 1000;
/// What a child prints before an attempt that got through.
const THROUGH: &str = "through: ";

/// How an attempt ended.
enum Verdict {
    Refused(String),
    Through(String),
    /// A control has bitten, as it must, or cannot bite here.
    Bit(String),
    /// It says nothing, as it did not even run.
    Broken(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("guard") => return flyball_sandbox::guard_main(),
        Some("with-layers-off") => {
            without(&arguments[1]);
            return ExitCode::SUCCESS;
        }
        Some("metadata") => return metadata::role(&arguments[1..]),
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    let filter = arguments.iter().find(|word| !word.starts_with('-')).map(String::as_str);
    let (mut passed, mut failed) = suite(filter);
    if is_root() && filter != Some("as-ordinary-user") {
        match as_ordinary_user() {
            Some((more, wrong)) => {
                passed += more;
                failed.extend(wrong);
            }
            None => failed.push("the suite as an ordinary user gave no result".to_owned()),
        }
    }
    if is_root() && filter.is_none_or(|word| "metadata_address".contains(word)) {
        let (more, wrong) = metadata::suite();
        passed += more;
        failed.extend(wrong);
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!("failed: {failed:#?}");
    println!("test result: {verdict}. {passed} passed; {} failed; 0 ignored", failed.len());
    ExitCode::from(u8::from(!failed.is_empty()))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Everything as the user that this is.
fn suite(filter: Option<&str>) -> (usize, Vec<String>) {
    let user = if is_root() { "root" } else { "ordinary user" };
    let (mut passed, mut failed) = (0, Vec::new());
    let mut scene = Scene::new();
    let missing = scene.guard.abilities().missing_layers.clone();
    for (layer, why) in &missing {
        println!("SKIPPED as {user}: whatever layer {layer} stops: this host lacks it ({why})");
    }
    let mut note = |name: &str, verdict: Verdict| match verdict {
        Verdict::Refused(how) => {
            passed += 1;
            println!("attack {name} as {user}: refused ({how})");
        }
        Verdict::Bit(how) => println!("control of {name} as {user}: {how}"),
        Verdict::Through(how) | Verdict::Broken(how) => {
            println!("attack {name} as {user}: FAILED: {how}");
            failed.push(format!("{name} as {user}: {how}"));
        }
    };
    let wanted =
        |name: &str| filter.is_none_or(|word| word == "as-ordinary-user" || name.contains(word));
    for attack in list::all().iter().filter(|attack| wanted(&attack.name)) {
        if says_nothing(attack) || attack.layers.iter().any(|layer| missing.contains_key(layer)) {
            println!("SKIPPED {} as {user}: says nothing here", attack.name);
            continue;
        }
        note(&attack.name, attempt(&mut scene, attack));
    }
    for attack in list::all().iter().filter(|attack| is_root() && wanted(&attack.name)) {
        if let Some(verdict) = controls::of_never(&scene, attack) {
            note(&attack.name, verdict);
        }
    }
    for (name, bomb) in bombs::ALL.iter().filter(|(name, _)| wanted(name) && missing.is_empty()) {
        note(name, bomb(&mut scene).map_or_else(Verdict::Through, Verdict::Refused));
    }
    drop(scene);
    if filter.is_none_or(|word| word == "as-ordinary-user") && missing.is_empty() {
        let (more, wrong) = layers(user);
        passed += more;
        failed.extend(wrong);
    }
    (passed, failed)
}

/// A file of root's that an ordinary user's suite owns itself is no secret to it; and whoever is what steps
/// are from within cannot be told from them.
fn says_nothing(attack: &Attack) -> bool {
    let name = attack.name.trim_start_matches("check_");
    (!is_root() && name == "read_roots_file_in_sight")
        || (nix::unistd::geteuid().as_raw() == INNER_USER && name == "be_the_workers_user")
}

fn attempt(scene: &mut Scene, attack: &Attack) -> Verdict {
    let step = match attack.who {
        Who::Agent => scene.step(&attack.script),
        Who::Check => scene.check(&attack.script),
    };
    let (mut end, mut said) = scene.run(step);
    if let Some(then) = attack.then.filter(|_| said.ends_with("done\n")) {
        (end, said) = scene.run(scene.check(then));
    }
    let effects = scene.effects();
    scene.reset();
    let line = |start: &str| said.lines().find(|line| line.starts_with(start)).map(str::to_owned);
    if !effects.is_empty() {
        return Verdict::Through(effects.join(", "));
    }
    if said.contains(SECRET) {
        return Verdict::Through("it read what it must not".to_owned());
    }
    if let Some(got) = line("GOT ") {
        return Verdict::Through(got);
    }
    match line("refused: ") {
        Some(how) if said.starts_with("ready") && said.ends_with("done\n") => {
            Verdict::Refused(how.trim_start_matches("refused: ").to_owned())
        }
        _ => Verdict::Broken(format!("it did not run: {:?} {} {said}", end.exit, end.detail)),
    }
}

/// Attempts with the layers off that `FLYBALL_LAYERS_OFF` names, and what got through.
fn without(which: &str) {
    let layer: Option<Layer> = which.parse().ok();
    let mut scene = Scene::new();
    for attack in list::all() {
        let concerned = layer.is_none_or(|layer| attack.layers.contains(&layer));
        if attack.bare == Bare::Never || says_nothing(&attack) || !concerned {
            continue;
        }
        match attempt(&mut scene, &attack) {
            Verdict::Through(_) => println!("{THROUGH}{}", attack.name),
            Verdict::Refused(how) | Verdict::Bit(how) | Verdict::Broken(how) => {
                println!("{}: {how}", attack.name);
            }
        }
    }
}

/// Each layer off in turn, and all of them, each in a process of its own as the environment decides.
fn layers(user: &str) -> (usize, Vec<String>) {
    let (mut passed, mut failed) = (0, Vec::new());
    let mut table: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let all = Layer::ALL.map(Layer::name).join(",");
    let single = Layer::ALL.iter().map(|layer| (layer.name(), layer.name().to_owned()));
    for (which, off) in single.chain([("all", all)]) {
        let mut child = fenced(which);
        child.args(["with-layers-off", which]).env("FLYBALL_LAYERS_OFF", off);
        let done = child.output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let through: Vec<String> =
            said.lines().filter_map(|line| line.strip_prefix(THROUGH)).map(str::to_owned).collect();
        if which == "user" && nix::unistd::geteuid().as_raw() == INNER_USER {
            println!("SKIPPED layer user as {user}: steps have the same number as this user");
        } else if through.is_empty() || !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr);
            failed.push(format!("nothing got through without {which} as {user}: {said} {why}"));
        } else {
            passed += 1;
        }
        table.insert(which.to_owned(), through);
    }
    let bare = table.get("all").cloned().unwrap_or_default();
    for attack in list::all() {
        let must = attack.bare == Bare::Any || (attack.bare == Bare::Root && is_root());
        if must && !says_nothing(&attack) && !bare.contains(&attack.name) {
            failed.push(format!("control of {} as {user}: refused without any layer", attack.name));
        }
    }
    for (which, through) in table {
        println!("layer off as {user}: {which} -> {}", through.join(", "));
    }
    (passed, failed)
}

/// This program where a mistake in ending steps reaches no process of the host: without the pid layer, who
/// ends a step sees whatever is in the table.
fn fenced(which: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    if which != "pid" && which != "all" {
        return Command::new(this);
    }
    let mut child = Command::new("unshare");
    if !is_root() {
        child.args(["--user", "--map-current-user"]);
    }
    child.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--"]).arg(this);
    child
}

/// This program as the ordinary user, in a copy that this user can execute; the copy goes with the directory.
fn ordinary() -> (tempfile::TempDir, Command) {
    let dir = tempfile::Builder::new().prefix("flyball-attacks-").tempdir_in("/var/tmp").unwrap();
    tools::open_to_all(dir.path());
    let copy = dir.path().join("attacks");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut child = Command::new(&copy);
    child.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", dir.path());
    child.uid(ORDINARY).gid(ORDINARY).current_dir(dir.path());
    (dir, child)
}

/// The whole suite again.
fn as_ordinary_user() -> Option<(usize, Vec<String>)> {
    let (_dir, mut child) = ordinary();
    let done = child.arg("as-ordinary-user").output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let result = said.lines().find_map(|line| line.strip_prefix("test result: "));
    for line in said.lines().filter(|line| !line.starts_with("test result: ")) {
        println!("{line}");
    }
    print!("{}", String::from_utf8_lossy(&done.stderr));
    let passed = result?.split(' ').nth(1)?.parse().ok()?;
    let failed = (!done.status.success()).then(|| "as an ordinary user: see above".to_owned());
    Some((passed, failed.into_iter().collect()))
}
