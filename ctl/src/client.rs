//! The clients of a scheduler's services over one connection, and the address that is found without
//! being asked for.

pub use flyball_proto::transport::Address;
use flyball_proto::transport::{self, Connection, Credential};
use flyball_proto::v1::access_client::AccessClient;
use flyball_proto::v1::audit_client::AuditClient;
use flyball_proto::v1::budgets_client::BudgetsClient;
use flyball_proto::v1::certificates_client::CertificatesClient;
use flyball_proto::v1::definitions_client::DefinitionsClient;
use flyball_proto::v1::events_client::EventsClient;
use flyball_proto::v1::logs_client::LogsClient;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::nodes_client::NodesClient;
use flyball_proto::v1::quotas_client::QuotasClient;
use flyball_proto::v1::secrets_client::SecretsClient;
use flyball_proto::v1::server_client::ServerClient;

use crate::paths;

/// Largest answer that is accepted: a list of 10,000 loops of some KiB each.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The socket of `flyball up` for this user; `None` when no home directory is known.
pub fn address_of_this_user() -> Option<Address> {
    paths::data_dir().map(|dir| Address::Unix(paths::scheduler_socket(&dir)))
}

/// One client per service, all over one connection. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Loops and claims.
    pub loops: LoopsClient<Connection>,
    /// Nodes.
    pub nodes: NodesClient<Connection>,
    /// Events.
    pub events: EventsClient<Connection>,
    /// Output of agents and checks.
    pub logs: LogsClient<Connection>,
    /// Roles and bindings.
    pub access: AccessClient<Connection>,
    /// Who did what.
    pub audit: AuditClient<Connection>,
    /// Providers, model routes, agents and budgets.
    pub definitions: DefinitionsClient<Connection>,
    /// Secrets.
    pub secrets: SecretsClient<Connection>,
    /// Budgets.
    pub budgets: BudgetsClient<Connection>,
    /// Quotas of providers.
    pub quotas: QuotasClient<Connection>,
    /// Certificates, and join tokens for them.
    pub certificates: CertificatesClient<Connection>,
    /// The server itself.
    pub server: ServerClient<Connection>,
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answers; may be tried again.
    #[error("no scheduler answers at {address}: {cause}")]
    Unreachable {
        /// The address that was tried.
        address: Address,
        /// What the operating system said.
        cause: String,
    },
    /// The operating system refuses this user; trying again does not help.
    #[error("you may not use the scheduler at {address}: {cause}")]
    Denied {
        /// The address that was tried.
        address: Address,
        /// What the operating system said.
        cause: String,
    },
}

/// Connects to a scheduler.
///
/// # Errors
/// [`ConnectError`] when nobody answers in time.
pub async fn connect(address: &Address, credential: Credential) -> Result<Clients, ConnectError> {
    let connection = transport::connect(address, credential).await.map_err(|error| {
        let (root, address) = (root_cause(&error), address.clone());
        let cause = root.to_string();
        match root.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
            Some(std::io::ErrorKind::PermissionDenied) => ConnectError::Denied { address, cause },
            _ => ConnectError::Unreachable { address, cause },
        }
    })?;
    Ok(Clients::over(connection))
}

impl Clients {
    fn over(connection: Connection) -> Self {
        let loops = LoopsClient::new(connection.clone());
        let nodes = NodesClient::new(connection.clone());
        Self {
            loops: loops.max_decoding_message_size(ANSWER_BYTES_MAX),
            nodes: nodes.max_decoding_message_size(ANSWER_BYTES_MAX),
            events: EventsClient::new(connection.clone()),
            logs: LogsClient::new(connection.clone()),
            access: AccessClient::new(connection.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            audit: AuditClient::new(connection.clone()).max_decoding_message_size(ANSWER_BYTES_MAX),
            definitions: DefinitionsClient::new(connection.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            secrets: SecretsClient::new(connection.clone()),
            budgets: BudgetsClient::new(connection.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            quotas: QuotasClient::new(connection.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            certificates: CertificatesClient::new(connection.clone())
                .max_decoding_message_size(ANSWER_BYTES_MAX),
            server: ServerClient::new(connection),
        }
    }
}

/// The innermost error: transports wrap "no such file" in layers that say nothing.
fn root_cause<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> &'e (dyn std::error::Error + 'static) {
    let mut cause = error;
    // Bounded against an error that is its own source.
    for _ in 0..16 {
        let Some(inner) = cause.source() else { break };
        cause = inner;
    }
    cause
}
