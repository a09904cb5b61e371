//! Everyday `etcdctl` against both servers.

use crate::subject::Subject;
use flyball_tests::etcd::{etcdctl, is_skipped};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

contract!(everyday_commands_work, a_watch_prints_what_happens, locks_exclude);

/// The client program against an endpoint.
struct Ctl(String);

impl Ctl {
    fn of(subject: &Subject) -> Option<Self> {
        if is_skipped() {
            println!("skipped: etcdctl comes with etcd");
            return None;
        }
        Some(Self(subject.endpoint()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(etcdctl().unwrap());
        command.env("ETCDCTL_API", "3");
        command.arg(format!("--endpoints={}", self.0)).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end and answers what it printed.
    async fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "").await.unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The same with standard input; the error is what it complained about.
    async fn run_with(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.command(arguments);
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            // A command that does not read its input may have ended already.
            let _ended = child.stdin.take().unwrap().write_all(input.as_bytes());
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }
}

/// A program that is killed with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _gone = self.0.wait();
    }
}

impl Running {
    /// Reads lines until one contains `text`; answers all of them.
    async fn until(self, text: &'static str) -> (Self, String) {
        let reading = tokio::task::spawn_blocking(move || {
            let mut running = self;
            let mut lines = String::new();
            let mut reader = BufReader::new(running.0.stdout.take().unwrap());
            while !lines.contains(text) {
                assert!(reader.read_line(&mut lines).unwrap() > 0, "ended after: {lines}");
            }
            running.0.stdout = Some(reader.into_inner());
            (running, lines)
        });
        reading.await.unwrap()
    }
}

async fn everyday_commands_work(subject: Subject) {
    let Some(ctl) = Ctl::of(&subject) else { return };
    assert_eq!(ctl.run(&["put", "a", "1"]).await, "OK\n");
    assert_eq!(ctl.run(&["put", "a", "2", "--prev-kv"]).await, "OK\na\n1\n");
    assert_eq!(ctl.run(&["put", "b", "3"]).await, "OK\n");
    assert_eq!(ctl.run(&["get", "", "--prefix"]).await, "a\n2\nb\n3\n");
    assert_eq!(ctl.run(&["get", "a", "--rev=2", "--print-value-only"]).await, "1\n");
    let json = ctl.run(&["get", "a", "-w", "json"]).await;
    assert!(json.contains("\"create_revision\":2,\"mod_revision\":3,\"version\":2"), "{json}");
    let order = ["get", "", "--prefix", "--keys-only", "--order=DESCEND", "--limit=1"];
    assert_eq!(ctl.run(&order).await, "b\n\n");
    assert_eq!(ctl.run(&["del", "b", "--prev-kv"]).await, "1\nb\n3\n");
    let txn = "value(\"a\") = \"2\"\n\nput c 4\nget a\n\nput d 5\n\n";
    let answer = ctl.run_with(&["txn"], txn).await.unwrap();
    assert_eq!(answer, "SUCCESS\n\nOK\n\na\n2\n");
    let granted = ctl.run(&["lease", "grant", "100"]).await;
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    assert_eq!(ctl.run(&["put", "l", "x", &format!("--lease={lease}")]).await, "OK\n");
    assert!(ctl.run(&["lease", "list"]).await.contains(&lease));
    let left = ctl.run(&["lease", "timetolive", &lease, "--keys"]).await;
    assert!(left.contains("granted with TTL(100s)") && left.contains("attached keys([l])"));
    let kept = ctl.run(&["lease", "keep-alive", "--once", &lease]).await;
    assert!(kept.contains("keepalived with TTL(100)"), "{kept}");
    assert_eq!(ctl.run(&["lease", "revoke", &lease]).await, format!("lease {lease} revoked\n"));
    assert_eq!(ctl.run(&["get", "l"]).await, "");
    assert_eq!(ctl.run(&["compaction", "5"]).await, "compacted revision 5\n");
    let old = ctl.run_with(&["get", "a", "--rev=2"], "").await.unwrap_err();
    assert!(old.contains("required revision has been compacted"), "{old}");
    let status = ctl.run(&["endpoint", "status"]).await;
    assert!(status.contains(", 3.") && status.contains(", true, false, "), "{status}");
    ctl.run(&["endpoint", "health"]).await;
    let members = ctl.run(&["member", "list"]).await;
    assert_eq!(members.lines().count(), 1, "{members}");
    assert_eq!(ctl.run(&["alarm", "list"]).await, "");
}

async fn a_watch_prints_what_happens(subject: Subject) {
    let Some(ctl) = Ctl::of(&subject) else { return };
    ctl.run(&["put", "w/0", "old"]).await;
    let watch = ctl.command(&["watch", "w/", "--prefix", "--rev=2", "--prev-kv"]).spawn().unwrap();
    let (watch, lines) = Running(watch).until("old\n").await;
    assert_eq!(lines, "PUT\nw/0\nold\n");
    ctl.run(&["put", "w/0", "new"]).await;
    ctl.run(&["del", "w/0"]).await;
    let (watch, lines) = watch.until("DELETE").await;
    assert_eq!(lines, "PUT\nw/0\nold\nw/0\nnew\nDELETE\n");
    drop(watch);
}

async fn locks_exclude(subject: Subject) {
    let Some(ctl) = Ctl::of(&subject) else { return };
    let first = ctl.command(&["lock", "l"]).spawn().unwrap();
    let (first, key) = Running(first).until("l/").await;
    let keys = ctl.run(&["get", "l/", "--prefix", "--keys-only"]).await;
    assert_eq!(keys.trim(), key.trim());
    let lease = ctl.run(&["lease", "list"]).await.lines().nth(1).unwrap().to_owned();
    let second = ctl.command(&["lock", "l"]).spawn().unwrap();
    // Revoking the first one's lease frees the lock for the second.
    ctl.run(&["lease", "revoke", &lease]).await;
    let (_second, key_of_second) = Running(second).until("l/").await;
    assert_ne!(key, key_of_second);
    drop(first);
}
