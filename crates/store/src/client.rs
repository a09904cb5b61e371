//! A thin layer over `etcd-client`: every call bounded in time, every error sorted by whether the
//! request was applied.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{
    PbKeyValue, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse, PbRangeResponse, PbResponseOp,
    PbTxnOpResponse,
};
use etcd_client::{
    Channel, Client, ClusterClient, ConnectOptions, Error as EtcdError, GetOptions, KvClient,
    LeaseClient, MaintenanceClient, Txn, WatchClient,
};
use flyball_pki::LiveIdentity;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use crate::error::StoreError;
use crate::store::StoreOptions;
use crate::tls;

/// Longest answer that is decoded. A page of a snapshot is the largest one: [`PAGE_KEYS`] values
/// of ordinary size, or at the very worst etcd's 1.5 MiB each.
///
/// [`PAGE_KEYS`]: crate::snapshot::PAGE_KEYS
const ANSWER_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Bound on connecting to one endpoint; beyond it another one is tried by the next request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// HTTP/2 pings on a connection with open streams. etcd counts pings below 5 s as abuse.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a renewal of a lease found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// The lease lives for `ttl` from when the renewal was sent.
    Renewed {
        /// Granted time to live, whole seconds.
        ttl: Duration,
    },
    /// The lease is gone, with all its keys, for good.
    Lost,
}

/// The clients of one store.
#[derive(Clone)]
pub(crate) struct Etcd {
    kv: KvClient,
    lease: LeaseClient,
    watch: WatchClient,
    maintenance: MaintenanceClient,
    cluster: ClusterClient,
    /// For keep-alives, which must not queue behind pages of a snapshot.
    lease_channel: Channel,
    timeout: Duration,
    /// What other members are shown when they are asked.
    identity: Option<Arc<LiveIdentity>>,
}

