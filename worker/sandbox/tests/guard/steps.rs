//! Steps that run and end, and those that cannot start.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use flyball_core::score::ExitKind;
use flyball_sandbox::{Containment, Guard, GuardError, SpawnError};

use crate::harness::{Bench, Test, children_of, this_as};

pub(crate) const TESTS: &[Test] = &[
    ("exit_codes", exit_codes),
    ("a_signal_is_told", a_signal_is_told),
    ("the_surroundings_are_clean", the_surroundings_are_clean),
    ("its_input_is_given_and_ends", its_input_is_given_and_ends),
    ("a_timeout_ends_it", a_timeout_ends_it),
    ("a_flood_is_bounded", a_flood_is_bounded),
    ("what_cannot_start", what_cannot_start),
    ("too_large_or_invalid_is_refused", too_large_or_invalid_is_refused),
    ("many_at_a_time", many_at_a_time),
    ("inits_are_used_again", inits_are_used_again),
    ("mounts_of_a_step_end_with_it", mounts_of_a_step_end_with_it),
    ("programs_that_are_no_guard", programs_that_are_no_guard),
    ("the_containment_is_told", the_containment_is_told),
];

fn exit_codes(bench: &Bench) {
    let guard = bench.guard();
    let end = bench.run(&guard, bench.step(&["true"]));
    assert_eq!((end.exit, end.leftovers_killed), (ExitKind::Exited(0), 0));
    let end = bench.run(&guard, bench.shell("echo out; echo err >&2; exit 7"));
    assert_eq!(end.exit, ExitKind::Exited(7));
    assert_eq!((end.output_bytes, end.output_truncated), (8, false));
    assert_eq!(bench.output(), "out\nerr\n");
}

fn a_signal_is_told(bench: &Bench) {
    let end = bench.run(&bench.guard(), bench.shell("kill -SEGV $$"));
    assert_eq!(end.exit, ExitKind::Signaled(11));
    let end = bench.run(&bench.guard(), bench.shell("kill -KILL $$"));
    assert_eq!(end.exit, ExitKind::Signaled(9));
}

fn the_surroundings_are_clean(bench: &Bench) {
    let guard = bench.guard();
    let mut step = bench.step(&["/usr/bin/env"]);
    step.env = vec![("ONLY".into(), "this".into())];
    bench.run(&guard, step);
    assert_eq!(bench.output(), "ONLY=this\n");

    // Nothing open but the three, and the directory that is being listed.
    bench.run(&guard, bench.step(&["ls", "/proc/self/fd"]));
    assert_eq!(bench.output(), "0\n1\n2\n3\n");

    let script = "cat; pwd; sed -nE 's/^(NoNewPrivs|Sig(Blk|Ign)):\\t//p' /proc/self/status";
    bench.run(&guard, bench.shell(script));
    let output = bench.output();
    let [cwd, blocked, ignored, no_new_privs] = output.lines().collect::<Vec<_>>()[..] else {
        panic!("{output}");
    };
    assert_eq!(cwd, bench.path().canonicalize().unwrap().to_str().unwrap());
    // But for 32 and 33, which belong to the C library.
    let own = 0b11 << 31;
    assert_eq!(u64::from_str_radix(blocked, 16).unwrap() & !own, 0);
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !own, 0);
    assert_eq!(no_new_privs, "1");

    // Priority and protection are the guard's own, and what protects the worker is not for steps either.
    bench.run(&guard, bench.shell("nice; cat /proc/self/oom_score_adj"));
    let ours = std::process::Command::new("nice").output().unwrap();
    let nice = String::from_utf8(ours.stdout).unwrap();
    let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let score = score.trim().parse::<i32>().unwrap().max(0);
    assert_eq!(bench.output(), format!("{nice}{score}\n"));
}

fn its_input_is_given_and_ends(bench: &Bench) {
    let guard = bench.guard();
    // More than a pipe holds, so nobody may have to wait for a reader.
    let text = "word\n".repeat(100_000);
    let mut step = bench.shell("wc -c; head -c 1; if echo more > /proc/$$/fd/0; then exit 9; fi");
    step.stdin = Some(text.into_bytes());
    let end = bench.run(&guard, step);
    // It has been read to its end, and what is in it cannot be changed.
    assert_eq!(end.exit, ExitKind::Exited(0), "{}", bench.output());
    assert!(bench.output().starts_with("500000\n"), "{}", bench.output());

    let end = bench.run(&guard, bench.shell("readlink /proc/self/fd/0; wc -c"));
    assert_eq!((end.exit, bench.output().as_str()), (ExitKind::Exited(0), "/dev/null\n0\n"));

    let mut step = bench.step(&["true"]);
    step.stdin = Some(vec![0; flyball_sandbox::STDIN_BYTES_MAX + 1]);
    assert!(matches!(guard.spawn(step), Err(SpawnError::Invalid(_))));
}

fn a_timeout_ends_it(bench: &Bench) {
    let mut lives = bench.lives();
    let mut step = bench.shell("exec 9>lives; echo up >&9; sleep 1000 & sleep 1000");
    step.timeout = Duration::from_millis(300);
    let end = bench.run(&bench.guard(), step);
    assert_eq!(end.exit, ExitKind::TimedOut);
    assert!(end.wall >= Duration::from_millis(300));
    assert!(!lives.any());
}

fn a_flood_is_bounded(bench: &Bench) {
    let guard = bench.guard();
    let mut step = bench.shell("head -c 5000000 /dev/zero; echo end >&2; exit 5");
    step.output_bytes_max = 1000;
    let end = bench.run(&guard, step);
    assert_eq!(end.exit, ExitKind::Exited(5));
    assert_eq!((end.output_bytes, end.output_truncated), (1000, true));
    assert_eq!(bench.output().len(), 1000);

    let mut step = bench.step(&["yes"]);
    step.timeout = Duration::from_millis(200);
    let end = bench.run(&guard, step);
    assert_eq!((end.exit, end.output_bytes), (ExitKind::TimedOut, 100_000));
}

