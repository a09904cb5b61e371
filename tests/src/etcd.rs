//! A real etcd for tests: found, or fetched from the distribution without root, and started on
//! Unix sockets in a directory of its own, so that no port is ever fought over.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use etcd_client::{Channel, Client};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixStream};
use tonic::transport::Endpoint;

/// Names the `etcd` to use.
pub const ETCD_VARIABLE: &str = "FLYBALL_TEST_ETCD";

/// Set to 1 where no etcd can be had: tests that need one then say that they were skipped. Without it
/// they fail, so that a missing etcd never looks like a passed test.
pub const SKIP_VARIABLE: &str = "FLYBALL_SKIP_ETCD";

/// Bound on the start of a server; a loaded machine takes a second or two.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The `etcd` to test with: named by [`ETCD_VARIABLE`], found in `PATH`, or fetched once.
///
/// # Errors
/// What was tried, if there is none.
pub fn binary() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| tool("etcd", "etcd-server", ETCD_VARIABLE)).clone()
}

/// The `etcdctl` to test with, found like [`binary`].
///
/// # Errors
/// What was tried, if there is none.
pub fn etcdctl() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| tool("etcdctl", "etcd-client", "FLYBALL_TEST_ETCDCTL")).clone()
}

/// An `strace`, found like [`binary`]; cases of slow and failing disks need one.
///
/// # Errors
/// What was tried, if there is none.
pub fn strace() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(|| tool("strace", "strace", "FLYBALL_TEST_STRACE")).clone()
}

/// First line of `etcd --version`, printed by suites, since distributions differ.
///
/// # Errors
/// What was tried, if there is none.
pub fn version() -> Result<String, String> {
    let output = Command::new(binary()?).arg("--version").output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Whether tests that need a real etcd are switched off by [`SKIP_VARIABLE`]. Each says so, past the capture of what
/// tests write.
pub fn is_skipped() -> bool {
    let skipped = std::env::var_os(SKIP_VARIABLE).is_some_and(|value| value == "1");
    if skipped {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test");
        // Nobody listens on a closed pipe.
        let _ = writeln!(std::io::stderr(), "{name}: SKIPPED, needs etcd ({SKIP_VARIABLE}=1)");
    }
    skipped
}

fn tool(name: &str, package: &str, variable: &str) -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os(variable) {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    match found {
        Some(file) => Ok(file),
        None => fetch(name, package, variable),
    }
}

fn fetch(name: &str, package: &str, variable: &str) -> Result<PathBuf, String> {
    let fetched = fetch_file(package, &format!("usr/bin/{name}"));
    fetched.map_err(|why| format!("no {name} in PATH, and {why}; name one in {variable}"))
}

/// A file of a package of the distribution, brought into the build directory without installing it.
///
/// # Errors
/// What was tried, if it cannot be had.
pub fn fetch_file(package: &str, path: &str) -> Result<PathBuf, String> {
    let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools").join(package);
    let file = cache.join(path);
    if file.is_file() {
        return Ok(file);
    }
    let failed = |why: String| format!("fetching Debian's {package} failed: {why}");
    let tools = cache.parent().unwrap_or(&cache);
    std::fs::create_dir_all(tools).map_err(|error| failed(error.to_string()))?;
    let dir = TempDir::new_in(tools).map_err(|error| failed(error.to_string()))?;
    let download = || run(dir.path(), "apt-get", &["download", package]);
    if download().is_err() {
        // Without package lists; refreshing them takes root, as in a container.
        run(dir.path(), "apt-get", &["update"]).and_then(|()| download()).map_err(failed)?;
    }
    run(dir.path(), "sh", &["-c", "dpkg -x ./*.deb unpacked"]).map_err(failed)?;
    // Another test process may have been faster; its result is as good.
    let renamed = std::fs::rename(dir.path().join("unpacked"), &cache);
    if file.is_file() { Ok(file) } else { Err(failed(format!("{renamed:?}"))) }
}

fn run(dir: &Path, program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()))
}

/// A running etcd of one member. It ends, with its data, when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    dir: TempDir,
}

impl Etcd {
    /// Starts a fresh server and waits until it answers.
    ///
    /// # Panics
    /// If there is no etcd, or if it does not start.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Like [`Etcd::start`], with further arguments.
    ///
    /// # Panics
    /// If there is no etcd, or if it does not start.
    pub async fn start_with(arguments: &[&str]) -> Self {
        // A short path: the names of Unix sockets are bounded at 107 bytes.
        let dir = TempDir::with_prefix("fbe").expect("a directory for etcd");
        let child = spawn(dir.path(), arguments);
        let mut etcd = Self { child, dir };
        etcd.wait_until_ready().await;
        etcd
    }

