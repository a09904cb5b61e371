//! The session: one stream to the leader, kept up for as long as the incarnation lives. A stream
//! that breaks changes nothing about ownership; runs go on and are adopted on the next one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flyball_core::ids::{InstallationId, LoopKey, LoopUid, Token};
use flyball_core::lease::{BootInstant, LeaseClock, Margins};
use flyball_proto::transport::Address;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{
    Assign, NodeMessage, Refused, Register, Registered, SchedulerMessage, node_message,
    scheduler_message,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::incarnation::{Grant, Life, LifeEnd};
use crate::link::{OUTBOX_MESSAGES_MAX, RunId};
use crate::route::{Route, Tried};
use crate::runs::Assignment;

/// Longest wait for a stream, and then for the answer to a registration.
const REGISTER_MAX: Duration = Duration::from_secs(5);

/// Why a stream did not come up or went down.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error("cannot connect to {address}: {message}")]
    Connect { address: String, message: String },
    #[error("the stream to {address} ended: {message}")]
    Closed { address: String, message: String },
    #[error("{address} does not lead")]
    NotLeader { address: String, leader: Option<Address> },
    #[error("refused for good: {0:?}")]
    Final(LifeEnd),
}

/// Keeps a session up until the life ends.
pub(crate) async fn keep(life: Arc<Life>) {
    let mut told = BTreeMap::new();
    let mut route = Route::new(&life.config.schedulers);
    loop {
        let address = route.next();
        let mut was_up = false;
        let end = attach(&life, &address, route.unusable(), &mut was_up).await;
        life.link.detach();
        let pause = match &end {
            StreamEnd::Final(end) => return life.finish(end.clone()),
            StreamEnd::NotLeader { leader: Some(leader), .. } if !was_up => {
                route.on_end(&address, Tried::Redirected(leader))
            }
            other => {
                complain(&mut told, &address, other.to_string());
                route.on_end(&address, if was_up { Tried::Lost } else { Tried::Failed })
            }
        };
        let jitter = 0.5 + life.ground.jitter() / 2.0;
        tokio::time::sleep(pause.mul_f64(jitter)).await;
    }
}

/// What was said last of each scheduler; as many as are configured and named as leaders.
type Told = BTreeMap<String, String>;

/// Says what is wrong with a scheduler once, and again only when it is something else.
fn complain(told: &mut Told, address: &Address, what: String) {
    let before = told.insert(address.to_string(), what.clone());
    if before.is_some_and(|before| before == what) {
        tracing::debug!("session: {what}");
    } else {
        tracing::warn!("no session: {what}; trying again");
    }
}

async fn attach(
    life: &Arc<Life>,
    address: &Address,
    unusable: String,
    was_up: &mut bool,
) -> StreamEnd {
    let closed = |message: String| StreamEnd::Closed { address: address.to_string(), message };
    let (outbox, stream) = mpsc::channel::<NodeMessage>(OUTBOX_MESSAGES_MAX);
    // The lease's clock starts at the scheduler after this moment, never before it.
    let sent = life.ground.boottime();
    let register = Register { unusable, ..register(life) };
    // Whoever takes the call and never answers must not keep the worker from trying others.
    let opened = tokio::time::timeout(REGISTER_MAX, open(life, address, register, &outbox, stream));
    let mut inbound = match opened.await {
        Ok(Ok(inbound)) => inbound,
        Ok(Err(end)) => return end,
        Err(_) => return closed("no answer to the call in time".to_owned()),
    };
    let first = match tokio::time::timeout(REGISTER_MAX, inbound.message()).await {
        Ok(Ok(Some(message))) => message,
        Ok(Ok(None)) => return closed("no answer to the registration".to_owned()),
        Ok(Err(status)) => return closed(status.to_string()),
        Err(_) => return closed("no answer to the registration in time".to_owned()),
    };
    match first.message {
        Some(scheduler_message::Message::Registered(registered)) => {
            on_registered(life, &registered, sent);
        }
        Some(scheduler_message::Message::Refused(refused)) => return on_refused(address, refused),
        _ => return closed("the first answer was neither Registered nor Refused".to_owned()),
    }
    tracing::info!(%address, node = %life.config.node, "session is up");
    *was_up = true;
    life.link.attach(outbox);
    receive(life, address, &mut inbound, closed).await
}

async fn open(
    life: &Life,
    address: &Address,
    register: Register,
    outbox: &mpsc::Sender<NodeMessage>,
    stream: mpsc::Receiver<NodeMessage>,
) -> Result<Streaming<SchedulerMessage>, StreamEnd> {
    let failed = |message: String| StreamEnd::Connect { address: address.to_string(), message };
    let connection = life
        .ground
        .connect(address, life.config.credential.clone())
        .await
        .map_err(|error| failed(chain(&error)))?;
    let register = NodeMessage { message: Some(node_message::Message::Register(register)) };
    // The channel is new and empty.
    let _ = outbox.try_send(register);
    let answer = SessionsClient::new(connection).attach(ReceiverStream::new(stream)).await;
    answer.map(tonic::Response::into_inner).map_err(|status| failed(status.to_string()))
}

