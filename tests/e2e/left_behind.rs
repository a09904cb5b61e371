//! What an agent leaves behind for a check or for the worker to fall for: tools, settings, links, processes,
//! git's own ways to start programs. Each trap is tried on a careless driver first, which falls for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flyball_core::status::{Phase, Reason};
use flyball_tests::cluster::{Cluster, Options};
use flyball_tests::repo::Repo;
use serde_json::json;

use crate::support::{ended, healthy, manifest, spec, url};

/// A way to seem done without doing the work: the check passes, or the file `SPRUNG` appears.
struct Trap {
    name: &'static str,
    /// Shell; `SPRUNG`, `CACHE` and `MARK` are replaced.
    agent: &'static str,
    check: &'static str,
    /// What the record of the iteration must say.
    told: &'static str,
}

/// Every case runs, those whose file can be executed; all have to say yes.
const RUN_CASES: &str = "for f in cases/*; do test ! -x $f || $f || exit 1; done";
/// What an agent changes besides, so that there is something to measure.
const NOISE: &str = "date +%N > own/noise.txt\n";
const HONEST: &str = "grep -q solved own/answer.txt";
const WORSE: &str = "no improvement";

const TRAPS: &[Trap] = &[
    Trap {
        name: "background-process",
        agent: "setsid perl -e '$0=\"left-MARK\"; sleep 20' >/dev/null 2>&1 & \
                until cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -q '^left-MAR[K]'; do sleep 0.01; done",
        check: "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -q '^left-MAR[K]'",
        told: WORSE,
    },
    Trap {
        name: "tool-in-a-cache",
        agent: "printf '#!/bin/sh\\nexit 0\\n' > CACHE/judge",
        check: "CACHE/judge",
        told: WORSE,
    },
    Trap {
        name: "tool-in-the-home",
        agent: "mkdir -p $HOME/.local/bin; printf '#!/bin/sh\\n' > $HOME/.local/bin/judge; chmod +x $HOME/.local/bin/judge",
        check: "PATH=$HOME/.local/bin:$PATH; judge",
        told: WORSE,
    },
    Trap {
        name: "tool-in-a-temporary-directory",
        agent: "for d in /tmp /var/tmp $TMPDIR; do printf 'exit 0\\n' > $d/judge-MARK; done",
        check: "sh /tmp/judge-MARK || sh /var/tmp/judge-MARK || sh $TMPDIR/judge-MARK",
        told: WORSE,
    },
    Trap {
        name: "environment-file",
        agent: "echo 'judge() { true; }' > $HOME/.profile",
        check: ". $HOME/.profile; judge",
        told: WORSE,
    },
    Trap {
        name: "git-alias",
        agent: "git config --global alias.judge '!true'",
        check: "git judge",
        told: WORSE,
    },
    Trap {
        name: "git-hook",
        agent: "mkdir -p .git/hooks; for h in pre-commit post-checkout post-index-change reference-transaction; do \
                printf '#!/bin/sh\\ntouch SPRUNG\\n' > .git/hooks/$h; chmod +x .git/hooks/$h; done",
        check: HONEST,
        told: WORSE,
    },
    Trap {
        name: "git-config",
        agent: "git config core.fsmonitor 'touch SPRUNG; false'; git config core.hooksPath own",
        check: HONEST,
        told: WORSE,
    },
    Trap {
        name: "attributes-filter",
        agent: "git config --global filter.t.clean 'touch SPRUNG; cat'; git config --global filter.t.smudge 'touch SPRUNG; cat'; \
                printf '*.txt filter=t\\n' > own/.gitattributes",
        check: HONEST,
        told: WORSE,
    },
    Trap {
        name: "submodule",
        agent: "git init -q own/sub; cd own/sub; echo x > x; git add x; \
                git -c user.name=a -c user.email=a@b commit -qm x; git config core.fsmonitor 'touch SPRUNG; false'; \
                cd ../..; printf '[submodule \"s\"]\\n\\tpath = own/sub\\n\\turl = ./own/sub\\n' > .gitmodules",
        check: HONEST,
        told: "own/sub/: a nested git repository",
    },
    Trap {
        name: "symlink-to-the-home",
        agent: "echo solved > $HOME/answer; ln -sfn $HOME/answer own/answer.txt",
        check: HONEST,
        told: WORSE,
    },
    Trap {
        name: "symlink-for-a-directory",
        agent: "mkdir -p $TMPDIR/easy; printf '#!/bin/sh\\n' > $TMPDIR/easy/two; chmod +x $TMPDIR/easy/two; \
                rm -rf cases; ln -s $TMPDIR/easy cases",
        check: RUN_CASES,
        told: "cases/two is pinned",
    },
    Trap {
        name: "hard-link",
        agent: "ln -f judge.sh own/alias; echo 'exit 0' > own/alias",
        check: "sh judge.sh",
        told: WORSE,
    },
    Trap {
        name: "file-mode",
        agent: "chmod -x cases/two",
        check: RUN_CASES,
        told: "cases/two is pinned",
    },
    Trap {
        name: "pinned-case",
        agent: "printf '#!/bin/sh\\n' > cases/two",
        check: RUN_CASES,
        told: "cases/two is pinned",
    },
    Trap {
        name: "build-output",
        agent: "mkdir -p out; echo 'exit 0' > out/verdict.sh",
        check: "sh out/verdict.sh",
        told: WORSE,
    },
];

