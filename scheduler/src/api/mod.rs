//! The gRPC services. Handlers check and translate; what they decide on is the store's transactions
//! and the reactor's view.

mod access;
mod apply;
mod audit;
mod budgets;
mod certificates;
mod definitions;
mod documents;
pub(crate) mod error;
mod events;
mod gone;
mod heartbeat;
mod joining;
mod leases;
mod logs;
mod loops;
mod marks;
mod models;
mod nodes;
mod quotas;
mod reports;
mod route;
mod seals;
mod secrets;
mod secrets_key;
mod server;
mod sessions;
mod uses;
mod watching;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use flyball_core::ambient::Ambient;
use flyball_core::identity::Identity;
use flyball_core::ids::InstallationId;
use flyball_pki::LiveIdentity;
use flyball_proto::v1::access_server::AccessServer;
use flyball_proto::v1::audit_server::AuditServer;
use flyball_proto::v1::budgets_server::BudgetsServer;
use flyball_proto::v1::certificates_server::CertificatesServer;
use flyball_proto::v1::definitions_server::DefinitionsServer;
use flyball_proto::v1::events_server::EventsServer;
use flyball_proto::v1::join_server::JoinServer;
use flyball_proto::v1::logs_server::LogsServer;
use flyball_proto::v1::loops_server::LoopsServer;
use flyball_proto::v1::models_server::ModelsServer;
use flyball_proto::v1::nodes_server::NodesServer;
use flyball_proto::v1::quotas_server::QuotasServer;
use flyball_proto::v1::secrets_server::SecretsServer;
use flyball_proto::v1::server_server::ServerServer;
use flyball_proto::v1::sessions_server::SessionsServer;
use flyball_store::{Leadership, Store};
use tokio::sync::{Notify, watch};
use tonic::service::Routes;

use crate::access::limit::Limiter;
use crate::access::{Guard, GuardedRoutes, Policies, RevokedList};
use crate::diagnose::Doctor;
use crate::findings::Findings;
use crate::secrets::SecretKeys;
use crate::shell::Handle;
use crate::shell::auditor::Auditor;
use crate::shell::known::Sessions;
use crate::shell::outbox::Outboxes;
use crate::shell::submitter::Submitter;
use crate::signing::Signer;
use crate::tls::Open;

/// Largest request of a client: four times the largest manifest, so that one that is too large is
/// told so by its own limit.
const REQUEST_BYTES_MAX: usize = 4 * flyball_core::manifest::MANIFEST_BYTES_MAX;
/// Largest message of a worker: progress and log chunks stay far below.
const SESSION_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest request of a stranger: a signing request takes a tenth of it.
const JOIN_BYTES_MAX: usize = 16 * 1024;

/// What all services share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) core: Handle,
    pub(crate) submitter: Submitter,
    pub(crate) outboxes: Outboxes,
    pub(crate) logs: logs::LogRouter,
    pub(crate) leadership: watch::Receiver<Option<Leadership>>,
    /// Told when the leader key changes.
    pub(crate) leader_moved: Arc<Notify>,
    pub(crate) about: Arc<About>,
    /// What is wrong with the installation as a whole.
    pub(crate) findings: Findings,
    pub(crate) sessions: Sessions,
    pub(crate) doctor: Arc<Doctor>,
    /// Who may do what.
    pub(crate) policies: Policies,
    /// Who did what.
    pub(crate) auditor: Auditor,
    /// What seals and opens secrets, if there is something.
    pub(crate) secret_keys: Option<SecretKeys>,
    /// Certificates that are not taken any more.
    pub(crate) revoked: RevokedList,
    /// Open connections over TLS.
    pub(crate) open: Open,
    /// What this scheduler shows over TLS, if it listens there.
    pub(crate) identity: Option<Arc<LiveIdentity>>,
    /// What signs certificates, if this scheduler can.
    pub(crate) signer: Option<Signer>,
    /// How often an identity may have its certificate renewed.
    pub(crate) renewing: Arc<Limiter<Identity>>,
}

/// What does not change while the process lives.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) id: String,
    pub(crate) installation: InstallationId,
    /// Where it is reached over TLS; empty if it does not listen there.
    pub(crate) address: String,
    /// `embedded` or `etcd <version>`.
    pub(crate) store: String,
    /// No other scheduler can work on this store.
    pub(crate) alone: bool,
    /// For all nodes, if set.
    pub(crate) session_ttl: Option<Duration>,
    /// The highest revision that the store is known to have reached, by what this process was told itself.
    pub(crate) reached: AtomicI64,
    pub(crate) next_number: AtomicU64,
    pub(crate) ambient: Ambient,
    /// For how long providers count what was used.
    pub(crate) quota_window: Duration,
    /// Who writes budgets and pools now.
    pub(crate) turns: Turns,
    /// Since when what is so of quota pools.
    pub(crate) seen: Seen,
}

impl About {
    /// A number never used before in this process.
    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

pub(crate) use budgets::Turns;
pub(crate) use logs::LogRouter;
pub(crate) use quotas::Seen;

/// All services, each behind the guard.
pub(crate) async fn routes(api: Api) -> Routes {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<LoopsServer<Api>>().await;
    let limit = REQUEST_BYTES_MAX;
    let guard = Guard::new(api.policies.clone(), api.auditor.clone());
    GuardedRoutes::new(guard)
        .with(health, limit)
        .with(LoopsServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(NodesServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(EventsServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(LogsServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(ServerServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(AuditServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(SecretsServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(DefinitionsServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(ModelsServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(BudgetsServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(QuotasServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(
            JoinServer::new(api.clone()).max_decoding_message_size(JOIN_BYTES_MAX),
            JOIN_BYTES_MAX,
        )
        .with(CertificatesServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(AccessServer::new(api.clone()).max_decoding_message_size(limit), limit)
        .with(
            SessionsServer::new(api).max_decoding_message_size(SESSION_BYTES_MAX),
            SESSION_BYTES_MAX,
        )
        .into_routes()
}
