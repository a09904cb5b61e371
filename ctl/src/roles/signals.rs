//! When a role's process is to end: a signal, or its supervisor's death.

use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

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
        if !until_stdin_closes {
            std::future::pending::<()>().await;
        }
        let mut byte = [0_u8; 64];
        while tokio::io::stdin().read(&mut byte).await.is_ok_and(|read| read > 0) {}
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
        () = orphaned => {}
    }
}
