//! F34: an agent tries to get secrets and data out.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use flyball_tests::collector::{collector, exporting_to};

use crate::fleet::{Fleet, Shape};
use crate::leak::{LEAK_LOG, LEAK_TARGETS, LeakTargets};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F34",
    title: "agent tries to exfiltrate",
    usual: true,
    owners: Owners::Change,
    run,
};

fn run(attempt: &Attempt) -> Outcome {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (collector, address) = collector(&runtime);
    let env = exporting_to(&address).env;
    let shape = Shape { agent: "leak", secret: true, env, ..Shape::default() };
    let mut fleet = Fleet::start(attempt, shape);
    fleet.secrets.collector = Some(collector);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    tcp.set_nonblocking(true).expect("a listener");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    udp.set_nonblocking(true).expect("a socket");
    let name = format!("flyball-leak-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let socket = UnixListener::bind_addr(&address).expect("an abstract socket");
    socket.set_nonblocking(true).expect("a listener");
    let targets = LeakTargets {
        port: tcp.local_addr().expect("it is bound").port(),
        datagrams: udp.local_addr().expect("it is bound").port(),
        name,
        // What a worker has and no run may see.
        secrets: fleet.secret_files(),
    };
    let text = serde_json::to_string(&targets).expect("plain data");
    std::fs::write(fleet.dir().join(LEAK_TARGETS), text).expect("a file");
    let victim = fleet.victim();
    fleet.fault("kill the worker of agents that try to get data out");
    fleet.kill_worker(&victim.node);
    fleet.lost_everything(&victim);
    fleet.start_worker(&victim.node);
    fleet.over();
    let log = std::fs::read_to_string(fleet.dir().join(LEAK_LOG)).unwrap_or_default();
    fleet.finish();
    assert!(log.contains("tried"), "no agent tried: {log}");
    assert!(!log.contains("leaked"), "{log}");
    assert!(tcp.accept().is_err() && socket.accept().is_err(), "somebody connected");
    assert!(udp.recv(&mut [0; 8]).is_err(), "a datagram arrived");
    Outcome::Passed
}
