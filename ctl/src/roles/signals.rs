//! When a role's process is to end: a signal, or its supervisor's death.

use std::io::Read;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Completes on SIGINT or SIGTERM, and with `until_stdin_closes` also when standard input ends,
/// which happens by itself when the supervisor that holds its other end dies.
pub(super) async fn shutdown(until_stdin_closes: bool) {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                terminate.recv().await;
            }
            // Without a handler the signal's default action ends the process, as wanted.
            Err(_) => std::future::pending().await,
        }
    };
    let orphaned = async {
        if !until_stdin_closes || stdin_closed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
        () = orphaned => {}
    }
}

/// Completes when standard input ends. A plain thread reads it: a read of the runtime's own would keep
/// the process from ending while the supervisor lives.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (closed, ended) = oneshot::channel();
    // If no thread can be had the signal is left, and nobody to tell.
    let _ = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut bytes = [0_u8; 64];
        while std::io::stdin().read(&mut bytes).is_ok_and(|read| read > 0) {}
        let _ = closed.send(());
    });
    ended
}
