//! A real etcd server for a test, if the environment names one: `FLYBALL_TEST_ETCD_BIN`.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use flyball_scheduler::StoreChoice;

/// The store of a test: a real etcd if one is named, else an embedded store. Ends with the test.
pub(crate) struct TestStore {
    pub(crate) choice: StoreChoice,
    etcd: Option<Child>,
}

impl TestStore {
    pub(crate) fn open(dir: &Path) -> Self {
        let embedded = StoreChoice::Embedded { dir: dir.join("store"), socket: None };
        let Some(binary) = std::env::var_os("FLYBALL_TEST_ETCD_BIN") else {
            return Self { choice: embedded, etcd: None };
        };
        let (client, peer) = (free_port(), free_port());
        let client = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new(binary);
        command.arg("--data-dir").arg(dir.join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        let etcd = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self {
            choice: StoreChoice::Etcd { endpoints: vec![client], identity: None },
            etcd: Some(etcd),
        }
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        if let Some(etcd) = &mut self.etcd {
            let _ = etcd.kill();
            let _ = etcd.wait();
        }
    }
}

/// A port that was free a moment ago; etcd cannot bind port 0.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
