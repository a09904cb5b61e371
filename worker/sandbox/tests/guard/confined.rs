//! Steps that are confined: what they find, what they can change, what they may take.

use std::io::{Read, Write};
use std::time::Duration;

use flyball_core::isolation::Layer;
use flyball_core::score::ExitKind;
use flyball_sandbox::{Confinement, Guard, Overlay, Step, Who, Writable};

use crate::harness::{Bench, Test, children_of};

pub(crate) const TESTS: &[Test] = &[
    ("a_confined_step_runs", a_confined_step_runs),
    ("a_confined_step_has_its_input", a_confined_step_has_its_input),
    ("no_step_has_privileges", no_step_has_privileges),
    ("it_writes_where_it_may", it_writes_where_it_may),
    ("agent_and_check_are_not_the_same", agent_and_check_are_not_the_same),
    ("its_network_is_its_own", its_network_is_its_own),
    ("a_cache_is_seen_and_not_changed", a_cache_is_seen_and_not_changed),
    ("limits_end_it", limits_end_it),
    ("what_cannot_be_confined_does_not_run", what_cannot_be_confined_does_not_run),
    ("a_secrets_file_is_the_steps_alone", a_secrets_file_is_the_steps_alone),
];

/// The whole of the layers; with less, what is missing must be said.
fn has_all(guard: &Guard) -> bool {
    guard.abilities().missing_layers.is_empty()
}

fn confined(bench: &Bench, script: &str) -> Step {
    let work = bench.path().join("work");
    std::fs::create_dir_all(work.join("own")).unwrap();
    std::fs::create_dir_all(work.join("others")).unwrap();
    std::fs::write(work.join("others/file"), "kept").unwrap();
    let only = Some(vec![work.join("own")]);
    let plan = Confinement {
        write: vec![Writable { path: work.clone(), only }],
        ..Confinement::default()
    };
    Step { cwd: work, confinement: Some(plan), ..bench.shell(script) }
}

fn a_confined_step_runs(bench: &Bench) {
    let guard = bench.guard();
    let missing = &guard.abilities().missing_layers;
    if bench.isolation.pid_namespace {
        assert!(missing.is_empty(), "{missing:?}");
    } else {
        assert!(missing.contains_key(&Layer::Mount) && !missing.contains_key(&Layer::Landlock));
    }
    let script = "id -u; pwd; hostname; ls /; ls /proc/self/fd; \
                  sed -n 's/^Seccomp:.//p; s/^NoNewPrivs:.//p; s/^CapEff:.//p' /proc/self/status";
    let end = bench.run(&guard, confined(bench, script));
    let output = bench.output();
    assert_eq!(end.exit, ExitKind::Exited(0), "{} {output}", end.detail);
    assert!(output.contains("0000000000000000\n1\n2\n") || output.contains("1\n2\n"), "{output}");
    if has_all(&guard) {
        assert!(output.starts_with("1000\n"), "{output}");
        assert!(output.contains("\nflyball\n"), "{output}");
        assert!(!output.contains("\nroot\n") && !output.contains("\nhome\n"), "{output}");
        assert!(output.contains("0000000000000000"), "{output}");
    }
}

/// Also where the user layer is missing: run it under `unshare -Ur` with user.max_user_namespaces set to 0.
fn a_confined_step_has_its_input(bench: &Bench) {
    let guard = bench.guard();
    let mut step = confined(bench, "cat; wc -l < /dev/stdin; id -u > /dev/null");
    step.stdin = Some(b"fix it\n".to_vec());
    let plan = step.confinement.as_mut().unwrap();
    // With all three descriptors.
    plan.listen = if has_all(&guard) { vec![4000] } else { Vec::new() };
    let end = bench.run(&guard, step);
    assert_eq!(end.exit, ExitKind::Exited(0), "{} {}", end.detail, bench.output());
    assert_eq!(bench.output(), "fix it\n1\n");
}

fn no_step_has_privileges(bench: &Bench) {
    let end =
        bench.run(&bench.guard(), confined(bench, "grep -E '^Cap(Eff|Prm|Bnd)' /proc/self/status"));
    let output = bench.output();
    assert_eq!(end.exit, ExitKind::Exited(0), "{end:?} {output}");
    let of = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default().to_owned()
    };
    assert_eq!((of("CapEff:"), of("CapPrm:")), ("0".repeat(16), "0".repeat(16)), "{output}");
}