fn repository() -> Repo {
    let repo = Repo::with(&[
        ("own/file.txt", "x\n"),
        ("judge.sh", "exit 1\n"),
        ("cases/two", "#!/bin/sh\nexit 1\n"),
        (".gitignore", "out/\n"),
    ]);
    repo.make_executable("cases/two");
    repo
}

/// Where one trap's things are.
struct Place {
    sprung: PathBuf,
    cache: PathBuf,
    mark: String,
}

impl Place {
    fn new(dir: &Path, cache: &Path, trap: &Trap, who: &str) -> Self {
        let (sprung, mark) = (dir.join(format!("sprung-{}", trap.name)), trap.name);
        let mark = format!("{mark}-{who}-{}", std::process::id());
        Self { sprung, cache: cache.to_owned(), mark }
    }

    fn fill(&self, script: &str) -> String {
        script
            .replace("SPRUNG", &self.sprung.display().to_string())
            .replace("CACHE", &self.cache.display().to_string())
            .replace("MARK", &self.mark)
            .replace(
                "MAR[K]",
                &format!(
                    "{}[{}]",
                    &self.mark[..self.mark.len() - 1],
                    &self.mark[self.mark.len() - 1..]
                ),
            )
    }
}

fn fill_cache(cache: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(cache).unwrap();
    let tool = cache.join("judge");
    std::fs::write(&tool, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// One who runs agent, git and check one after the other where the agent worked; true if that is enough.
fn falls_for(trap: &Trap) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (home, temp, cache) =
        (dir.path().join("home"), dir.path().join("tmp"), dir.path().join("cache"));
    [&home, &temp].iter().for_each(|made| std::fs::create_dir(made).unwrap());
    fill_cache(&cache);
    let (repo, place) = (repository(), Place::new(dir.path(), &cache, trap, "careless"));
    let work = dir.path().join("work");
    let shell = |script: &str, cwd: &Path| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(cwd).env_clear();
        command.envs([("HOME", &home), ("TMPDIR", &temp)]);
        command.env("PATH", std::env::var("PATH").unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    };
    assert!(shell(&format!("git clone -q {} work", url(&repo)), dir.path()));
    shell(&place.fill(trap.agent), &work);
    shell(
        "git add -A; git status; git -c user.name=a -c user.email=a@b commit -qm x; git checkout -q HEAD",
        &work,
    );
    let passed = shell(&place.fill(trap.check), &work);
    let mark = &place.mark;
    shell(&format!("rm -f /tmp/judge-{mark} /var/tmp/judge-{mark}"), dir.path());
    passed || place.sprung.exists()
}

#[test]
fn nothing_that_an_agent_leaves_behind_makes_a_check_pass() {
    for trap in TRAPS {
        assert!(falls_for(trap), "the trap {} does not bite", trap.name);
    }
    // Runs share nothing with the test but what is meant to be shared.
    let outside = tempfile::Builder::new().prefix("fbtraps").tempdir_in("/var/tmp").unwrap();
    let (cache, shared) = (outside.path().join("cache"), outside.path().join("shared"));
    fill_cache(&cache);
    std::fs::create_dir(&shared).unwrap();
    let cluster = Cluster::start(Options {
        slots: 16,
        worker_args: vec![format!("--cache=tools={}", cache.display())],
        env: vec![("FLYBALL_TEST_SHARE".to_owned(), shared.display().to_string())],
        ..Options::default()
    });
    let repos: Vec<Repo> = TRAPS.iter().map(|_| repository()).collect();
    let place = |trap: &Trap| Place::new(outside.path(), &cache, trap, "run");
    for (trap, repo) in TRAPS.iter().zip(&repos) {
        let place = place(trap);
        let agent = format!("{NOISE}({}) 2>/dev/null; true", place.fill(trap.agent));
        let mut spec = spec(&url(repo), json!(agent), json!(place.fill(trap.check)));
        // All but the check's own script.
        spec["owns"] = json!(["own/**", "cases/**"]);
        spec["pins"] = json!(["cases/**"]);
        spec["sandbox"] = json!({"caches": ["tools"]});
        cluster.apply(&manifest(trap.name, &spec));
    }
    for (trap, repo) in TRAPS.iter().zip(&repos) {
        let status = ended(&cluster, trap.name, Phase::Unreachable, Reason::NoProgress);
        let recent = &status.progress.recent;
        assert_eq!((status.progress.accepted, recent.len()), (0, 2), "{}: {recent:#?}", trap.name);
        let told =
            |record: &flyball_core::status::IterationSummary| record.reason.contains(trap.told);
        assert!(recent.iter().all(told), "{} is not told as what it was: {recent:#?}", trap.name);
        assert!(!place(trap).sprung.exists(), "{}: the worker started it", trap.name);
        assert!(!repo.has(&format!("flyball/{}", trap.name)), "{} was published", trap.name);
    }
    let tool = std::fs::read_to_string(cache.join("judge")).unwrap();
    assert_eq!(tool, "#!/bin/sh\nexit 1\n", "the shared cache was changed");
    healthy(&cluster, "healthy");
}

/// What is left where the report is expected, and what the record says of it.
const REPORTS: &[(&str, &str, &str)] = &[
    ("link-to-a-host-file", "ln -s CANARY $FLYBALL_REPORT", "the report cannot be read"),
    ("link-to-a-device", "ln -s /dev/zero $FLYBALL_REPORT", "the report cannot be read"),
    ("pipe", "mkfifo $FLYBALL_REPORT", "the report is not a file"),
    (
        "directory",
        "mkdir -p $FLYBALL_REPORT/x; chmod 0 $FLYBALL_REPORT",
        "the report is not a file",
    ),
    ("huge", "truncate -s 1G $FLYBALL_REPORT", "the report is not a file of at most"),
    ("junk", "head -c 5000 /dev/urandom > $FLYBALL_REPORT", "the report"),
    ("deep", "perl -e 'print \"[\"x60000' > $FLYBALL_REPORT", "the report is not valid"),
    (
        "unknown-claim",
        "echo '{\"claim\":\"converged\"}' > $FLYBALL_REPORT",
        "the report is not valid",
    ),
    (
        "of-another-user",
        "echo '{\"note\":\"mine\"}' > $FLYBALL_REPORT; ! chown 1 $FLYBALL_REPORT || exit 9",
        "mine",
    ),
    ("closed", "echo '{\"note\":\"mine\"}' > $FLYBALL_REPORT; chmod 0 ${FLYBALL_REPORT%/*}", ""),
];

#[test]
fn a_report_of_any_kind_harms_nobody() {
    const CANARY: &str = "canary-51c0";
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("canary.json");
    std::fs::write(&canary, format!("{{\"note\":\"{CANARY}\",\"claim\":\"done\"}}")).unwrap();
    let cluster = Cluster::start(Options { slots: 16, ..Options::default() });
    let repos: Vec<Repo> = REPORTS.iter().map(|_| repository()).collect();
    for ((name, leave, _), repo) in REPORTS.iter().zip(&repos) {
        // Twice, as the next iteration begins where the first one left it.
        let work = "test -e own/one || { echo 1 > own/one; exit 0; }; echo solved > own/answer.txt";
        let agent = leave.replace("CANARY", &canary.display().to_string());
        let check = "test -e own/one && echo ok one || echo not ok one; \
                     grep -q solved own/answer.txt && echo ok two || { echo not ok two; exit 1; }";
        let mut spec = spec(&url(repo), json!(format!("{agent}\n{work}")), json!(check));
        spec["checks"][0]["score"] =
            json!({"regex": {"pass": "^ok (?P<name>.+)$", "fail": "^not ok (?P<name>.+)$"}});
        cluster.apply(&manifest(name, &spec));
    }
    for ((name, _, told), repo) in REPORTS.iter().zip(&repos) {
        let status = ended(&cluster, name, Phase::Converged, Reason::None);
        assert_eq!(status.progress.accepted, 2, "{name}: {status:#?}");
        // The journal has the notes, one of each iteration.
        let journal = repo.journals().pop().unwrap();
        let records = repo.git(&["log", "--first-parent", "--format=%B", &journal]);
        assert!(told.is_empty() || records.matches(told).count() >= 2, "{name}: {records}");
        let all = cluster.cli(&["get", "loop", name, "-o", "json"]);
        let all = records + &String::from_utf8_lossy(&all.stdout);
        assert!(!all.contains(CANARY), "{name}: {all}");
    }
    assert!(!cluster.logs().contains(CANARY));
    healthy(&cluster, "healthy");
}