fn what_cannot_start(bench: &Bench) {
    let guard = bench.guard();
    let why = |step| match bench.run(&guard, step).exit {
        ExitKind::CouldNotStart(why) => why,
        other => panic!("{other:?}"),
    };
    let missing = why(bench.step(&["/no/such/program"]));
    assert_eq!(missing, "/no/such/program: No such file or directory (os error 2)");
    assert!(why(bench.step(&["no-such-program"])).contains("No such file"));
    assert!(why(bench.step(&["/tmp"])).contains("Permission denied"));

    let script = bench.file("script");
    std::fs::write(&script, "#!/no/such/shell\n").unwrap();
    assert!(why(bench.step(&["./script"])).contains("Permission denied"));
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(why(bench.step(&["./script"])).contains("interpreter"));
    std::fs::write(&script, "no program\n").unwrap();
    assert!(why(bench.step(&["./script"])).contains("Exec format error"));

    let mut step = bench.step(&["true"]);
    step.cwd = bench.file("gone");
    let text = why(step);
    assert!(text.contains("gone") && text.contains("No such file"), "{text}");
    // The guard is none the worse for it.
    assert_eq!(bench.run(&guard, bench.step(&["true"])).exit, ExitKind::Exited(0));
}

fn too_large_or_invalid_is_refused(bench: &Bench) {
    let guard = bench.guard();
    let huge = "x".repeat(1_000_000);
    let refused = guard.spawn(bench.step(&["echo", &huge])).err();
    assert!(
        matches!(refused, Some(SpawnError::TooLarge { bytes: 1_000_000.., .. })),
        "{refused:?}"
    );
    // Small enough as text, too large as a frame.
    let refused = guard.spawn(bench.step(&["echo", &"\u{1}".repeat(100_000)])).err();
    assert!(matches!(refused, Some(SpawnError::TooLarge { .. })), "{refused:?}");
    // As large as goes: a single argument may have 128 KiB.
    let end = bench.run(&guard, bench.step(&["echo", &"x".repeat(100_000)]));
    assert_eq!(end.exit, ExitKind::Exited(0));

    assert!(matches!(guard.spawn(bench.step(&[])), Err(SpawnError::Invalid(_))));
    assert!(matches!(guard.spawn(bench.step(&["a\0b"])), Err(SpawnError::Invalid(_))));
    let mut step = bench.step(&["true"]);
    step.cwd = "relative".into();
    assert!(matches!(guard.spawn(step), Err(SpawnError::Invalid(_))));
    let mut step = bench.step(&["true"]);
    step.output = bench.file("no/such/dir/out");
    assert!(matches!(guard.spawn(step), Err(SpawnError::Output { .. })));
}

fn many_at_a_time(bench: &Bench) {
    let guard = bench.guard();
    let handles: Vec<_> = (0..60)
        .map(|number| {
            let mut step = bench.shell(&format!("exit {number}"));
            step.output = bench.file(&format!("out{number}"));
            guard.spawn(step).unwrap()
        })
        .collect();
    for (number, mut handle) in handles.into_iter().enumerate() {
        let end = bench.wait(handle.wait());
        assert_eq!(end.exit, ExitKind::Exited(i32::try_from(number).unwrap()));
    }
}

fn inits_are_used_again(bench: &Bench) {
    let guard = bench.guard();
    bench.run(&guard, bench.step(&["true"]));
    let before = children_of(guard.pid());
    for _ in 0..10 {
        bench.run(&guard, bench.step(&["true"]));
    }
    assert_eq!(children_of(guard.pid()), before);
    // And replaced at some time.
    for _ in 0..500 {
        bench.run(&guard, bench.step(&["true"]));
    }
    let after = children_of(guard.pid());
    assert_ne!(after, before);
    assert!(after.len() <= 3, "{after:?}");
}

fn mounts_of_a_step_end_with_it(bench: &Bench) {
    let guard = bench.guard();
    if guard.abilities().containment != Containment::PidNamespace {
        return;
    }
    let script = "mkdir -p on && mount -t tmpfs none on && touch on/trace && ls on";
    bench.run(&guard, bench.shell(script));
    assert_eq!(bench.output(), "trace\n");
    for _ in 0..3 {
        bench.run(&guard, bench.step(&["ls", "on"]));
        assert_eq!(bench.output(), "");
    }
}

fn programs_that_are_no_guard(bench: &Bench) {
    let mut config = bench.config();
    config.command = vec!["/no/such/flyball".into(), "guard".into()];
    let error = bench.wait(Guard::start(config.clone())).err();
    assert!(matches!(error, Some(GuardError::Start { .. })), "{error:?}");
    config.command = vec!["/bin/true".into()];
    let error = bench.wait(Guard::start(config.clone())).err();
    assert!(matches!(error, Some(GuardError::NotReady(_))), "{error:?}");
    // The lock is free again.
    config.command = this_as("guard");
    bench.wait(Guard::start(config)).unwrap();
}

fn the_containment_is_told(bench: &Bench) {
    let guard = bench.guard();
    let abilities = guard.abilities();
    if !bench.isolation.pid_namespace {
        assert_eq!(abilities.containment, Containment::Subreaper);
    }
    let own = abilities.containment.is_pid_namespace();
    bench
        .run(&guard, bench.shell("test -r /proc/1/stat && cut -d' ' -f4 /proc/self/stat; echo $$"));
    let number: u32 = bench.output().lines().last().unwrap().parse().unwrap();
    assert_eq!(number < 10, own, "{abilities:?}: process {number}");
}
