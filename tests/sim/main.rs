//! The seeded simulation: the product's schedulers, store, embedded server and workers' lease and session
//! logic in one thread on a simulated network and clock, under faults that follow from a seed. The same
//! seed gives the same history, byte for byte. See `docs/simulation.md`.
#![expect(clippy::print_stdout, reason = "a test program with its own report")]

mod chance;
mod client;
mod etcd;
mod faults;
mod git;
mod guard;
mod journal;
mod judge;
mod log;
mod net;
mod run;
mod scenes;
mod scheduler;
mod site;
mod stage;
mod surgeon;
mod trapped;
mod traps;
mod view;
mod worker;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use scenes::{SCENES, Scene};
use world::Wanted;

/// Schedulers of a world.
const SCHEDULERS: [&str; 2] = ["s1", "s2"];
/// Workers of a world.
const WORKERS: [&str; 3] = ["w1", "w2", "w3"];

/// Seeds of a plain run: what fits into a minute of an unoptimised build on two busy cores.
const SEEDS: u64 = 2;
/// Seconds of faults in each.
const SECONDS: u64 = 20;

struct Arguments {
    seeds: Vec<u64>,
    /// Scripts that are played, each once.
    scenes: Vec<&'static Scene>,
    /// The seed of their worlds.
    scene_seed: u64,
    span: Duration,
    history: Option<PathBuf>,
    log: Option<PathBuf>,
    trace: bool,
    /// Only what `--seed` or `--scene` names, without the check that it repeats.
    single: bool,
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(message) => {
            println!(
                "{message}\nusage: sim [--seeds N | --seed S | --scene NAME [--seed S]] [--seconds T] [--history FILE] [--log FILE [--trace]]"
            );
            return ExitCode::FAILURE;
        }
    };
    let (mut passed, mut failed, mut proven) = (0, 0, 0);
    let mut count = |name: String, result: Result<String, String>| match result {
        Ok(told) => {
            println!("test {name} ... ok{told}");
            passed += 1;
        }
        Err(why) => {
            println!("test {name} ... FAILED\n{why}");
            failed += 1;
        }
    };
    let begun = Instant::now();
    if !arguments.single {
        count("a_seed_repeats_itself".to_owned(), repeats(&["--seed", "7", "--seconds", "8"]));
        let scene = ["--scene", SCENES[0].name];
        count("a_scene_repeats_itself".to_owned(), repeats(&scene));
    }
    for seed in &arguments.seeds {
        let result = one(*seed, None, &arguments);
        proven += usize::from(matches!(&result, Ok((_, true))));
        count(format!("seed_{seed}"), result.map(|(told, _)| told));
    }
    for scene in &arguments.scenes {
        // It fails when its moment did not come, so there is nothing to ask beyond.
        let result = one(arguments.scene_seed, Some(scene), &arguments).map(|(told, _)| told);
        count(format!("scene_{}", scene.name), result);
    }
    if !arguments.single {
        let told = format!(" ({proven} of {})", arguments.seeds.len());
        let enough = if proven > 0 { Ok(told) } else { Err("in no seed a fault bit".to_owned()) };
        count("some_seeds_prove_something".to_owned(), enough);
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        begun.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        seeds: (1..=SEEDS).collect(),
        scenes: SCENES.iter().collect(),
        scene_seed: 1,
        span: Duration::from_secs(SECONDS),
        history: None,
        log: None,
        trace: false,
        single: false,
    };
    // `--name=value` is the same as `--name value`.
    let given: Vec<String> = std::env::args()
        .skip(1)
        .flat_map(|word| word.split('=').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut given = given.into_iter();
    let (mut seed, mut one_scene) = (None, None);
    while let Some(name) = given.next() {
        let mut number = || {
            let value = given.next().ok_or_else(|| format!("{name} needs a value"))?;
            value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"))
        };
        match name.as_str() {
            "--seeds" => found.seeds = (1..=number()?).collect(),
            "--seed" => {
                seed = Some(number()?);
            }
            "--scene" => {
                let wanted = given.next().unwrap_or_default();
                let scene = SCENES.iter().find(|scene| scene.name == wanted).ok_or_else(|| {
                    let names: Vec<_> = SCENES.iter().map(|scene| scene.name).collect();
                    format!("no scene is named {wanted:?}; there are {}", names.join(", "))
                })?;
                one_scene = Some(scene);
            }
            "--seconds" => found.span = Duration::from_secs(number()?),
            "--history" => found.history = given.next().map(PathBuf::from),
            "--trace" => found.trace = true,
            "--log" => found.log = given.next().map(PathBuf::from),
            // What cargo passes to every test program.
            _ => {}
        }
    }
    found.single = seed.is_some() || one_scene.is_some();
    match (one_scene, seed) {
        (Some(scene), seed) => {
            (found.seeds, found.scenes) = (Vec::new(), vec![scene]);
            found.scene_seed = seed.unwrap_or(found.scene_seed);
        }
        (None, Some(seed)) => (found.seeds, found.scenes) = (vec![seed], Vec::new()),
        (None, None) => {}
    }
    Ok(found)
}

