//! Answering on the ports of a step's own loopback: what it says there goes to a proxy of the operator's, or to the
//! gateway for model calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use flyball_gateway::RunGate;
use flyball_sandbox::Listeners;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::offers::ProxyAddress;

/// Most connections of one step at a time; each takes two descriptors of the worker.
const CONNECTIONS_MAX: usize = 128;

/// Who answers on a port.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A proxy of the operator's.
    Proxy(ProxyAddress),
    /// The run's gateway for model calls.
    Gateway(Arc<RunGate>),
}

/// Answers until it is dropped.
pub(crate) struct Forwarding(
    #[expect(dead_code, reason = "ends its tasks when dropped")] JoinSet<()>,
);

/// Takes a step's listeners as they come and answers on those that have a target.
pub(crate) fn serve(listeners: Listeners, targets: BTreeMap<u16, Target>) -> Forwarding {
    let mut tasks = JoinSet::new();
    let (sender, mut found) = tokio::sync::mpsc::unbounded_channel();
    // Ends when the step has started, or could not.
    tokio::task::spawn_blocking(move || {
        while let Some(listener) = listeners.next_blocking() {
            if sender.send(listener).is_err() {
                break;
            }
        }
    });
    tasks.spawn(async move {
        let mut ports = JoinSet::new();
        let mut calls = Vec::new();
        while let Some((port, listener)) = found.recv().await {
            let Some(target) = targets.get(&port).cloned() else { continue };
            let made = match target {
                Target::Proxy(proxy) => listener
                    .set_nonblocking(true)
                    .and_then(|()| TcpListener::from_std(listener))
                    .map(|listener| drop(ports.spawn(accept(listener, proxy)))),
                Target::Gateway(gate) => gate.serve(listener).map(|serving| calls.push(serving)),
            };
            if let Err(error) = made {
                tracing::warn!(port, "cannot answer a step: {error}");
            }
        }
        // Held until the step has ended.
        ports.spawn(async move {
            let _calls = calls;
            std::future::pending().await
        });
        ports.join_all().await;
    });
    Forwarding(tasks)
}

async fn accept(listener: TcpListener, target: ProxyAddress) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { return };
        let target = target.clone();
        connections.spawn(async move {
            if let Err(error) = relay(stream, &target).await {
                tracing::debug!(%target, "a connection of a step ended: {error}");
            }
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn relay(stream: TcpStream, target: &ProxyAddress) -> std::io::Result<()> {
    match target {
        ProxyAddress::Tcp(address) => both(stream, TcpStream::connect(address).await?).await,
        ProxyAddress::Unix(path) => both(stream, UnixStream::connect(path).await?).await,
    }
}

async fn both(
    mut near: TcpStream,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
) -> std::io::Result<()> {
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}
