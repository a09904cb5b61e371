//! Scores of real outputs, of tables and of arbitrary text.

use proptest::prelude::*;

use super::*;
use crate::quantity::Span;
use crate::spec::{Command, RegexScore};

fn check(score: Option<Score>) -> CheckSpec {
    CheckSpec {
        name: "unit".to_owned(),
        run: Command::Shell("cargo test".to_owned()),
        timeout: Span::from_secs(300),
        score,
        allow_removed: false,
    }
}

fn libtest() -> CheckSpec {
    check(Some(Score::Libtest {}))
}

fn regex(pass: &str, fail: &str) -> CheckSpec {
    check(Some(Score::Regex(RegexScore { pass: pass.to_owned(), fail: fail.to_owned() })))
}

const OK: ExitKind = ExitKind::Exited(0);
const BAD: ExitKind = ExitKind::Exited(101);

fn evaluate(
    check: &CheckSpec,
    exit: &ExitKind,
    output: &str,
    memory: &mut CaseMemory,
) -> CheckResult {
    Judge::new(check.clone()).evaluate(exit, output, memory)
}

fn once(check: &CheckSpec, exit: &ExitKind, output: &str) -> CheckResult {
    evaluate(check, exit, output, &mut CaseMemory::default())
}

/// `passed/failed/vanished distance failing…`
fn show(result: &CheckResult) -> String {
    let count = result.cases.unwrap_or_default();
    let CaseCount { passed, failed, vanished } = count;
    let failing = result.failing_cases.join(", ");
    format!("{passed}/{failed}/{vanished} {} {failing}", result.distance).trim_end().to_owned()
}

#[test]
fn without_a_score_the_exit_decides() {
    let table = [
        (OK, true, "exit 0"),
        (BAD, false, "exit 101"),
        (ExitKind::Signaled(9), false, "signal 9"),
        (ExitKind::TimedOut, false, "timeout after 5m"),
        (ExitKind::Killed, false, "killed"),
        (ExitKind::GuardLost, false, "guard lost"),
        (ExitKind::CouldNotStart("no such file".into()), false, "could not start: no such file"),
    ];
    for (exit, passed, text) in table {
        let result = once(&check(None), &exit, "test a ... FAILED");
        assert_eq!((result.passed, result.exit.as_str()), (passed, text));
        assert_eq!(result.distance, if passed { Distance::ZERO } else { Distance::ONE });
        assert_eq!(could_not_start(&result), matches!(exit, ExitKind::CouldNotStart(_)));
        assert_eq!(result.cases, None);
        let again: ExitKind = serde_json::from_value(serde_json::to_value(&exit).unwrap()).unwrap();
        assert_eq!(again, exit);
    }
}

#[test]
fn a_real_run_of_cargo_test() {
    let result = once(&libtest(), &BAD, include_str!("fixtures/plain.txt"));
    assert_eq!(
        result.failing_cases,
        ["calc doc-tests: src/lib.rs - add #2", "calc src/lib.rs: tests::bad"]
    );
    assert_eq!(show(&result).split(' ').next(), Some("7/2/0"));
    assert_eq!(result.distance, Distance::share(2, 9));
}

#[test]
fn a_real_run_with_colours_and_uncaptured_output() {
    let result = once(&libtest(), &BAD, include_str!("fixtures/colours_uncaptured.txt"));
    // The line of tests::bad is "partialFAILED": counted by the summary, without its name.
    assert_eq!(result.failing_cases, ["calc doc-tests: src/lib.rs - add #2"]);
    assert_eq!(result.cases, Some(CaseCount { passed: 7, failed: 2, vanished: 0 }));

    // And it is not taken for a case that is gone, nor are the others.
    let mut memory = CaseMemory::default();
    evaluate(&libtest(), &BAD, include_str!("fixtures/plain.txt"), &mut memory);
    let output = include_str!("fixtures/colours_uncaptured.txt");
    let result = evaluate(&libtest(), &BAD, output, &mut memory);
    assert_eq!(result.cases, Some(CaseCount { passed: 7, failed: 2, vanished: 0 }));
}