    /// Kills the server, as a crash would, and starts it again on its data.
    ///
    /// # Panics
    /// If it does not start again.
    pub async fn crash_and_restart(&mut self) {
        self.stop();
        self.start_again().await;
    }

    /// Kills the server; its data stay.
    pub fn kill(&mut self) {
        self.stop();
    }

    /// Replaces all data by a snapshot's, as `etcdctl snapshot restore` of this version does it, and
    /// starts the server on it.
    ///
    /// # Panics
    /// If it cannot be restored or does not start.
    pub async fn restore(&mut self, snapshot: &Path) {
        self.stop();
        let dir = self.dir.path();
        std::fs::remove_dir_all(dir.join("data")).expect("the data can be removed");
        let restored = Command::new(etcdctl().expect("an etcdctl"))
            .current_dir(dir)
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore", "--data-dir", "data", "--name", "default"])
            .args(["--initial-cluster", "default=unix://localhost:2"])
            .args(["--initial-advertise-peer-urls", "unix://localhost:2"])
            .arg(snapshot)
            .output()
            .expect("etcdctl runs");
        assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
        self.start_again().await;
    }

    /// Starts the server again on its data.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_again(&mut self) {
        for socket in ["localhost:1", "localhost:2"] {
            let _ = std::fs::remove_file(self.dir.path().join(socket));
        }
        self.child = spawn(self.dir.path(), &[]);
        self.wait_until_ready().await;
    }

    /// Its address, for `--etcd` and `etcdctl --endpoints` run in any directory.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.dir.path().join("localhost:1").display())
    }

    /// A channel to it.
    ///
    /// # Panics
    /// Never: the address is well-formed.
    pub fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.endpoint()).expect("a well-formed address");
        Channel::Tonic(endpoint.connect_lazy())
    }

    /// Process id of the server, to stop and continue it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    async fn wait_until_ready(&mut self) {
        let begin = Instant::now();
        while begin.elapsed() < START_TIMEOUT {
            if let Ok(Some(status)) = self.child.try_wait() {
                let log = std::fs::read_to_string(self.dir.path().join("log"));
                panic!("etcd ended at once, {status}: {}", log.unwrap_or_default());
            }
            let client = Client::from_channel(self.channel(), None).await;
            if let Ok(mut client) = client
                && client.get("ready?", None).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("etcd does not answer within {START_TIMEOUT:?}");
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A fresh etcd that asks for certificates, and its address on a port of the loopback, which is served for as
/// long as the runtime lives. `member` has its ca.pem, cert.pem and key.pem.
///
/// # Panics
/// If there is no etcd, or if it does not start.
pub async fn secured(member: &Path) -> (Etcd, String) {
    let file = |name: &str| member.join(name).display().to_string();
    let (ca, cert, key) = (file("ca.pem"), file("cert.pem"), file("key.pem"));
    // The plain socket in its private directory is for the harness.
    let urls = "unix://localhost:1,unixs://localhost:3";
    let etcd = Etcd::start_with(&[
        "--listen-client-urls",
        urls,
        "--client-cert-auth",
        "--trusted-ca-file",
        &ca,
        "--cert-file",
        &cert,
        "--key-file",
        &key,
    ])
    .await;
    let socket = etcd.dir.path().join("localhost:3");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Ok(mut unix) = UnixStream::connect(socket).await {
                    // Whichever side ends it.
                    let _ = tokio::io::copy_bidirectional(&mut tcp, &mut unix).await;
                }
            });
        }
    });
    (etcd, format!("https://127.0.0.1:{port}"))
}

fn spawn(dir: &Path, arguments: &[&str]) -> Child {
    let log = std::fs::File::options().append(true).create(true).open(dir.join("log"));
    let (client, peer) = ("unix://localhost:1", "unix://localhost:2");
    Command::new(binary().expect("an etcd to test with"))
        .current_dir(dir) // where it makes its sockets
        .args(["--data-dir", "data", "--log-level", "warn"])
        .args(["--listen-client-urls", client, "--advertise-client-urls", client])
        .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log for etcd"))
        .spawn()
        .expect("etcd to start")
}
