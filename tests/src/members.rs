//! Real etcd clusters for fault cases: members that talk over Unix sockets in one directory, and
//! that can be killed, stopped and started again one by one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_client::{Channel, Client};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tonic::transport::Endpoint;

use crate::etcd::binary;

/// Bound on the start of a cluster; the first election alone takes a second or two.
const START_TIMEOUT: Duration = Duration::from_secs(40);
/// Bound on asking one member, which may be stopped.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// An etcd cluster. It ends, with its data, when this is dropped.
#[derive(Debug)]
pub struct Members {
    dir: TempDir,
    arguments: Vec<String>,
    children: Vec<Option<Child>>,
}

impl Members {
    /// Prepares a cluster of members 1 to `count`, with further arguments for each. None runs yet.
    ///
    /// # Panics
    /// If there is no directory for it.
    pub fn prepare(count: usize, arguments: &[&str]) -> Self {
        // A short path: the names of Unix sockets are bounded at 107 bytes.
        let dir = TempDir::with_prefix("fbm").expect("a directory for etcd");
        let children = (0..count).map(|_| None).collect();
        let arguments = arguments.iter().map(|&text| text.to_owned()).collect();
        Self { dir, arguments, children }
    }

    /// Starts all members and waits until there is a leader.
    ///
    /// # Panics
    /// If there is no etcd, or if it does not start.
    pub async fn start(&mut self) {
        (1..=self.children.len()).for_each(|number| self.start_member(number));
        let begun = Instant::now();
        while self.leader().await.is_none() {
            assert!(begun.elapsed() < START_TIMEOUT, "etcd does not start: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Numbers of all members.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        1..=self.children.len()
    }

    /// Where everything of a member is, its data included.
    pub fn dir(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("m{number}"))
    }

    /// The socket on which a member answers clients.
    pub fn socket(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("localhost:{number}1"))
    }

    /// Starts a member, also again on its data.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_member(&mut self, number: usize) {
        let name = |number: usize| format!("m{number}");
        let (client, peer) = (url(number, 1), url(number, 2));
        let all: Vec<_> =
            self.numbers().map(|number| format!("{}={}", name(number), url(number, 2))).collect();
        for socket in [1, 2].map(|part| self.dir.path().join(format!("localhost:{number}{part}"))) {
            // Left by a member that was killed.
            let _ = std::fs::remove_file(socket);
        }
        let log = self.dir.path().join(format!("m{number}.log"));
        let log = std::fs::File::options().append(true).create(true).open(log);
        let child = Command::new(binary().expect("an etcd to test with"))
            .current_dir(self.dir.path()) // where it makes its sockets
            .args(["--name", &name(number), "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.dir(number))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(",")])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log for etcd"))
            .spawn()
            .expect("etcd to start");
        self.children[number - 1] = Some(child);
    }

    /// SIGKILL to a member.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut child) = self.children[number - 1].take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Whether a member has ended by itself.
    pub fn has_ended(&mut self, number: usize) -> bool {
        match &mut self.children[number - 1] {
            Some(child) => matches!(child.try_wait(), Ok(Some(_))),
            None => true,
        }
    }

    /// Process id of a member that runs.
    ///
    /// # Panics
    /// If it was killed.
    pub fn pid(&self, number: usize) -> i32 {
        let child = self.children[number - 1].as_ref().expect("a running member");
        i32::try_from(child.id()).expect("process ids fit")
    }

    /// Sends a signal to a member.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, number: usize, signal: Signal) {
        kill(Pid::from_raw(self.pid(number)), signal).expect("the member is there");
    }

    /// A client of one member.
    ///
    /// # Errors
    /// When it does not answer in time.
    pub async fn client(&self, number: usize) -> Result<Client, String> {
        let channel = self.channel(number);
        match tokio::time::timeout(ASK_TIMEOUT, Client::from_channel(channel, None)).await {
            Ok(client) => client.map_err(|error| error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// A channel to one member.
    ///
    /// # Panics
    /// Never: the address is well-formed.
    pub fn channel(&self, number: usize) -> Channel {
        let address = format!("unix://{}", self.socket(number).display());
        Channel::Tonic(
            Endpoint::from_shared(address).expect("a well-formed address").connect_lazy(),
        )
    }

    /// The member that says of itself that it leads.
    pub async fn leader(&self) -> Option<usize> {
        for number in self.numbers() {
            let Ok(client) = self.client(number).await else { continue };
            let mut maintenance = client.maintenance_client();
            let status = tokio::time::timeout(ASK_TIMEOUT, maintenance.status()).await;
            let Ok(Ok(status)) = status else { continue };
            let member = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
            if status.leader() != 0 && status.leader() == member {
                return Some(number);
            }
        }
        None
    }

    /// The log of every member.
    pub fn logs(&self) -> String {
        let read = |number| {
            let log = std::fs::read_to_string(self.log(number)).unwrap_or_default();
            format!("--- m{number}\n{log}")
        };
        self.numbers().map(read).collect()
    }

    /// A member's log.
    pub fn log(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("m{number}.log"))
    }

    /// The directory with everything in it.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.numbers().for_each(|number| self.kill(number));
    }
}

/// Names a socket in the members' common directory; etcd wants host and port.
fn url(number: usize, part: usize) -> String {
    format!("unix://localhost:{number}{part}")
}