#[test]
fn libtest_outputs() {
    let two_binaries = "
     Running unittests src/lib.rs (target/debug/deps/calc-0123456789abcdef)
running 1 test
test tests::good ... FAILED
test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out
     Running unittests src/lib.rs (/abs/target/debug/deps/other-fedcba9876543210)
running 1 test
test tests::good ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
    let table = [
        ("", OK, "0/0/0 0.00"),
        ("", BAD, "0/1/0 1.00"),
        ("error: could not compile `calc`", BAD, "0/1/0 1.00"),
        ("test a ... ok", OK, "1/0/0 0.00"),
        ("test a ... ok\r\ntest b ... FAILED\r\n", BAD, "1/1/0 0.50 b"),
        // Exits with 0 although a case fails, and the other way round.
        ("test a ... ok\ntest b ... FAILED", OK, "1/1/0 0.50 b"),
        ("test a ... ok\ntest b ... ok\ntest c ... ok", BAD, "3/1/0 0.25"),
        ("test a ... ok\ntest b ... ok\ntest c ... ok", ExitKind::TimedOut, "3/1/0 0.25"),
        // Both: failed. Ignored: no case.
        ("test a ... ok\ntest a ... FAILED\ntest a ... ok", BAD, "0/1/0 1.00 a"),
        ("test a ... ignored\ntest b ... ignored, slow\ntest c ... ok", OK, "1/0/0 0.00"),
        ("test a ... ok <0.003s>\ntest b ... bench:   12 ns/iter (+/- 3)", OK, "2/0/0 0.00"),
        ("test a - should panic ... FAILED", BAD, "0/1/0 1.00 a"),
        // What tests print in between.
        ("test a ... hello\nok\ntest b ... \nworld\nFAILED\nok", BAD, "1/1/0 0.50 b"),
        ("testing\ntest drive\ntest it ... maybe later\ntest a ... ok", OK, "1/0/0 0.00"),
        ("test a ... ok then\n", OK, "0/0/0 0.00"),
        (
            "running 2 tests\nxtest a ... ok\ntest b ... ok\ntest result: ok. 2 passed; 0 failed;",
            OK,
            "2/0/0 0.00",
        ),
        ("test result: FAILED. 1 passed; 2 failed; 0 ignored", BAD, "1/2/0 0.67"),
        ("test result: nonsense\ntest result: ok. x passed; -1 failed", OK, "0/0/0 0.00"),
        // Equal names of several binaries, with and without cargo's headers.
        (two_binaries, BAD, "1/1/0 0.50 calc src/lib.rs: tests::good"),
        (
            "running 1 test\ntest a ... ok\n\nrunning 1 test\ntest a ... FAILED",
            BAD,
            "1/1/0 0.50 binary 2: a",
        ),
    ];
    for (output, exit, expected) in table {
        assert_eq!(show(&once(&libtest(), &exit, output)), expected, "{output}");
    }
}

#[test]
fn names_do_not_depend_on_the_directory_or_on_lines_above() {
    let output = |dir: &str, line: u32| {
        format!(
            "     Running `{dir}/target/debug/deps/calc-{line:016x} --quiet`
running 1 test
test a ... ok
   Doc-tests calc
running 2 tests
test src/lib.rs - add (line {}) ... ok
test src/lib.rs - add (line {line}) ... FAILED
",
            line + 90
        )
    };
    let mut memory = CaseMemory::default();
    let first = evaluate(&libtest(), &BAD, &output("/a", 9), &mut memory);
    let second = evaluate(&libtest(), &BAD, &output("/b/c", 19), &mut memory);
    assert_eq!(first, second);
    assert_eq!(show(&first), "2/1/0 0.33 calc doc-tests: src/lib.rs - add");
}

#[test]
fn a_case_that_vanishes_fails_until_it_is_back() {
    let script = [
        ("test a ... ok\ntest b ... FAILED\ntest c ... ok", BAD, "2/1/0 0.33 b"),
        // The failing test deleted, ignored, or the build broken.
        ("test a ... ok\ntest c ... ok", OK, "2/1/1 0.33 b (vanished)"),
        ("test a ... ok\ntest b ... ignored\ntest c ... ok", OK, "2/1/1 0.33 b (vanished)"),
        ("", OK, "0/3/3 1.00 a (vanished), b (vanished), c (vanished)"),
        ("error", BAD, "0/3/3 1.00 a (vanished), b (vanished), c (vanished)"),
        // A rename is a removal; what is new does not dilute.
        ("test a ... ok\ntest b2 ... ok\ntest c ... ok", OK, "3/1/1 0.33 b (vanished)"),
        ("test a ... ok\ntest b ... ok\ntest b2 ... ok\ntest c ... ok", OK, "4/0/0 0.00"),
    ];
    let mut memory = CaseMemory::default();
    for (output, exit, expected) in script {
        let result = evaluate(&libtest(), &exit, output, &mut memory);
        assert_eq!(show(&result), expected, "{output}");
        assert_eq!(result.passed, result.distance.is_zero());
    }
    assert_eq!(memory.cases_seen("unit"), 4);

    let mut lenient = libtest();
    lenient.allow_removed = true;
    let result = evaluate(&lenient, &OK, "test a ... ok", &mut memory);
    assert_eq!((show(&result).as_str(), result.passed), ("1/0/3 0.00", true));
}

