//! Attempts that take more than they may, or outlast their run. Each stops by itself, so that without any
//! protection too it does no harm, and is let run without its limit first, to show that it would go off.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use flyball_core::score::ExitKind;
use flyball_sandbox::{Limits, Step};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::list::PRELUDE;
use crate::scene::{PATIENCE, Scene};

const MIB: u64 = 1024 * 1024;

/// A bomb: the reason for which it failed, or what it did.
pub(crate) type Bomb = (&'static str, fn(&mut Scene) -> Result<String, String>);

pub(crate) const ALL: &[Bomb] = &[
    ("fork_bomb", forks),
    ("memory_bomb", memory),
    ("memory_bomb_of_many", memory_of_many),
    ("shared_memory_bomb", shared),
    ("memory_file_bomb", memory_file),
    ("unmapped_memory_file_bomb", unmapped),
    ("system_v_memory_bomb", system_v),
    ("temp_bomb", temp),
    ("disk_bomb", disk),
    ("descriptor_bomb", descriptors),
    ("log_flood", log),
    ("outlive_the_run", outlive),
];

fn over(scene: &Scene, script: &str, what: &str, limits: Limits) -> Result<String, String> {
    let run = |limits: Limits| {
        let mut step = scene.step(script);
        if let Some(plan) = &mut step.confinement {
            plan.limits = limits;
        }
        scene.run(step)
    };
    let (end, said) = run(Limits::default());
    scene.reset();
    if !said.contains("GOT") {
        return Err(format!("it does not go off without a limit: {end:?}: {said}"));
    }
    let (end, said) = run(limits);
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

/// Many share it, and it counts once: they stay below the limit together, and one of them goes over it.
fn shared(scene: &mut Scene) -> Result<String, String> {
    let script = format!(
        "my $a=syscall({map},0,300_000_000,3,0x21,-1,0); my $p=sub {{ syscall({read},$Z,$a+$_[0]*10_000_000,10_000_000) }}; \
         open(my $z,'<','/dev/zero') or die; local $Z=fileno($z); \
         $p->($_) for 0..7; for (1..8) {{ if(!fork){{ $p->($_) for 0..7; sleep 1; POSIX::_exit(0) }} }} \
         select(undef,undef,undef,0.7); print \"80 MB of nine\\n\"; \
         for (8..28) {{ $p->($_); select(undef,undef,undef,0.03) }} select(undef,undef,undef,3); got('280 MB');",
        map = nix::libc::SYS_mmap,
        read = nix::libc::SYS_read
    );
    let limits = Limits { memory_bytes: Some(200 * MIB), ..Limits::default() };
    let told = over(scene, &script, "memory", limits)?;
    let said = fs::read_to_string(scene.path("out")).unwrap_or_default();
    match said.contains("80 MB of nine") {
        true => Ok(told),
        false => Err(format!("what nine share was counted nine times: {told}")),
    }
}

const MEMORY_FILE: &str =
    "my $n=\"x\\0\"; my $f=syscall($E{SYS_MEMFD_CREATE},$n,0); open(my $h,'+<&=',$f) or die; ";

fn memory_file(scene: &mut Scene) -> Result<String, String> {
    let script = format!(
        "{MEMORY_FILE} truncate($h,300_000_000) or die; my $a=syscall({map},0,300_000_000,3,1,$f,0); \
         open(my $z,'<','/dev/zero') or die; \
         for (0..28) {{ syscall({read},fileno($z),$a+$_*10_000_000,10_000_000); select(undef,undef,undef,0.03) }} \
         select(undef,undef,undef,1); got('280 MB');",
        map = nix::libc::SYS_mmap,
        read = nix::libc::SYS_read
    );
    let limits = Limits { memory_bytes: Some(128 * MIB), ..Limits::default() };
    over(scene, &script, "memory", limits)
}

/// It is in nobody's memory, only open.
fn unmapped(scene: &mut Scene) -> Result<String, String> {
    let script = format!(
        "{MEMORY_FILE} for (1..30) {{ defined syswrite($h,'x' x 10_000_000) or die \"$!\"; select(undef,undef,undef,0.05) }} \
         select(undef,undef,undef,2); got('300 MB');"
    );
    let limits = Limits { memory_bytes: Some(128 * MIB), ..Limits::default() };
    over(scene, &script, "memory", limits)
}

/// Segments that outlast whoever made them.
fn system_v(scene: &mut Scene) -> Result<String, String> {
    let script = format!(
        "open(my $z,'<','/dev/zero') or die; for (1..30) {{ my $i=shmget(0,10_000_000,0600|01000); \
         if(!defined $i){{ refused(\"after $_: $!\"); exit }} my $a=syscall({attach},$i,0,0); \
         syscall({read},fileno($z),$a,10_000_000); select(undef,undef,undef,0.03) }} \
         select(undef,undef,undef,1); got('300 MB');",
        attach = nix::libc::SYS_shmat,
        read = nix::libc::SYS_read
    );
    let limits = Limits { memory_bytes: Some(128 * MIB), ..Limits::default() };
    over(scene, &script, "memory", limits)
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
    let script = "print 'x' x 5_000_000;";
    let much = Step { output_bytes_max: 10_000_000, ..scene.step(script) };
    let (_, said) = scene.run(much);
    if said.len() < 5_000_000 {
        return Err(format!("{} bytes without a limit", said.len()));
    }
    let (end, said) = scene.run(scene.step(script));
    match end.output_truncated && said.starts_with("ready") && said.len() <= 100_000 {
        true => Ok(format!("{} bytes kept", said.len())),
        false => Err(format!("{end:?}, {} bytes kept", said.len())),
    }
}

/// Ignores all signals that it can, and leaves a process behind that belongs to nobody.
const OUTLIVE: &str = "$SIG{$_}='IGNORE' for qw(TERM HUP INT QUIT USR1 USR2 PIPE ALRM); \
    open(my $h,'>',\"$E{HOME}/lives\") or die; \
    if(!fork){ POSIX::setsid(); if(!fork){ $0='kworker'; syswrite($h,\"$$\\n\"); sleep 60 } POSIX::_exit(0) } wait; \
    select(undef,undef,undef,0.3);";

/// Whoever holds the pipe open is alive, whatever namespace it is in.
fn outlive(scene: &mut Scene) -> Result<String, String> {
    let pipe = scene.path("agent/home/lives");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).map_err(|error| error.to_string())?;
    let mut options = fs::File::options();
    let mut lives = options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(&pipe).unwrap();
    if !outlives_unconfined(scene, &mut lives) {
        return Err("unconfined nothing is left either".to_owned());
    }
    let (end, said) = scene.run(scene.step(OUTLIVE));
    let (gone, told) = until_gone(&mut lives);
    let _ = fs::remove_file(pipe);
    match gone && told.ends_with('\n') && said.contains("done") {
        true => Ok(format!("{} left over, killed", end.leftovers_killed)),
        false => Err(format!("gone: {gone}, told: {told}, {end:?}: {said}")),
    }
}

/// Whether nobody has the pipe open any more, and what was written to it.
fn until_gone(lives: &mut fs::File) -> (bool, String) {
    let mut buffer = [0; 100];
    let mut told = String::new();
    let give_up = Instant::now() + PATIENCE / 3;
    loop {
        match lives.read(&mut buffer) {
            Ok(0) => return (true, told),
            Ok(length) => told.push_str(&String::from_utf8_lossy(&buffer[..length])),
            Err(_) if Instant::now() > give_up => return (false, told),
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// Whether the same script leaves a process behind where nothing confines it; that one is killed.
fn outlives_unconfined(scene: &Scene, lives: &mut fs::File) -> bool {
    let script = format!("{PRELUDE}{OUTLIVE}");
    let mut child = Command::new("/usr/bin/perl");
    child.args(["-e", &script]).envs(scene.environment()).stdout(Stdio::null());
    let ended = child.status().is_ok_and(|status| status.success());
    let mut buffer = [0; 100];
    let told = lives.read(&mut buffer).unwrap_or(0);
    let pid = String::from_utf8_lossy(&buffer[..told]).trim().parse().map(Pid::from_raw);
    // Nothing to read, and not at its end: somebody has it open.
    let alive = lives.read(&mut buffer).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    let killed = pid.is_ok_and(|pid| pid.as_raw() > 1 && kill(pid, Signal::SIGKILL).is_ok());
    ended && alive && killed && until_gone(lives).0
}