/// An error with its causes: the transport's own text says only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn register(life: &Life) -> Register {
    let grant = life.grant.borrow().clone();
    let seen = life.mark.seen();
    Register {
        node: life.config.node.to_string(),
        incarnation: life.id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        // Plain data; serialising it cannot fail.
        facts_json: serde_json::to_vec(&life.facts).unwrap_or_default().into(),
        lease_id: grant.map_or(0, |grant| grant.lease),
        ttl_seconds: life.config.ttl_seconds.unwrap_or(0),
        runs: life.runs.live(),
        replaces: life.replaces.as_ref().map(ToString::to_string).unwrap_or_default(),
        unusable: String::new(),
        token_mark: seen.token,
        installation: seen.installation,
    }
}

/// The first registration of a life grants its lease; later ones find it as it is.
fn on_registered(life: &Life, registered: &Registered, sent: BootInstant) {
    if life.grant.borrow().is_some() {
        return;
    }
    let margins =
        Margins { drift_ppm: life.config.drift_ppm, kill_budget: life.config.kill_budget };
    let clock = LeaseClock::granted(margins, sent, registered.ttl_seconds, life.ground.boottime());
    if !life.deadline.extend(clock.deadline()) {
        // An answer that came too late to be of use; the clock says so to the heartbeats.
        tracing::warn!("the lease was granted too late");
    }
    let (granted, asked) = (registered.ttl_seconds, life.config.ttl_seconds);
    let usable = sent.until(clock.deadline());
    if usable < Duration::from_secs(granted.unsigned_abs()) / 2 {
        tracing::warn!(
            granted,
            ?usable,
            "of the lease less than half can be used: lower --kill-budget and --clock-drift, or raise the scheduler's --session-ttl"
        );
    }
    if asked.is_some_and(|asked| asked != granted) {
        tracing::warn!(
            granted,
            asked,
            "the lease's time to live is not the one asked for: the scheduler's --session-ttl or etcd's minimum wins"
        );
    } else {
        tracing::info!(granted, "the lease is granted, seconds");
    }
    life.mark.on_installation(&registered.installation);
    let installation = InstallationId(registered.installation.clone());
    life.runs.set_installation(installation);
    life.grant.send_replace(Some(Grant {
        lease: registered.lease_id,
        ttl_seconds: registered.ttl_seconds,
        clock,
    }));
}

fn on_refused(address: &Address, refused: Refused) -> StreamEnd {
    match refused.reason.as_str() {
        "not-leader" => StreamEnd::NotLeader {
            address: address.to_string(),
            leader: refused.leader.parse().ok(),
        },
        "lost" => StreamEnd::Final(LifeEnd::LeaseLost(refused.message)),
        "duplicate" => StreamEnd::Final(LifeEnd::Duplicate {
            message: refused.message,
            left: Duration::from_secs(refused.wait_seconds.try_into().unwrap_or(0)),
        }),
        other => StreamEnd::Closed {
            address: address.to_string(),
            message: format!("refused: {other}: {}", refused.message),
        },
    }
}

fn on_assign(life: &Arc<Life>, assign: Assign) {
    let id = RunId {
        key: LoopKey::new(assign.namespace.clone(), assign.name.clone()),
        uid: LoopUid(assign.uid.clone()),
        token: Token(assign.token),
    };
    life.mark.on_token(id.token);
    match Assignment::read(assign) {
        Ok(assignment) => life.runs.assign(assignment),
        // Handed back, or the loop would stay assigned to a node that does nothing about it.
        Err(error) => {
            let why = error.to_string();
            tracing::error!(run = %id.key, token = %id.token, why, "unreadable assignment");
            let link = life.link.clone();
            tokio::spawn(async move {
                // Refused: somebody else owns it already.
                let _ = link.unreadable(&id, &why).await;
            });
        }
    }
}

async fn receive(
    life: &Arc<Life>,
    address: &Address,
    inbound: &mut Streaming<SchedulerMessage>,
    closed: impl Fn(String) -> StreamEnd,
) -> StreamEnd {
    loop {
        let message = match inbound.message().await {
            Ok(Some(message)) => message.message,
            Ok(None) => return closed("closed by the scheduler".to_owned()),
            Err(status) => return closed(status.to_string()),
        };
        match message {
            Some(scheduler_message::Message::Assign(assign)) => on_assign(life, assign),
            Some(scheduler_message::Message::StopRun(stop)) => life.runs.stop(&stop),
            Some(scheduler_message::Message::Ack(ack)) => life.link.on_ack(ack),
            Some(scheduler_message::Message::LogRequest(request)) => life.runs.serve_logs(request),
            Some(scheduler_message::Message::Refused(refused)) => {
                return on_refused(address, refused);
            }
            Some(scheduler_message::Message::Registered(_)) | None => {}
        }
    }
}