#[test]
fn adding_tests_is_no_improvement_by_itself() {
    let mut memory = CaseMemory::default();
    let before = evaluate(&libtest(), &BAD, "test a ... ok\ntest b ... FAILED", &mut memory);
    let padded = "test a ... ok\ntest b ... FAILED\ntest c ... ok\ntest d ... ok";
    let after = evaluate(&libtest(), &BAD, padded, &mut memory.clone());
    assert_eq!(before.distance, after.distance);
    let worse = "test a ... ok\ntest b ... FAILED\ntest c ... FAILED";
    let after = evaluate(&libtest(), &BAD, worse, &mut memory.clone());
    assert!(after.distance > before.distance);
}

#[test]
fn the_memory_survives_as_json_without_names() {
    let mut memory = CaseMemory::default();
    evaluate(&libtest(), &OK, "test a ... ok\ntest b ... ok", &mut memory);
    let json = serde_json::to_value(&memory).unwrap();
    assert_eq!(json["unit"]["cases"].as_str().unwrap().len(), 32);
    let mut restored: CaseMemory = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&restored).unwrap(), json);
    let result = evaluate(&libtest(), &OK, "test a ... ok", &mut restored);
    assert_eq!(show(&result), "1/1/1 0.50 1 case seen before (vanished)");

    restored.retain_checks(|name| name != "unit");
    assert_eq!(restored, CaseMemory::default());
    for broken in ["xyz", "00000000000000zz", "0000000000000000ä"] {
        let value = serde_json::json!({ "unit": { "cases": broken, "nameless": 0 } });
        assert!(serde_json::from_value::<CaseMemory>(value).is_err(), "{broken}");
    }
}

#[test]
fn the_memory_and_the_lists_are_bounded() {
    let output: String = (0..CASES_MAX + 500).map(|n| format!("test t{n} ... FAILED\n")).collect();
    let mut memory = CaseMemory::default();
    let result = evaluate(&libtest(), &BAD, &output, &mut memory);
    let all = CASES_MAX as u64 + 500;
    assert_eq!(result.cases, Some(CaseCount { passed: 0, failed: all, vanished: 0 }));
    assert_eq!(result.failing_cases.len(), FAILING_CASES_MAX);
    assert_eq!(memory.cases_seen("unit"), all);
    let again = evaluate(&libtest(), &BAD, &output, &mut memory);
    assert_eq!(again.cases, result.cases);

    let long = |end: &str| format!("test {}{end} ... FAILED\n", "x".repeat(5000));
    let result = once(&libtest(), &BAD, &(long("a") + &long("b")));
    assert_eq!(result.failing_cases.len(), 2, "long names stay apart");
    assert!(result.failing_cases.iter().all(|name| name.len() <= CASE_NAME_BYTES_MAX));
}

#[test]
fn regular_expressions() {
    let named = regex(r"^PASS (?<name>\S+)", r"^(FAIL|ERROR) (?<name>\S+)");
    let counted = regex("^ok", "^not ok");
    let table = [
        (&named, "PASS a\nFAIL b\nnoise\nERROR c", BAD, "1/2/0 0.67 b, c"),
        (&named, "PASS a\nPASS a\nFAIL a", OK, "0/1/0 1.00 a"),
        (&named, "", OK, "0/0/0 0.00"),
        (&counted, "ok 1\nnot ok 2\nok 3\nok 4", BAD, "3/1/0 0.25"),
        (&counted, "ok 1\nok 2", OK, "2/0/0 0.00"),
    ];
    for (check, output, exit, expected) in table {
        assert_eq!(show(&once(check, &exit, output)), expected, "{output}");
    }
    // Both match: failed.
    assert_eq!(show(&once(&regex("a", "a"), &OK, "a")), "0/1/0 1.00");

    // Cases without names vanish by number.
    let mut memory = CaseMemory::default();
    evaluate(&counted, &OK, "ok\nok\nok\nok", &mut memory);
    let result = evaluate(&counted, &OK, "ok\nok\nok", &mut memory);
    assert_eq!(show(&result), "3/1/1 0.25 1 case seen before (vanished)");
}

