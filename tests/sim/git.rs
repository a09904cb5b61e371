//! The repository: one host that keeps the loops' journals and branches and moves them by atomic
//! compare-and-swap, as a git server does with `--atomic --force-with-lease`. A call is one connection,
//! so what is under way when a link is held arrives later, and answers get lost with the link.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_tests::history::Event;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::{TcpListener, TcpStream};

use crate::site::Site;
use crate::traps::Passing;

/// The name of the host.
pub(crate) const HOST: &str = "git";
const PORT: u16 = 9418;
/// The repository's canonical id, as resource sets name it.
pub(crate) const REPOSITORY: &str = "git/sim";
pub(crate) const URL: &str = "http://git/sim.git";
/// Longest wait for an answer.
const CALL_MAX: Duration = Duration::from_secs(4);

/// A record of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Names the commit.
    pub(crate) id: String,
    pub(crate) token: i64,
    pub(crate) sequence: u64,
    /// `takeover`, `sealed-by-other`, `iteration` or `published`.
    pub(crate) kind: String,
    /// Of the work: the checkpoint.
    pub(crate) commit: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Call {
    Read { uid: String },
    Push(Push),
}

/// Appends to a journal and perhaps moves a branch; all or nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Push {
    pub(crate) uid: String,
    /// Newest record that the journal must have.
    pub(crate) old: Option<String>,
    pub(crate) record: Record,
    /// False for the planted bug that leaves the journal where it is.
    pub(crate) moves_journal: bool,
    /// Branch, where it must be, where it goes.
    pub(crate) branch: Option<(String, Option<String>, String)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    Journal { records: Vec<Record>, branches: BTreeMap<String, String> },
    Done,
    Refused,
}

#[derive(Default)]
struct Repository {
    journals: BTreeMap<String, Vec<Record>>,
    branches: BTreeMap<String, String>,
}

/// Adds the host. What it keeps outlives a crash.
pub(crate) fn add(sim: &mut turmoil::Sim<'_>, site: &Arc<Site>) {
    let site = site.clone();
    let repository: Arc<Mutex<Repository>> = Arc::default();
    sim.host("git", move || {
        let (site, repository) = (site.clone(), repository.clone());
        async move {
            let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
            loop {
                let (stream, peer) = listener.accept().await?;
                let (site, repository) = (site.clone(), repository.clone());
                let peer = turmoil::reverse_lookup(peer.ip()).unwrap_or_default();
                // A caller that went away is no concern of the server's.
                tokio::spawn(async move { drop(serve(stream, &peer, &site, &repository).await) });
            }
        }
    });
}

async fn serve(
    mut stream: TcpStream,
    from: &str,
    site: &Site,
    of: &Mutex<Repository>,
) -> io::Result<()> {
    let call: Call = serde_json::from_slice(&receive(&mut stream).await?)?;
    let trap = match &call {
        Call::Push(push) if site.traps.are_expected() => {
            let (what, bytes) = (push.record.kind.as_str(), push.uid.as_bytes());
            site.traps.take(&Passing { at: HOST, from, what, bytes })
        }
        _ => None,
    };
    if let Some(trap) = &trap {
        // A server that takes long, for whatever reason; it has all that it needs.
        trap.opened().await;
    }
    let answer = {
        let mut repository = of.lock().expect("whole");
        match call {
            Call::Read { uid } => Answer::Journal {
                records: repository.journals.get(&uid).cloned().unwrap_or_default(),
                branches: repository.branches.clone(),
            },
            Call::Push(push) => repository.push(push, site),
        }
    };
    if let Some(trap) = trap {
        trap.finish();
    }
    send(&mut stream, &serde_json::to_vec(&answer)?).await
}

impl Repository {
    fn push(&mut self, push: Push, site: &Site) -> Answer {
        let journal = self.journals.entry(push.uid.clone()).or_default();
        let tip = journal.last().map(|record| record.id.clone());
        let mut accepted = !push.moves_journal || tip == push.old;
        if let Some((branch, old, _)) = &push.branch {
            accepted &= self.branches.get(branch) == old.as_ref();
        }
        let uid = push.uid.clone();
        site.saw(Event::Push {
            repo: REPOSITORY.to_owned(),
            uid: push.uid,
            token: push.record.token,
            sequence: push.record.sequence,
            record: if push.moves_journal { push.record.kind.clone() } else { String::new() },
            refs: push.branch.iter().map(|(branch, ..)| branch.clone()).collect(),
            accepted,
        });
        if !accepted {
            site.bite("a push was refused");
            return Answer::Refused;
        }
        site.view().pushed.insert(uid);
        if push.moves_journal {
            journal.push(push.record);
        }
        if let Some((branch, _, new)) = push.branch {
            self.branches.insert(branch, new);
        }
        Answer::Done
    }
}

/// Calls the repository; `None` if nobody knows what became of it.
pub(crate) async fn call(call: &Call) -> Option<Answer> {
    let once = async {
        let mut stream = TcpStream::connect(("git", PORT)).await?;
        send(&mut stream, &serde_json::to_vec(call)?).await?;
        Ok::<Answer, io::Error>(serde_json::from_slice(&receive(&mut stream).await?)?)
    };
    tokio::time::timeout(CALL_MAX, once).await.ok()?.ok()
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    stream.write_u32(u32::try_from(bytes.len()).map_err(io::Error::other)?).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
