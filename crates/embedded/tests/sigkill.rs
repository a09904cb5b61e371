//! SIGKILL in the middle of writing: the next process finds everything that was acknowledged.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use etcd_client::{Client, GetOptions};
use flyball_embedded::{OpenError, Options, Server};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Set for the process that writes and is killed: the directory of its store.
const CHILD_VARIABLE: &str = "FLYBALL_TEST_KILL_DIR";

/// Not a test by itself: the process that is killed. It prints each number once its put has been
/// acknowledged.
#[tokio::test]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD_VARIABLE) else { return };
    let server = Server::open(Options::at(std::path::PathBuf::from(dir))).unwrap();
    let mut client = Client::from_channel(server.channel(), None).await.unwrap();
    for number in 0_u64.. {
        client.put(format!("k/{number}"), "1", None).await.unwrap();
        println!("\n{number}");
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD_VARIABLE, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let target = 20 + round * 37;
        let mut last = 0;
        while last < target {
            if let Ok(number) = lines.next().unwrap().unwrap().parse() {
                last = number;
            }
        }
        // The directory is taken for as long as the process lives, and not longer.
        let taken = Server::open(Options::at(dir.path()));
        assert!(matches!(taken, Err(OpenError::InUse { .. })), "{taken:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        // It may have printed more before the signal hit.
        let rest = lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).max();
        acknowledged = u64::max(acknowledged, rest.unwrap_or(last).max(last));
        let server = Server::open(Options::at(dir.path())).unwrap();
        let mut client = Client::from_channel(server.channel(), None).await.unwrap();
        for number in 0..=acknowledged {
            let found = client.get(format!("k/{number}"), None).await.unwrap();
            assert_eq!(found.count(), 1, "{number} of {acknowledged} in round {round}");
        }
        let all = GetOptions::new().with_prefix().with_count_only();
        let all = client.get("k/", Some(all)).await.unwrap().count();
        assert!(u64::try_from(all).unwrap() > acknowledged);
    }
}