#[test]
fn an_invalid_expression_is_named_and_never_passes() {
    let score = RegexScore { pass: "ok".to_owned(), fail: "(oops".to_owned() };
    let error = compile(&score).unwrap_err();
    assert_eq!(error.to_string(), "the expression `fail` of the score is invalid: unclosed group");
    let result = once(&check(Some(Score::Regex(score))), &OK, "ok");
    assert_eq!((result.passed, result.distance), (false, Distance::ONE));
    assert!(result.exit.contains("unclosed group"), "{}", result.exit);

    let huge = RegexScore { pass: r"\w{1000}{1000}".to_owned(), fail: String::new() };
    assert_eq!(compile(&huge).unwrap_err().field, "pass");
}

#[test]
fn the_names_of_failing_checks() {
    let check = |name: &str, passed: bool| CheckResult {
        name: name.to_owned(),
        passed,
        ..CheckResult::default()
    };
    assert_eq!(failing(&[check("a", true), check("b", false), check("c", false)]), ["b", "c"]);
}

#[test]
fn an_end_is_conclusive_if_the_command_brought_it_about() {
    for exit in
        [ExitKind::Exited(0), ExitKind::Exited(3), ExitKind::Signaled(9), ExitKind::TimedOut]
    {
        assert!(exit.is_conclusive(), "{exit}");
    }
    let why = || "why".to_owned();
    for exit in [
        ExitKind::Killed,
        ExitKind::GuardLost,
        ExitKind::CouldNotStart(why()),
        ExitKind::NoRoom(why()),
    ] {
        assert!(!exit.is_conclusive(), "{exit}");
    }
}

#[test]
fn distances_add_up() {
    let results = [once(&check(None), &BAD, ""), once(&libtest(), &OK, "test a ... ok")];
    assert_eq!(distance(&results), Distance::ONE);
    assert_eq!(failing(&results), ["unit"]);
    assert_eq!(plain_case("a (vanished)"), "a");
}

/// Text made of the very pieces that the reader looks for.
fn any_output() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("test ".to_owned()),
        Just(" ... ".to_owned()),
        Just("ok".to_owned()),
        Just("FAILED".to_owned()),
        Just("ignored,".to_owned()),
        Just("test result: ok. ".to_owned()),
        Just(" passed; ".to_owned()),
        Just(" failed;".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("running 3 tests".to_owned()),
        Just("Running `target/deps/".to_owned()),
        Just("Running x (a/deps/".to_owned()),
        Just("Doc-tests ".to_owned()),
        Just(" - f (line 3)".to_owned()),
        Just("\u{1b}[3".to_owned()),
        Just("\u{1b}(".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_output_has_a_score_within_bounds(
        outputs in prop::collection::vec((any_output(), any::<bool>()), 1..4),
    ) {
        for check in [libtest(), regex("(?<name>ok|test.)", "FAIL")] {
            let mut memory = CaseMemory::default();
            for (output, success) in &outputs {
                let exit = if *success { OK } else { BAD };
                let result = evaluate(&check, &exit, output, &mut memory);
                prop_assert!(result.distance <= Distance::ONE);
                prop_assert_eq!(result.passed, result.distance.is_zero());
                prop_assert!(*success || !result.passed, "a failed process never passes");
                prop_assert!(result.failing_cases.is_sorted());
                let json = serde_json::to_string(&memory).unwrap();
                let restored: CaseMemory = serde_json::from_str(&json).unwrap();
                prop_assert_eq!(restored.cases_seen("unit"), memory.cases_seen("unit"));
            }
        }
    }

    /// Deleting any passed or failed cases never makes a check better.
    #[test]
    fn removing_cases_never_helps(
        verdicts in prop::collection::vec((any::<bool>(), any::<bool>()), 1..20),
    ) {
        let line = |n: usize, passed: bool| {
            format!("test t{n} ... {}\n", if passed { "ok" } else { "FAILED" })
        };
        let all: String =
            verdicts.iter().enumerate().map(|(n, (passed, _))| line(n, *passed)).collect();
        let kept = verdicts.iter().enumerate().filter(|(_, (_, kept))| *kept);
        let some: String = kept.map(|(n, (passed, _))| line(n, *passed)).collect();
        let mut memory = CaseMemory::default();
        let before = evaluate(&libtest(), &OK, &all, &mut memory);
        let after = evaluate(&libtest(), &OK, &some, &mut memory);
        prop_assert!(after.distance >= before.distance);
    }
}
