//! Puts the scheduler together and runs it: every part is built here, in one visible sequence.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use flyball_core::ids::InstallationId;
use flyball_core::lease::{TTL_SECONDS_DEFAULT, TTL_SECONDS_MAX, TTL_SECONDS_MIN};
use flyball_proto::renewal;
use flyball_store::{LeaderRecord, Leadership, Store};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access::limit::{Limiter, RENEWAL, RENEWALS};
use crate::access::{AsOwner, Policies, RevokedList};
use crate::api::{self, About, Api, LogRouter, Seen, Turns};
use crate::config::{Bound, Config, RunError, StoreChoice};
use crate::diagnose::Doctor;
use crate::findings::Findings;
use crate::listen::Listener;
use crate::shell::announcer::Announcer;
use crate::shell::auditor::Auditor;
use crate::shell::committer::Committer;
use crate::shell::costs;
use crate::shell::events::{self, Emitter};
use crate::shell::feeder::{Feeder, ListRequest};
use crate::shell::keeper::Keeper;
use crate::shell::known::{Observer, Sessions};
use crate::shell::leadership::Elector;
use crate::shell::outbox::Outboxes;
use crate::shell::prober::Prober;
use crate::shell::submitter::{self, Submitter};
use crate::shell::{Core, Handle};
use crate::signing::renew_own;
use crate::stores;
use crate::tls::Admission;

/// Fenced leader keys waiting to be looked at; the first one ends the term.
const FENCED_MAX: usize = 4;

/// Longest wait for open calls when the scheduler ends.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// Runs a scheduler until `shutdown` resolves. `ready` is called once with the bound addresses, when
/// requests are answered.
///
/// # Errors
/// [`RunError`] when it cannot start, or when its server fails.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()>,
    ready: impl FnOnce(Bound),
) -> Result<(), RunError> {
    if config.listen.is_empty() {
        return Err(RunError::Config("there is no address to listen on".to_owned()));
    }
    if config.signer.is_some() && config.identity().is_none() {
        let message = "signing certificates (--sign-with) needs a listener with TLS (https://)";
        return Err(RunError::Config(message.to_owned()));
    }
    check_ttl("session_ttl", config.session_ttl)?;
    check_ttl("election_ttl", Some(config.election_ttl))?;
    let mut listeners = Vec::with_capacity(config.listen.len());
    let admission = Admission { strangers: config.signer.is_some(), ..Admission::default() };
    for listen in &config.listen {
        listeners.push(Listener::bind(listen, &admission).await?);
    }
    let addresses: Vec<String> =
        listeners.iter().map(|listener| listener.address().to_owned()).collect();
    let opened = Box::pin(stores::open(&config.store)).await?;
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let store = (opened.store.clone(), opened.name.clone());
    let built = Box::pin(build(&config, &addresses, store, (admission, &stop), &mut tasks)).await?;
    let routes = api::routes(built.api).await;
    let mut servers = JoinSet::new();
    for listener in listeners {
        servers.spawn(listener.serve(routes.clone(), stop.clone().cancelled_owned()));
    }
    ready(Bound { addresses });
    let ended = tokio::select! {
        biased;
        () = shutdown => Ok(()),
        ended = servers.join_next() => failed(ended),
        error = opened.failed() => Err(error),
    };
    tracing::info!("the scheduler is shutting down");
    stop.cancel();
    // The elector resigns, so that another scheduler need not wait for the lease to end.
    let drained = async {
        let _ = built.elector.await;
        while servers.join_next().await.is_some() {}
    };
    let _ = tokio::time::timeout(DRAIN_MAX, drained).await;
    tasks.shutdown().await;
    opened.close().await;
    ended
}

/// Runs a scheduler over a store that is open already and a network of the caller's, e.g. simulated
/// ones: `serve` gets the services and serves them until it is dropped. Ends when `serve` does; there
/// is no orderly shutdown. `config.advertise` has to be set; where to listen and the choice of a store
/// are not looked at. Requests that carry no `Identity` in their extensions are the owner's: whoever
/// is on that network is trusted by whoever made it.
///
/// # Errors
/// [`RunError`] when it cannot start.
pub async fn run_over<F: Future<Output = ()>>(
    config: Config,
    store: Store,
    serve: impl FnOnce(tonic::service::Routes) -> F,
) -> Result<(), RunError> {
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let name = "given".to_owned();
    let admission = (Admission::default(), &stop);
    let built = Box::pin(build(&config, &[], (store, name), admission, &mut tasks)).await?;
    let routes = api::routes(built.api).await.into_axum_router().layer(AsOwner);
    serve(routes.into()).await;
    Ok(())
}

