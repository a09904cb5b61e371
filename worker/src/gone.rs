//! Telling the schedulers that nothing of an incarnation is left, so that its lease ends at once and
//! not after its time to live: by the worker itself at a clean end, and else by what its guard
//! becomes once it has killed everything.

use std::future::Future;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use flyball_pki::LiveIdentity;
use flyball_proto::transport::{self, Address, Credential};
use flyball_proto::v1::ReportGoneRequest;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_sandbox::{Guard, Reporter, boottime};
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::incarnation::{Grant, Life};

/// Argument of the program that makes it the reporter.
pub const REPORTER_ARGUMENT: &str = "report-gone";
/// Longest wait for one scheduler's answer: it makes two calls to the store. Others are asked at the
/// same time, so one that hangs costs nothing.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// First and longest pause between two rounds over all schedulers.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Most bytes of a note; one with a hundred schedulers takes a tenth of it.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

/// What the reporter has to know, from the worker by way of the guard.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    schedulers: Vec<String>,
    token: Option<String>,
    /// Directory of the identity to show; absolute.
    #[serde(default)]
    identity: Option<PathBuf>,
    node: String,
    incarnation: String,
    lease: i64,
    /// Seconds; after that the lease has ended by itself.
    ttl: u64,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The lease has ended.
    Ended,
    /// The node has another session by now.
    Refused(String),
    /// Nobody answered in time.
    GaveUp(String),
}

/// Has the guard tell of this life's end if the worker cannot.
pub(crate) fn provide(life: &Life, guard: &Guard, grant: &Grant) {
    let config = &life.config;
    let note = Note {
        schedulers: config.schedulers.iter().map(ToString::to_string).collect(),
        token: config.credential.token().map(str::to_owned),
        identity: config.credential.identity().map(|identity| identity.dir().to_owned()),
        node: config.node.to_string(),
        incarnation: life.id.to_string(),
        lease: grant.lease,
        ttl: u64::try_from(grant.ttl_seconds).unwrap_or(0),
    };
    // Plain data; serialising it cannot fail.
    let note = serde_json::to_vec(&note).unwrap_or_default();
    let reporter = Reporter { arguments: vec![REPORTER_ARGUMENT.to_owned()], note };
    if let Err(error) = guard.report_with(reporter) {
        tracing::warn!("after a crash of this worker its lease will end by time only: {error}");
    }
}

/// Ends the lease of a life of which nothing is left.
pub(crate) async fn tell(life: &Life) {
    let Some(grant) = life.grant.borrow().clone() else { return };
    let request = ReportGoneRequest {
        node: life.config.node.to_string(),
        incarnation: life.id.to_string(),
        lease_id: grant.lease,
    };
    // Whoever shuts down does not wait for long.
    let told = tell_any(&life.config.schedulers, &life.config.credential, &request, ANSWER_MAX);
    match told.await {
        Told::Ended => tracing::debug!("the lease is given back"),
        told => tracing::info!("the lease ends by its time to live: {told:?}"),
    }
}

/// The life of the reporter: reads its note from standard input, tells, and says how that went.
#[must_use]
pub fn report_gone() -> ExitCode {
    match read_note().and_then(|note| Ok((tokio_runtime()?, note))) {
        Ok((runtime, note)) => {
            let node = note.node.clone();
            match runtime.block_on(deliver(note)) {
                Told::Ended => {
                    tracing::info!(%node, "the worker is gone and its lease has ended");
                    ExitCode::SUCCESS
                }
                told => {
                    tracing::warn!(%node, "the worker is gone; its lease ends by time: {told:?}");
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            tracing::error!("cannot report the end of a worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tokio_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn read_note() -> std::io::Result<Note> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(NOTE_BYTES_MAX).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map_err(std::io::Error::other)
}

async fn deliver(note: Note) -> Told {
    let credential = match &note.token {
        Some(token) => Credential::bearer(token),
        None => Ok(Credential::none()),
    };
    let Ok(credential) = credential else { return Told::GaveUp("a spoilt token".to_owned()) };
    let credential = match note.identity.as_deref().map(LiveIdentity::open).transpose() {
        Ok(identity) => credential.with_identity(identity.map(Arc::new)),
        Err(error) => return Told::GaveUp(error.to_string()),
    };
    let schedulers: Vec<Address> =
        note.schedulers.iter().filter_map(|address| address.parse().ok()).collect();
    let request =
        ReportGoneRequest { node: note.node, incarnation: note.incarnation, lease_id: note.lease };
    tell_any(&schedulers, &credential, &request, Duration::from_secs(note.ttl)).await
}

/// Asks all schedulers at once, again and again, until one has answered or `bound` has passed. To say
/// it more than once is harmless.
async fn tell_any(
    schedulers: &[Address],
    credential: &Credential,
    request: &ReportGoneRequest,
    bound: Duration,
) -> Told {
    let give_up = boottime() + bound;
    let mut pause = PAUSE.0;
    loop {
        let tries = schedulers.iter().map(|address| tell_one(address, credential, request));
        let why = match first_final(tries).await {
            Ok(told) => return told,
            Err(why) => why,
        };
        if boottime() + pause >= give_up {
            return Told::GaveUp(why);
        }
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// The first answer that settles it; the last error if there is none.
async fn first_final(
    tries: impl Iterator<Item = impl Future<Output = Result<Told, String>>>,
) -> Result<Told, String> {
    let mut why = "no address of a scheduler can be used".to_owned();
    let mut tries: Vec<_> = tries.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut index = 0;
        while index < tries.len() {
            match tries[index].as_mut().poll(context) {
                std::task::Poll::Ready(Ok(told)) => return std::task::Poll::Ready(Ok(told)),
                std::task::Poll::Ready(Err(error)) => {
                    why = error;
                    drop(tries.swap_remove(index));
                }
                std::task::Poll::Pending => index += 1,
            }
        }
        match tries.is_empty() {
            true => std::task::Poll::Ready(Err(std::mem::take(&mut why))),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

async fn tell_one(
    address: &Address,
    credential: &Credential,
    request: &ReportGoneRequest,
) -> Result<Told, String> {
    let call = async {
        let connection = transport::connect(address, credential.clone())
            .await
            .map_err(|error| format!("{address}: {error}"))?;
        match SessionsClient::new(connection).report_gone(request.clone()).await {
            Ok(_) => Ok(Told::Ended),
            Err(status) if status.code() == Code::FailedPrecondition => {
                Ok(Told::Refused(status.message().to_owned()))
            }
            Err(status) => Err(format!("{address}: {}", status.message())),
        }
    };
    let answer = tokio::time::timeout(ANSWER_MAX, call).await;
    answer.unwrap_or_else(|_| Err(format!("{address}: no answer")))
}