fn it_writes_where_it_may(bench: &Bench) {
    let guard = bench.guard();
    let script = "echo new > own/file && mkdir own/dir && mv own/file own/dir && echo tmp > /tmp/x; \
                  for f in others/file others/new new /etc/x /usr/x; do \
                  (echo bad > $f) 2>/dev/null && echo wrote $f; done; (echo bad > ../new) 2>/dev/null; cat others/file";
    let end = bench.run(&guard, confined(bench, script));
    let work = bench.path().join("work");
    assert_eq!(end.exit, ExitKind::Exited(0), "{} {}", end.detail, bench.output());
    assert!(!bench.output().contains("wrote"), "{}", bench.output());
    assert!(bench.output().ends_with("kept"), "{}", bench.output());
    assert_eq!(std::fs::read_to_string(work.join("own/dir/file")).unwrap(), "new\n");
    assert!(!bench.path().join("new").exists());
    // What it made is the worker's own, whoever made it.
    let owner = std::os::unix::fs::MetadataExt::uid(&work.join("own/dir/file").metadata().unwrap());
    assert_eq!(owner, nix::unistd::geteuid().as_raw());
}

fn agent_and_check_are_not_the_same(bench: &Bench) {
    if !nix::unistd::geteuid().is_root() || !bench.isolation.pid_namespace {
        return;
    }
    let guard = bench.guard();
    let mut users = Vec::new();
    for who in [Who::Agent, Who::Check] {
        // From within, the user is mapped; who is outside is told by a socket pair's credentials.
        let mut step = confined(bench, "cat /proc/self/uid_map");
        if let Some(plan) = &mut step.confinement {
            plan.who = who;
        }
        bench.run(&guard, step);
        users.push(bench.output());
    }
    assert_ne!(users[0], users[1]);
    assert!(users.iter().all(|map| !map.trim_start().starts_with("0 ")), "{users:?}");
}

fn its_network_is_its_own(bench: &Bench) {
    let guard = bench.guard();
    if !has_all(&guard) {
        return;
    }
    let mut step = confined(
        bench,
        "exec 3<>/dev/tcp/127.0.0.1/8099 && echo ping >&3 && read answer <&3 && echo got $answer; \
         cat /proc/net/dev | grep -c :",
    );
    step.argv = vec!["/bin/bash".into(), "-c".into(), step.argv[2].clone()];
    if let Some(plan) = &mut step.confinement {
        plan.listen = vec![8099];
    }
    let mut handle = guard.spawn(step).unwrap();
    let listeners = handle.take_listeners().unwrap();
    let (port, listener) = listeners.next_blocking().unwrap();
    assert_eq!(port, 8099);
    let (mut stream, _) = listener.accept().unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).unwrap();
    stream.write_all(b"pong\n").unwrap();
    assert_eq!(&word, b"ping\n");
    let end = bench.wait(handle.wait());
    assert_eq!(end.exit, ExitKind::Exited(0), "{}", bench.output());
    assert_eq!(bench.output(), "got pong\n1\n");
    assert!(listeners.next_blocking().is_none());
}

fn a_cache_is_seen_and_not_changed(bench: &Bench) {
    let guard = bench.guard();
    if !has_all(&guard) {
        return;
    }
    let (cache, changes) = (bench.path().join("cache"), bench.path().join("changes"));
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::write(cache.join("tool"), "good").unwrap();
    for dir in ["upper", "work"] {
        std::fs::create_dir_all(changes.join(dir)).unwrap();
    }
    let script = format!(
        "cd {0} && cat tool && echo bad > tool && echo more > new && cat tool new",
        cache.display()
    );
    let mut step = confined(bench, &script);
    if let Some(plan) = &mut step.confinement {
        let (from, at) = (cache.clone(), cache.clone());
        plan.overlays = vec![Overlay { from, at, changes: changes.clone() }];
    }
    let end = bench.run(&guard, step);
    assert_eq!(end.exit, ExitKind::Exited(0), "{} {}", end.detail, bench.output());
    assert_eq!(bench.output(), "goodbad\nmore\n");
    assert_eq!(std::fs::read_to_string(cache.join("tool")).unwrap(), "good");
    assert!(!cache.join("new").exists());
    assert_eq!(std::fs::read_to_string(changes.join("upper/new")).unwrap(), "more\n");
}

fn limits_end_it(bench: &Bench) {
    let guard = bench.guard();
    if !has_all(&guard) {
        return;
    }
    const MIB: u64 = 1024 * 1024;
    let with = |script: &str, set: &dyn Fn(&mut flyball_sandbox::Limits)| {
        let mut step = confined(bench, script);
        step.timeout = Duration::from_secs(60);
        if let Some(plan) = &mut step.confinement {
            set(&mut plan.limits);
        }
        bench.run(&guard, step)
    };
    let hog = "exec 2>/dev/null; a=x; while :; do a=$a$a$a$a; done";
    let end = with(hog, &|limits| limits.memory_bytes = Some(64 * MIB));
    assert!(
        matches!(&end.exit, ExitKind::OverLimit(what) if what.starts_with("memory")),
        "{end:?}"
    );
    let flood = "while :; do dd if=/dev/zero of=own/$((i=i+1)) bs=1M count=8 2>/dev/null; done";
    let end = with(flood, &|limits| limits.disk_bytes = Some(64 * MIB));
    assert!(matches!(&end.exit, ExitKind::OverLimit(what) if what.starts_with("disk")), "{end:?}");
    let _ = std::fs::remove_dir_all(bench.path().join("work"));
    let bomb = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 0.3 & done; wait; echo made";
    let end = with(bomb, &|limits| limits.processes = Some(8));
    assert_ne!(end.exit, ExitKind::Exited(0), "{}", bench.output());
    let end = with(bomb, &|limits| limits.processes = Some(50));
    assert_eq!(end.exit, ExitKind::Exited(0), "{}", bench.output());
    let end = with("ulimit -n; ulimit -c; df -k /tmp | tail -1", &|limits| {
        limits.files = Some(77);
        limits.temp_bytes = Some(3 * MIB);
    });
    assert_eq!(end.exit, ExitKind::Exited(0));
    let output = bench.output();
    assert!(output.starts_with("77\n0\n") && output.contains(" 3072 "), "{output}");
}

