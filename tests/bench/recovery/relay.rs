//! Links between a worker and its scheduler that can be cut, as a network is: what is said is neither heard nor
//! refused until they are mended.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// One link: a socket of its own, behind which is the scheduler's.
pub(crate) struct Link {
    /// Whether anything passes, and how often it was cut before.
    state: watch::Sender<(bool, u32)>,
}

impl Link {
    /// Begins to pass connections on, for as long as the runtime lives.
    pub(crate) fn open(runtime: &Handle, at: &Path, scheduler: PathBuf) -> Self {
        let _inside = runtime.enter();
        let listener = UnixListener::bind(at).unwrap();
        let (state, states) = watch::channel((true, 0));
        runtime.spawn(async move {
            while let Ok((inbound, _)) = listener.accept().await {
                tokio::spawn(carry(inbound, scheduler.clone(), states.clone()));
            }
        });
        Self { state }
    }

    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| *state = (false, state.1 + 1));
    }

    pub(crate) fn mend(&self) {
        self.state.send_modify(|state| state.0 = true);
    }
}

/// Carries both directions until one ends. One that was cut ends when the link is mended: bytes are missing.
async fn carry(inbound: UnixStream, to: PathBuf, mut states: watch::Receiver<(bool, u32)>) {
    let was = states.borrow().1;
    if states.wait_for(|state| state.0).await.is_err() || states.borrow().1 != was {
        return;
    }
    // A scheduler that is not there is found out by the connection's end.
    let Ok(outbound) = UnixStream::connect(to).await else { return };
    let (read, write) = inbound.into_split();
    let (far_read, far_write) = outbound.into_split();
    let mended = async {
        let again = states.clone().wait_for(|state| state.0 && state.1 != was).await.is_ok();
        if !again {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = mended => {}
        () = pump(read, far_write, states.clone(), was) => {}
        () = pump(far_read, write, states.clone(), was) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    states: watch::Receiver<(bool, u32)>,
    was: u32,
) {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut chunk).await.unwrap_or(0);
        if states.borrow().1 != was {
            // Lost, and so is the end of the stream: who is cut off hears of neither.
            std::future::pending::<()>().await;
        }
        if count == 0 || to.write_all(&chunk[..count]).await.is_err() {
            return;
        }
    }
}
