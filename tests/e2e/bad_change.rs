//! Changes that are not accepted: out of bounds, pinned, fewer tests, hollow successes.

use flyball_core::record::Decision;
use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::Repo;
use serde_json::json;

use crate::support::{ended, healthy, list, manifest, spec, url};

#[test]
fn changes_out_of_bounds_refuse_the_whole_iteration() {
    let cluster = Cluster::start(Options::default());
    let repo = Repo::with(&[("src/a.txt", "a\n"), ("tests/t.txt", "t\n"), ("docs/d.txt", "d\n")]);
    // Wrong at first; once its brief says so, it does only what is allowed.
    let agent = |wrong: &str, right: &str| {
        json!(format!(
            "if grep -q 'outside of what\\|is pinned' \"$FLYBALL_BRIEF\"; then {right}; \
             else {right}; {wrong}; fi"
        ))
    };
    let mut outside = spec(
        &url(&repo),
        // What is not in the directory of anything it owns cannot be written to at all.
        agent(
            "echo x >> src/a.txt",
            "(echo x >> docs/d.txt || echo x > new.txt) 2>/dev/null && exit 9; echo b > src/b.txt",
        ),
        json!("test -f src/b.txt"),
    );
    outside["owns"] = json!(["src/b.txt"]);
    cluster.apply(&manifest("outside", &outside));
    let mut pinned = spec(
        &url(&repo),
        agent("echo x > tests/t.txt; rm -f tests/new.txt", "echo c > tests/c.txt"),
        json!("test -f tests/c.txt"),
    );
    pinned["owns"] = json!(["tests/**"]);
    pinned["pins"] = json!(["tests/t.txt"]);
    cluster.apply(&manifest("pinned", &pinned));

    let status = ended(&cluster, "outside", Phase::Converged, Reason::None);
    let decisions: Vec<_> = status.progress.recent.iter().map(|one| one.decision).collect();
    assert_eq!(decisions, [Decision::Refused, Decision::Kept], "{:#?}", status.progress.recent);
    let why = &status.progress.recent[0].reason;
    assert!(why.contains("src/a.txt"), "{why}");
    let files = repo.git(&["ls-tree", "-r", "--name-only", "flyball/outside"]);
    assert_eq!(files, "docs/d.txt\nsrc/a.txt\nsrc/b.txt\ntests/t.txt\n");
    assert_eq!(repo.file("flyball/outside", "docs/d.txt"), "d\n");

    let status = ended(&cluster, "pinned", Phase::Converged, Reason::None);
    assert_eq!(status.progress.recent[0].decision, Decision::Refused);
    let why = &status.progress.recent[0].reason;
    assert!(why.contains("tests/t.txt is pinned"), "{why}");
    assert_eq!(repo.file("flyball/pinned", "tests/t.txt"), "t\n");
    healthy(&cluster, "healthy");
}

#[test]
fn deleted_tests_and_a_deleted_git_directory_gain_nothing() {
    let cluster = Cluster::start(Options::default());
    let repo = Repo::with(&[
        ("cases/one", "pass\n"),
        ("cases/two", "fail\n"),
        (
            "run.sh",
            "cd cases; echo; echo 'running tests'; for f in *; do case $(cat $f) in \
            pass) echo \"test $f ... ok\";; *) echo \"test $f ... FAILED\";; esac; done; \
            ! grep -q fail *\n",
        ),
    ]);
    let mut deletes = spec(&url(&repo), json!("rm cases/two"), json!("sh run.sh"));
    deletes["checks"][0]["score"] = json!({"libtest": {}});
    cluster.apply(&manifest("deletes-tests", &deletes));
    let other = list(&["a"]);
    let rm = "rm -rf .git; echo done > result.txt";
    cluster.apply(&manifest(
        "deletes-git",
        &spec(&url(&other), json!(rm), json!("test -f result.txt")),
    ));
    let (planted, trap) = (list(&["a"]), cluster.dir().join("sprung"));
    let plant = format!(
        "rm -rf .git; mkdir .git; printf '[core]\\n\\tfsmonitor = touch {}\\n' > .git/config; \
         ln -s / .git/objects; echo done > second.txt",
        trap.display()
    );
    let plants = spec(&url(&planted), json!(plant), json!("test -f second.txt"));
    cluster.apply(&manifest("plants-git", &plants));

    let status = ended(&cluster, "deletes-tests", Phase::Unreachable, Reason::NoProgress);
    assert_eq!(status.progress.accepted, 0, "{:#?}", status.progress.recent);
    let told = format!("{:?}{:?}", status.evidence, status.progress.recent);
    assert!(told.contains("two"), "{told}");
    assert!(!repo.has("flyball/deletes-tests"));
    ended(&cluster, "deletes-git", Phase::Converged, Reason::None);
    assert_eq!(other.file("flyball/deletes-git", "result.txt"), "done\n");
    ended(&cluster, "plants-git", Phase::Converged, Reason::None);
    assert_eq!(planted.file("flyball/plants-git", "second.txt"), "done\n");
    assert!(!trap.exists(), "the worker ran what the agent had planted");
    healthy(&cluster, "healthy");
}

#[test]
fn what_passes_only_beside_leftovers_does_not_converge() {
    let cluster = Cluster::start(Options::default());
    let repo = Repo::with(&[("part.txt", "0\n"), (".gitignore", "out/\n")]);
    // The check passes on its second run in one directory: the first leaves build output there.
    let check = "grep -q 1 part.txt || exit 1; test -f out/built && exit 0; \
                 mkdir -p out; touch out/built; grep -q 2 part.txt";
    let agent = "if grep -q 'fresh clone' \"$FLYBALL_BRIEF\"; then echo 12 > part.txt; \
                 else echo 1 > part.txt; fi; date +%N > noise.txt";
    let mut hollow = spec(&url(&repo), json!(agent), json!(check));
    hollow["governor"]["patience"] = json!(4);
    cluster.apply(&manifest("hollow", &hollow));
    let status = ended(&cluster, "hollow", Phase::Converged, Reason::None);
    assert_eq!(repo.file("flyball/hollow", "part.txt"), "12\n");
    assert!(status.progress.iterations >= 2, "{:#?}", status.progress.recent);
}