/// Runs and judges a seed; answers what to tell of it and whether it proves anything.
fn one(
    seed: u64,
    scene: Option<&'static Scene>,
    arguments: &Arguments,
) -> Result<(String, bool), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let history = arguments.history.clone().unwrap_or_else(|| dir.path().join("history"));
    let span = arguments.span;
    let wanted = Wanted {
        seed,
        scene,
        span,
        history: history.clone(),
        log: arguments.log.clone(),
        trace: arguments.trace,
    };
    let begun = Instant::now();
    // A panic in a world is a finding like any other, and other seeds still count.
    let ran = std::panic::catch_unwind(|| world::run(&wanted))
        .unwrap_or_else(|_| Err("it panicked; the message is above".to_owned()));
    let judged = ran.and_then(|ran| judge::judge(&history).map(|good| (ran, good)));
    // What the checker found tells more than that a script did not come to its point.
    let judged = judged.and_then(|(ran, good)| ran.played.clone().map(|()| (ran, good)));
    let kept = |why: String| {
        let name = scene.map_or_else(|| seed.to_string(), |scene| scene.name.to_owned());
        let kept = std::env::temp_dir().join(format!("flyball-sim-{name}.history"));
        let where_to = match std::fs::copy(&history, &kept) {
            Ok(_) => format!("its history is in {}", kept.display()),
            Err(error) => format!("its history could not be kept: {error}"),
        };
        let what = match scene {
            Some(scene) => format!("--scene {} --seed {seed}", scene.name),
            None => format!("--seed {seed} --seconds {}", span.as_secs()),
        };
        format!(
            "{why}\n{where_to}\nreplay: cargo test -p flyball-tests --test sim -- {what} --log /tmp/sim.log"
        )
    };
    let (ran, good) = judged.map_err(kept)?;
    let wall = begun.elapsed().as_secs_f64();
    let simulated = ran.simulated.as_secs_f64();
    let told = format!(" ({simulated:.1} simulated s in {wall:.1} s, {})", good.told);
    Ok((told, good.proves))
}

/// The same world in two processes gives the same history and the same log, byte for byte.
fn repeats(world: &[&str]) -> Result<String, String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (one, two) = (dir.path().join("1"), dir.path().join("2"));
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| child(world, &two));
        (child(world, &one), second.join().expect("the other run"))
    });
    let (first, second) = (first?, second?);
    for (what, index) in [("history", 0), ("log", 1)] {
        if first[index] != second[index] {
            let same = first[index].iter().zip(&second[index]).take_while(|(a, b)| a == b).count();
            let lines = first[index][..same].iter().filter(|byte| **byte == b'\n').count();
            return Err(format!(
                "two runs of {world:?} differ in their {what} from line {} on",
                lines + 1
            ));
        }
    }
    Ok(format!(" ({} bytes of history, {} of log)", first[0].len(), first[1].len()))
}

fn child(world: &[&str], at: &Path) -> Result<[Vec<u8>; 2], String> {
    let files = [at.with_extension("history"), at.with_extension("log")];
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new(program)
        .args(world)
        .arg("--history")
        .arg(&files[0])
        .arg("--log")
        .arg(&files[1])
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| error.to_string());
    Ok([read(&files[0])?, read(&files[1])?])
}