impl Etcd {
    /// Clients over ready channels; the second one carries the leases.
    pub(crate) async fn new(
        channel: Channel,
        lease_channel: Channel,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        // Streams are cut when the member has no leader, instead of being silent for ever.
        let connect = ConnectOptions::new().with_require_leader(true);
        let client = Client::from_channel(channel, Some(connect.clone())).await?;
        let leases = Client::from_channel(lease_channel.clone(), Some(connect)).await?;
        Ok(Self {
            kv: client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX),
            watch: client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX),
            maintenance: client.maintenance_client(),
            cluster: client.cluster_client(),
            lease: leases.lease_client(),
            lease_channel,
            timeout: options.request_timeout,
            identity: None,
        })
    }

    /// Clients of the given endpoints, connected when first used.
    pub(crate) async fn connect(
        endpoints: &[String],
        identity: Option<Arc<LiveIdentity>>,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        if endpoints.iter().any(|url| tls::is_encrypted(url)) {
            let encrypted = tls::Encrypted::new(endpoints, identity.clone())?;
            let made = Self::new(encrypted.channel()?, encrypted.channel()?, options).await?;
            return Ok(Self { identity, ..made });
        }
        let endpoints = endpoints.iter().map(|url| endpoint(url)).collect::<Result<Vec<_>, _>>()?;
        let connect = || match &endpoints[..] {
            [] => Err(StoreError::Refused { why: "no endpoint is given".to_owned() }),
            [only] => Ok(Channel::Tonic(only.connect_lazy())),
            several => {
                Ok(Channel::Tonic(tonic::transport::Channel::balance_list(several.iter().cloned())))
            }
        };
        Self::new(connect()?, connect()?, options).await
    }

    /// Runs a call, bounded.
    pub(crate) async fn call<T>(
        &self,
        call: impl Future<Output = Result<T, EtcdError>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(answer) => answer.map_err(StoreError::from),
            Err(_) => Err(StoreError::timed_out(self.timeout)),
        }
    }

    /// Runs a transaction.
    pub(crate) async fn txn(&self, txn: Txn) -> Result<TxnAnswer, StoreError> {
        let mut kv = self.kv.clone();
        let answer = self.call(kv.txn(txn)).await?.0;
        let revision = answer.header.map_or(0, |header| header.revision);
        Ok(TxnAnswer { revision, succeeded: answer.succeeded, responses: answer.responses })
    }

    /// Reads a range.
    pub(crate) async fn range(
        &self,
        key: Vec<u8>,
        options: GetOptions,
    ) -> Result<PbRangeResponse, StoreError> {
        let revision_error = |error: EtcdError| {
            let compacted = crate::error::is_compacted(&error);
            if compacted { StoreError::Compacted { revision: 0 } } else { error.into() }
        };
        let mut kv = self.kv.clone();
        match tokio::time::timeout(self.timeout, kv.get(key, Some(options))).await {
            Ok(answer) => answer.map(|answer| answer.0).map_err(|e| revision_error(e).of_read()),
            Err(_) => Err(StoreError::timed_out(self.timeout).of_read()),
        }
    }

    /// Reads one key.
    pub(crate) async fn get(&self, key: Vec<u8>) -> Result<Option<PbKeyValue>, StoreError> {
        Ok(self.range(key, GetOptions::new()).await?.kvs.pop())
    }

    /// Grants a lease; returns its id and the granted time to live.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), StoreError> {
        // Rounded up: a lease must not be shorter than asked for.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).max(1);
        let mut lease = self.lease.clone();
        let granted = self.call(lease.grant(seconds, None)).await?;
        if granted.ttl() <= 0 {
            return Err(StoreError::Refused { why: format!("lease: {}", granted.error()) });
        }
        Ok((granted.id(), ttl_of(granted.ttl())))
    }

    /// Revokes a lease with all its keys; one that is gone already is no error.
    pub(crate) async fn revoke(&self, id: i64) -> Result<(), StoreError> {
        let mut lease = self.lease.clone();
        match self.call(lease.revoke(id)).await {
            Ok(_) | Err(StoreError::LeaseLost { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Remaining and granted time of a lease; `None` if it does not exist.
    pub(crate) async fn time_to_live(
        &self,
        id: i64,
    ) -> Result<Option<(Duration, Duration)>, StoreError> {
        let mut lease = self.lease.clone();
        match self.call(lease.time_to_live(id, None)).await {
            Ok(answer) if answer.ttl() <= 0 => Ok(None),
            Ok(answer) => Ok(Some((ttl_of(answer.ttl()), ttl_of(answer.granted_ttl())))),
            Err(StoreError::LeaseLost { .. }) => Ok(None),
            Err(error) => Err(error.of_read()),
        }
    }

    /// Renews a lease once: this call's own request, sent now, and its own answer. (`etcd-client`
    /// keeps the granted time of the first answer to itself, hence the call by hand.)
    pub(crate) async fn keep_alive(&self, id: i64) -> Result<KeepAlive, StoreError> {
        match tokio::time::timeout(self.timeout, keep_alive(self.lease_channel.clone(), id)).await {
            Ok(answer) => answer,
            Err(_) => Err(StoreError::timed_out(self.timeout)),
        }
    }

    pub(crate) fn identity(&self) -> Option<Arc<LiveIdentity>> {
        self.identity.clone()
    }

    pub(crate) fn watch_client(&self) -> WatchClient {
        self.watch.clone()
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient {
        self.maintenance.clone()
    }

    pub(crate) fn cluster(&self) -> ClusterClient {
        self.cluster.clone()
    }
}

/// The answer to a transaction, taken apart without copying.
pub(crate) struct TxnAnswer {
    pub(crate) revision: i64,
    pub(crate) succeeded: bool,
    pub(crate) responses: Vec<PbResponseOp>,
}

/// The key-value pairs of each answered range, in order; other answers are skipped.
pub(crate) fn ranges(responses: Vec<PbResponseOp>) -> impl Iterator<Item = Vec<PbKeyValue>> {
    responses.into_iter().filter_map(|op| match op.response {
        Some(PbTxnOpResponse::ResponseRange(range)) => Some(range.kvs),
        _ => None,
    })
}

fn ttl_of(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

async fn keep_alive(channel: Channel, id: i64) -> Result<KeepAlive, StoreError> {
    let mut grpc = tonic::client::Grpc::new(channel);
    let not_ready = |error: tower::BoxError| StoreError::from(tonic::Status::from_error(error));
    grpc.ready().await.map_err(not_ready)?;
    let mut request = tonic::Request::new(tokio_stream::once(PbLeaseKeepAliveRequest { id }));
    let required = AsciiMetadataValue::from_static("true");
    request.metadata_mut().insert("hasleader", required);
    let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
    let codec = ProstCodec::<PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse>::default();
    let mut answers = match grpc.streaming(request, path, codec).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return lost_or(status),
    };
    match answers.message().await {
        Ok(Some(answer)) if answer.ttl > 0 => Ok(KeepAlive::Renewed { ttl: ttl_of(answer.ttl) }),
        Ok(Some(_)) => Ok(KeepAlive::Lost),
        Ok(None) => Err(StoreError::bad_answer("the keep-alive stream ended unanswered")),
        Err(status) => lost_or(status),
    }
}

fn lost_or(status: tonic::Status) -> Result<KeepAlive, StoreError> {
    match StoreError::from(status) {
        StoreError::LeaseLost { .. } => Ok(KeepAlive::Lost),
        error => Err(error),
    }
}

pub(crate) fn endpoint(url: &str) -> Result<Endpoint, StoreError> {
    let full = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let endpoint = Endpoint::from_shared(full)
        .map_err(|error| StoreError::Refused { why: format!("{url}: {error}") })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .tcp_nodelay(true))
}
