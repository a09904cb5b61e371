//! Looking at the store for its operator: members and their state, and how long leases and writes
//! take now. Nothing here is state of Flyball, and nothing decides by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{PutOptions, Txn, TxnOp};
use flyball_pki::LiveIdentity;

use crate::client::{Etcd, KeepAlive};
use crate::error::StoreError;
use crate::store::{Store, StoreOptions};

/// Longest wait for one member: a healthy one answers in milliseconds.
const MEMBER_TIMEOUT: Duration = Duration::from_secs(2);

/// Members that are asked; etcd itself advises against more than seven.
const MEMBERS_MAX: usize = 9;

/// Where measured writes go: beside the state of all installations, so that no watch of a scheduler
/// is woken by them, under a random name each and a lease that removes them.
const PROBE_PREFIX: &str = "/flyball/probe/";

/// Time to live of the measured lease: it is revoked at the end, and ends by itself if that fails.
const PROBE_TTL: Duration = Duration::from_secs(10);

/// Writes that are measured: enough for a median, few enough for a store in trouble.
const PROBE_WRITES: usize = 12;

/// What a member, or the embedded store, says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// Version of the server.
    pub version: String,
    /// Newest revision of the answering member.
    pub revision: i64,
    /// Bytes of its database file.
    pub db_bytes: i64,
    /// Bytes of it that are in use; 0 if not told.
    pub db_bytes_in_use: i64,
    /// Bound on its database file, 0 if not told (before etcd 3.6).
    pub quota_bytes: i64,
    /// The answering member.
    pub member: u64,
    /// The member that leads, 0 if none.
    pub leader: u64,
    /// Alarms and other complaints in the server's words.
    pub errors: Vec<String>,
}

/// A member of the store's cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty before its first start.
    pub name: String,
    /// Where it says that clients reach it.
    pub urls: Vec<String>,
    /// What it says of itself, asked directly; `None` if it names no address.
    pub status: Option<Result<StoreStatus, StoreError>>,
}

/// How long things take, measured now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Granting a lease.
    pub grant: Duration,
    /// Renewing it.
    pub keep_alive: Duration,
    /// Revoking it.
    pub revoke: Duration,
    /// Small durable writes, sorted, shortest first.
    pub writes: Vec<Duration>,
    /// A linearizable read, which takes a quorum.
    pub read: Duration,
}

impl Store {
    /// Asks the server who it is and how far it has got.
    ///
    /// # Errors
    /// Those of the transport; always safe to repeat.
    pub async fn status(&self) -> Result<StoreStatus, StoreError> {
        status_of(&self.etcd).await
    }

    /// The members of the cluster, each asked directly and bounded in time.
    ///
    /// # Errors
    /// Those of the transport, if not even the list can be had.
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let mut cluster = self.etcd.cluster();
        let answer = self.etcd.call(cluster.member_list()).await.map_err(StoreError::of_read)?;
        let mut asked = tokio::task::JoinSet::new();
        for (at, member) in answer.members().iter().take(MEMBERS_MAX).enumerate() {
            let urls = member.client_urls().to_vec();
            let (id, name) = (member.id(), member.name().to_owned());
            let identity = self.etcd.identity();
            asked.spawn(async move {
                let status = if urls.is_empty() { None } else { Some(ask(&urls, identity).await) };
                (at, Member { id, name, urls, status })
            });
        }
        let mut members = asked.join_all().await;
        members.sort_by_key(|(at, _)| *at);
        Ok(members.into_iter().map(|(_, member)| member).collect())
    }

    /// Grants a short lease, renews it, makes some small writes under it, and revokes it.
    ///
    /// # Errors
    /// The first thing that failed; what is left behind ends with the lease.
    pub async fn measure(&self) -> Result<Measured, StoreError> {
        let begun = Instant::now();
        let (lease, _) = self.etcd.grant(PROBE_TTL).await?;
        let mut measured = Measured { grant: begun.elapsed(), ..Measured::default() };
        let done = self.measure_under(lease, &mut measured).await;
        let begun = Instant::now();
        let revoked = self.etcd.revoke(lease).await;
        measured.revoke = begun.elapsed();
        done.and(revoked)?;
        measured.writes.sort();
        Ok(measured)
    }

    async fn measure_under(&self, lease: i64, measured: &mut Measured) -> Result<(), StoreError> {
        let begun = Instant::now();
        if self.etcd.keep_alive(lease).await? == KeepAlive::Lost {
            return Err(StoreError::LeaseLost { why: "just granted, and gone".to_owned() });
        }
        measured.keep_alive = begun.elapsed();
        let key = format!("{PROBE_PREFIX}{}", uuid::Uuid::new_v4().simple());
        for number in 0..PROBE_WRITES {
            let bound = PutOptions::new().with_lease(lease);
            let put = TxnOp::put(key.as_str(), number.to_string(), Some(bound));
            let begun = Instant::now();
            self.etcd.txn(Txn::new().and_then([put])).await?;
            measured.writes.push(begun.elapsed());
        }
        let begun = Instant::now();
        self.etcd.get(key.into_bytes()).await?;
        measured.read = begun.elapsed();
        Ok(())
    }
}

async fn ask(
    urls: &[String],
    identity: Option<Arc<LiveIdentity>>,
) -> Result<StoreStatus, StoreError> {
    let options = StoreOptions { request_timeout: MEMBER_TIMEOUT, ..StoreOptions::default() };
    // One address is enough, and a connection of one's own says which member answered.
    let etcd = Etcd::connect(&urls[..1], identity, &options).await?;
    status_of(&etcd).await
}

async fn status_of(etcd: &Etcd) -> Result<StoreStatus, StoreError> {
    let mut maintenance = etcd.maintenance();
    let answer = etcd.call(maintenance.status()).await.map_err(StoreError::of_read)?;
    let header = answer.header();
    Ok(StoreStatus {
        version: answer.version().to_owned(),
        revision: header.map_or(0, etcd_client::ResponseHeader::revision),
        db_bytes: answer.db_size(),
        db_bytes_in_use: answer.raft_used_db_size(),
        quota_bytes: answer.db_size_quota(),
        member: header.map_or(0, etcd_client::ResponseHeader::member_id),
        leader: answer.leader(),
        errors: answer.errors().to_vec(),
    })
}
