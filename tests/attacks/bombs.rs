//! Attempts that take more than they may, or outlast their run. Each stops by itself, so that without any
//! protection too it does no harm. Never run with a layer off.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use flyball_core::score::ExitKind;
use flyball_sandbox::Limits;

use crate::scene::{PATIENCE, Scene};

const MIB: u64 = 1024 * 1024;

/// A bomb: the reason for which it failed, or what it did.
pub(crate) type Bomb = (&'static str, fn(&mut Scene) -> Result<String, String>);

pub(crate) const ALL: &[Bomb] = &[
    ("fork_bomb", forks),
    ("memory_bomb", memory),
    ("memory_bomb_of_many", memory_of_many),
    ("temp_bomb", temp),
    ("disk_bomb", disk),
    ("descriptor_bomb", descriptors),
    ("log_flood", log),
    ("outlive_the_run", outlive),
];

fn over(scene: &Scene, script: &str, what: &str, limits: Limits) -> Result<String, String> {
    let mut step = scene.step(script);
    if let Some(plan) = &mut step.confinement {
        plan.limits = limits;
    }
    let (end, said) = scene.run(step);
    match &end.exit {
        ExitKind::OverLimit(why) if why.starts_with(what) => Ok(format!("ended over its {why}")),
        _ if said.contains("ready") && said.contains("refused:") && !said.contains("GOT") => {
            Ok(said.lines().find(|line| line.starts_with("refused")).unwrap_or("").to_owned())
        }
        other => Err(format!("{other:?} {}: {said}", end.detail)),
    }
}

fn forks(scene: &mut Scene) -> Result<String, String> {
    let script = "for my $n (1..60) { my $p=fork; if(!defined $p){ refused(\"after $n: $!\"); exit } \
                  if(!$p){ sleep 15; POSIX::_exit(0) } } got('60 processes');";
    over(scene, script, "processes", Limits { processes: Some(16), ..Limits::default() })
}

fn memory(scene: &mut Scene) -> Result<String, String> {
    let script = "my @a; for (1..30) { push @a, 'x' x 10_000_000; select(undef,undef,undef,0.03) } \
                  select(undef,undef,undef,1); got('300 MB');";
    let limits = Limits { memory_bytes: Some(128 * MIB), ..Limits::default() };
    over(scene, script, "memory", limits)
}

fn memory_of_many(scene: &mut Scene) -> Result<String, String> {
    let script = "for (1..10) { if(!fork){ my $a='x' x 30_000_000; sleep 3; POSIX::_exit(0) } } \
                  sleep 2; got('300 MB');";
    let limits = Limits { memory_bytes: Some(128 * MIB), ..Limits::default() };
    over(scene, script, "memory", limits)
}

fn temp(scene: &mut Scene) -> Result<String, String> {
    let script = "open(my $h,'>','/tmp/x') or die; for (1..100) { \
                  if(!defined syswrite($h,'x' x 1_000_000)){ refused(\"after $_ MB: $!\"); exit } } got('100 MB');";
    over(scene, script, "disk", Limits { temp_bytes: Some(8 * MIB), ..Limits::default() })
}

fn disk(scene: &mut Scene) -> Result<String, String> {
    let script = "for (1..25) { open(my $h,'>',\"$E{OWN}/$_\") or die; syswrite($h,'x' x 4_000_000); close $h; \
                  select(undef,undef,undef,0.05) } select(undef,undef,undef,2); got('100 MB');";
    let found =
        over(scene, script, "disk", Limits { disk_bytes: Some(16 * MIB), ..Limits::default() });
    scene.reset();
    found
}

fn descriptors(scene: &mut Scene) -> Result<String, String> {
    let script = "my @h; for (1..500) { my $h; if(!open($h,'<','/dev/null')){ refused(\"after $_: $!\"); exit } \
                  push @h,$h } got('500 files');";
    over(scene, script, "files", Limits { files: Some(64), ..Limits::default() })
}

fn log(scene: &mut Scene) -> Result<String, String> {
    let (end, said) = scene.run(scene.step("print 'x' x 5_000_000;"));
    match end.output_truncated && said.starts_with("ready") && said.len() <= 100_000 {
        true => Ok(format!("{} bytes kept", said.len())),
        false => Err(format!("{end:?}, {} bytes kept", said.len())),
    }
}

/// Whoever holds the pipe open is alive, whatever namespace it is in.
fn outlive(scene: &mut Scene) -> Result<String, String> {
    let pipe = scene.path("agent/home/lives");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).map_err(|error| error.to_string())?;
    let mut options = fs::File::options();
    let mut lives = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).unwrap();
    let script = "$SIG{$_}='IGNORE' for qw(TERM HUP INT QUIT USR1 USR2 PIPE ALRM); \
                  open(my $h,'>',\"$E{HOME}/lives\") or die; \
                  if(!fork){ POSIX::setsid(); if(!fork){ $0='kworker'; syswrite($h,'up'); sleep 60 } POSIX::_exit(0) } wait; \
                  select(undef,undef,undef,0.3);";
    let (end, said) = scene.run(scene.step(script));
    let mut buffer = [0; 100];
    let mut told = String::new();
    let give_up = Instant::now() + PATIENCE / 3;
    let gone = loop {
        match lives.read(&mut buffer) {
            Ok(0) => break true,
            Ok(length) => told.push_str(&String::from_utf8_lossy(&buffer[..length])),
            Err(_) if Instant::now() > give_up => break false,
            Err(_) => std::thread::yield_now(),
        }
    };
    let _ = fs::remove_file(pipe);
    match gone && told == "up" && said.contains("done") {
        true => Ok(format!("{} left over, killed", end.leftovers_killed)),
        false => Err(format!("gone: {gone}, told: {told}, {end:?}: {said}")),
    }
}