fn what_cannot_be_confined_does_not_run(bench: &Bench) {
    let guard = bench.guard();
    if !has_all(&guard) {
        return;
    }
    let mut step = confined(bench, "echo ran");
    if let Some(plan) = &mut step.confinement {
        plan.write.push(Writable::all(bench.path().join("missing")));
    }
    let end = bench.run(&guard, step);
    let told = |why: &str| why.contains("mount: ") && why.contains("missing");
    assert!(matches!(&end.exit, ExitKind::NoRoom(why) if told(why)), "{end:?}");
    assert_eq!(bench.output(), "");
    let missing = Step { argv: vec!["no-such-program".into()], ..confined(bench, "") };
    let end = bench.run(&guard, missing);
    assert!(matches!(end.exit, ExitKind::CouldNotStart(_)), "{end:?}");
}

/// How many of the guard, its inits and what they have started have a mount of secrets in their file tree.
fn trees_with_secrets(guard: &Guard) -> usize {
    let mut family = vec![i32::try_from(guard.pid()).unwrap()];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(children_of(parent.unsigned_abs()));
        next += 1;
    }
    let mounts = family.iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/mountinfo")));
    mounts.filter(|text| text.as_ref().is_ok_and(|text| text.contains(" tmpfs secrets "))).count()
}

fn a_secrets_file_is_the_steps_alone(bench: &Bench) {
    let guard = bench.guard();
    let secrets = vec![
        ("token".to_owned(), "hunter2-hunter2".to_owned()),
        ("key".to_owned(), "first line\nsecond line".to_owned()),
        ("other".to_owned(), "not for this step".to_owned()),
    ];
    let script = "cd /run/secrets && ls && stat -c '%n %a %u' . token && wc -c < token && wc -l < key; cat token; \
                  for f in token new; do (echo bad > $f) 2>/dev/null && echo wrote $f; done; \
                  chmod 600 token 2>/dev/null && echo changed; echo up > ../../tmp/up; \
                  echo up > \"$LIVES\"; read -r go < \"$GO\"; true";
    let mut step = confined(bench, script);
    let mut lives = bench.lives();
    let go = bench.file("go");
    nix::unistd::mkfifo(&go, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (name, file) in [("LIVES", "lives"), ("GO", "go")] {
        step.env.push((name.into(), bench.file(file).to_string_lossy().into_owned()));
    }
    if let Some(plan) = &mut step.confinement {
        plan.secret_files = vec!["token".to_owned(), "key".to_owned()];
        plan.write.push(Writable::all(bench.path()));
    }
    let mut handle = guard.spawn_redacting(step, secrets.clone()).unwrap();
    if guard.abilities().missing_layers.contains_key(&Layer::Mount) {
        let end = bench.wait(handle.wait());
        let told = |why: &str| why.contains("file tree of the step's own");
        assert!(matches!(&end.exit, ExitKind::NoRoom(why) if told(why)), "{end:?}");
        return;
    }
    lives.wait_for("up");
    // Another step beside it, and this process, see nothing of them.
    let beside = Step { output: bench.file("beside"), ..confined(bench, "ls /run/secrets") };
    let mut beside = guard.spawn_redacting(beside, secrets).unwrap();
    assert_ne!(bench.wait(beside.wait()).exit, ExitKind::Exited(0));
    assert!(trees_with_secrets(&guard) > 0);
    assert!(!std::path::Path::new("/run/secrets/token").exists());
    std::fs::write(&go, "go\n").unwrap();
    let end = bench.wait(handle.wait());
    assert_eq!(end.exit, ExitKind::Exited(0), "{} {}", end.detail, bench.output());
    let wanted = "key\ntoken\n. 500 1000\ntoken 400 1000\n15\n2\n[redacted:token]";
    assert_eq!(bench.output(), wanted);
    assert_eq!(trees_with_secrets(&guard), 0);
}