fn check_ttl(what: &str, ttl: Option<Duration>) -> Result<(), RunError> {
    let bounds = TTL_SECONDS_MIN.unsigned_abs()..=TTL_SECONDS_MAX.unsigned_abs();
    match ttl.map(|ttl| ttl.as_secs()).filter(|seconds| !bounds.contains(seconds)) {
        None => Ok(()),
        Some(seconds) => {
            let message = format!("{what} of {seconds} s is not in {bounds:?} seconds");
            Err(RunError::Config(message))
        }
    }
}

/// A server that ended before it was told to.
fn failed(
    ended: Option<Result<Result<(), RunError>, tokio::task::JoinError>>,
) -> Result<(), RunError> {
    match ended {
        Some(Ok(Err(error))) => Err(error),
        Some(Ok(Ok(()))) | None => Err(RunError::Serve("it ended by itself".to_owned())),
        Some(Err(error)) => Err(RunError::Serve(error.to_string())),
    }
}

struct Built {
    api: Api,
    elector: tokio::task::JoinHandle<()>,
}

async fn build(
    config: &Config,
    addresses: &[String],
    (store, name): (Store, String),
    (admission, stop): (Admission, &CancellationToken),
    tasks: &mut JoinSet<()>,
) -> Result<Built, RunError> {
    let installation = store.installation().await?;
    let ((commits, commit_requests), (lists, list_requests)) =
        (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let (leading, leadership) = watch::channel(None);
    let (fenced_sender, fenced) = mpsc::channel(FENCED_MAX);
    let ((emitter, event_queue), (submitter, submit_queue)) = (Emitter::new(), Submitter::new());
    let (outboxes, findings) = (Outboxes::default(), Findings::default());
    let (sessions, policies) = (Sessions::default(), Policies::default());
    let (leader_moved, ambient) = (Arc::new(Notify::new()), config.ambient.clone());
    let (core_task, core) =
        Core::new(commits, lists, outboxes.clone(), emitter, stop.clone(), ambient);
    let auditor = auditor(config, &store, &findings, tasks);
    tasks.spawn(core_task.run());
    tasks.spawn(events::write(store.clone(), event_queue));
    tasks.spawn(submitter::run(store.clone(), core.clone(), submit_queue));
    let committer = Committer {
        store: store.clone(),
        requests: commit_requests,
        leadership: leadership.clone(),
        fenced: fenced_sender,
        core: core.clone(),
        findings: findings.clone(),
    };
    spawn_committer(committer, config, tasks);
    let (campaigned, decided) = oneshot::channel();
    let election = (leading, fenced, leader_moved.clone(), Some(campaigned));
    let elector = elector(config, addresses, &store, &core, stop, election);
    let elector = tokio::spawn(elector.run());
    let listed = Arc::new(Notify::new());
    let observer = observer(&sessions, &findings, &policies, &admission.revoked);
    let feed = Feed { requests: list_requests, campaigned: decided, observer };
    tasks.spawn(feeder(&store, &core, &leader_moved, &listed, feed).run());
    until_listed(&core, &listed).await?;
    let api = Api {
        store,
        core,
        submitter,
        outboxes,
        logs: LogRouter::default(),
        leadership,
        leader_moved,
        about: Arc::new(about(config, addresses, installation.id, name)),
        findings,
        sessions,
        doctor: Arc::new(doctor(config)),
        policies,
        auditor,
        secret_keys: config.secret_keys.clone(),
        revoked: admission.revoked,
        open: admission.open,
        identity: config.identity(),
        signer: config.signer.clone(),
        renewing: Arc::new(Limiter::new(RENEWAL, RENEWALS)),
    };
    announce(config, &api, tasks);
    tasks.spawn(keeper(&api).run());
    tasks.spawn(prober(&api).run());
    Ok(Built { api, elector })
}

/// Commits, and tells what earlier leaders committed and did not come to tell.
fn spawn_committer(committer: Committer, config: &Config, tasks: &mut JoinSet<()>) {
    let (store, leadership) = (committer.store.clone(), committer.leadership.clone());
    tasks.spawn(costs::at_each_term(store, leadership, config.ambient.clone()));
    tasks.spawn(committer.run());
}

/// Sender of who leads, fenced leader keys, news of the leader key, and who waits for the first campaign.
type Election = (
    watch::Sender<Option<Leadership>>,
    mpsc::Receiver<i64>,
    Arc<Notify>,
    Option<oneshot::Sender<()>>,
);

fn elector(
    config: &Config,
    addresses: &[String],
    store: &Store,
    core: &Handle,
    stop: &CancellationToken,
    (current, fenced, moved, campaigned): Election,
) -> Elector {
    Elector {
        store: store.clone(),
        record: leader_record(config, addresses),
        ttl: config.election_ttl,
        current,
        fenced,
        moved,
        core: core.clone(),
        stop: stop.clone(),
        campaigned,
    }
}

/// What only the feeder has.
struct Feed {
    requests: mpsc::UnboundedReceiver<ListRequest>,
    campaigned: oneshot::Receiver<()>,
    observer: Observer,
}

fn feeder(
    store: &Store,
    core: &Handle,
    leader_moved: &Arc<Notify>,
    listed: &Arc<Notify>,
    feed: Feed,
) -> Feeder {
    Feeder {
        store: store.clone(),
        requests: feed.requests,
        core: core.clone(),
        leader_moved: leader_moved.clone(),
        observer: feed.observer,
        campaigned: feed.campaigned,
        listed: listed.clone(),
    }
}

/// The audit trail's writer, running.
fn auditor(
    config: &Config,
    store: &Store,
    findings: &Findings,
    tasks: &mut JoinSet<()>,
) -> Auditor {
    let (ambient, id) = (config.ambient.clone(), config.id.clone());
    let (auditor, queue) = Auditor::new(findings.clone(), ambient, id);
    tasks.spawn(queue.run(store.clone()));
    auditor
}

fn leader_record(config: &Config, addresses: &[String]) -> LeaderRecord {
    let address = config.advertise.clone().or_else(|| addresses.first().cloned());
    LeaderRecord { id: config.id.clone(), address: address.unwrap_or_default() }
}

/// Keeps this scheduler's own certificate, and says that it can sign others, if it can.
fn announce(config: &Config, api: &Api, tasks: &mut JoinSet<()>) {
    let Some(identity) = &api.identity else { return };
    let (signer, own, store) = (config.signer.clone(), identity.clone(), api.store.clone());
    tasks.spawn(renewal::keep(identity.clone(), move || {
        renew_own(signer.clone(), own.clone(), store.clone())
    }));
    if config.signer.is_none() {
        return;
    }
    let announcer = Announcer {
        store: api.store.clone(),
        id: config.id.clone(),
        address: api.about.address.clone(),
        identity: identity.clone(),
    };
    tasks.spawn(announcer.run());
}

fn observer(
    sessions: &Sessions,
    findings: &Findings,
    policies: &Policies,
    revoked: &RevokedList,
) -> Observer {
    Observer::new(sessions.clone(), findings.clone(), policies.clone(), revoked.clone())
}

fn prober(api: &Api) -> Prober {
    Prober {
        store: api.store.clone(),
        core: api.core.clone(),
        heard: api.sessions.heard().clone(),
        findings: api.findings.clone(),
        leadership: api.leadership.clone(),
    }
}

fn keeper(api: &Api) -> Keeper {
    Keeper {
        store: api.store.clone(),
        findings: api.findings.clone(),
        sessions: api.sessions.clone(),
        leadership: api.leadership.clone(),
        core: api.core.clone(),
    }
}

fn doctor(config: &Config) -> Doctor {
    let ttl = Duration::from_secs(TTL_SECONDS_DEFAULT.unsigned_abs());
    let ttl = config.session_ttl.unwrap_or(ttl);
    Doctor::new(ttl, config.election_ttl, config.ambient.now())
        .with_fixed_ttl(config.session_ttl.is_some())
}

fn about(
    config: &Config,
    addresses: &[String],
    installation: InstallationId,
    store: String,
) -> About {
    let encrypted = |address: &&String| address.starts_with("https://");
    let address = config.advertise.iter().chain(addresses).find(encrypted).cloned();
    About {
        id: config.id.clone(),
        installation,
        address: address.unwrap_or_default(),
        store,
        alone: !matches!(config.store, StoreChoice::Etcd { .. }),
        session_ttl: config.session_ttl,
        reached: AtomicI64::new(0),
        next_number: AtomicU64::new(1),
        ambient: config.ambient.clone(),
        quota_window: config.quota_window,
        turns: Turns::default(),
        seen: Seen::default(),
    }
}

/// Waits for the first listing, so that no request is answered from an empty view. The core may have
/// refused one that was too old; the feeder then makes another.
async fn until_listed(core: &Handle, listed: &Notify) -> Result<(), RunError> {
    let stopped = |_| RunError::Serve("it stopped at its start".to_owned());
    while core.ask(|reactor, _| reactor.revision() == 0).await.map_err(stopped)? {
        listed.notified().await;
    }
    Ok(())
}
