//! Leadership: a lease and a key that is created only while absent. The key's create revision is
//! the fence that every write of the leader compares, so a deposed leader can do no harm however
//! late it wakes up. (etcd's own Election calls are not used: their answers do not fence.)

use std::time::Duration;

use etcd_client::proto::PbKeyValue;
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use flyball_core::planted::{self, Bug};

use crate::client::{KeepAlive, ranges};
use crate::error::StoreError;
use crate::keys;
use crate::loops::stored;
use crate::store::Store;
use crate::values::{LeaderRecord, Stored};

/// A won election. It is what every write of the leader compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// Create revision of the leader's key; a view to lead from must be at least this new.
    pub create_revision: i64,
    /// The lease the key is bound to.
    pub lease: i64,
    /// Granted time to live of the lease.
    pub ttl: Duration,
}

impl Leadership {
    /// True in a transaction only while this leadership lasts.
    pub(crate) fn holds(&self) -> Compare {
        if planted::is(Bug::LeaderUnfenced) {
            return Compare::create_revision(keys::LEADER, CompareOp::Greater, -1);
        }
        Compare::create_revision(keys::LEADER, CompareOp::Equal, self.create_revision)
    }
}

/// The outcome of a campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Campaign {
    /// This scheduler leads.
    Won(Leadership),
    /// Another one leads; watch its key and try again when it goes.
    Held(Stored<LeaderRecord>),
}

impl Store {
    /// Tries once to become the leader for `ttl` (whole seconds, at least what the server allows).
    ///
    /// # Errors
    /// Those of the transport. An unknown outcome is read back here; if that fails too, the lease
    /// left behind ends by itself.
    pub async fn campaign(
        &self,
        record: &LeaderRecord,
        ttl: Duration,
    ) -> Result<Campaign, StoreError> {
        if let Some(kv) = self.etcd.get(keys::LEADER.into()).await? {
            if kv.lease != 0 {
                return Ok(Campaign::Held(decode(&kv)?));
            }
            self.remove_detached_leader(&kv).await?;
        }
        let (lease, ttl) = self.etcd.grant(ttl).await?;
        let outcome = self.create_leader(record, lease, ttl).await;
        if !matches!(outcome, Ok(Campaign::Won(_))) {
            // Nothing of ours may linger; if this fails as well the lease ends by itself.
            let _ = self.etcd.revoke(lease).await;
        }
        outcome
    }

    /// Removes a leader's key that somebody put without its lease: it would outlive its leader and
    /// nobody could lead any more. If that leader is alive, its writes are refused from then on.
    async fn remove_detached_leader(&self, kv: &PbKeyValue) -> Result<(), StoreError> {
        tracing::warn!(revision = kv.mod_revision, "a leader's key without a lease is removed");
        let same = Compare::mod_revision(keys::LEADER, CompareOp::Equal, kv.mod_revision);
        let txn = Txn::new().when([same]).and_then([TxnOp::delete(keys::LEADER, None)]);
        // Refused or applied: what comes next finds out.
        self.etcd.txn(txn).await.map(drop)
    }

    async fn create_leader(
        &self,
        record: &LeaderRecord,
        lease: i64,
        ttl: Duration,
    ) -> Result<Campaign, StoreError> {
        let key = keys::LEADER;
        let bound = PutOptions::new().with_lease(lease);
        let txn = Txn::new()
            .when([Compare::create_revision(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, record.encode(), Some(bound))])
            .or_else([TxnOp::get(key, None)]);
        let found = match self.etcd.txn(txn).await {
            Ok(answer) if answer.succeeded => {
                let create_revision = answer.revision;
                return Ok(Campaign::Won(Leadership { create_revision, lease, ttl }));
            }
            Ok(answer) => ranges(answer.responses).next().and_then(|mut kvs| kvs.pop()),
            Err(error) if error.is_unknown() => self.etcd.get(key.into()).await?,
            Err(error) => return Err(error),
        };
        match found {
            Some(kv) if kv.lease == lease => {
                let create_revision = kv.create_revision;
                Ok(Campaign::Won(Leadership { create_revision, lease, ttl }))
            }
            Some(kv) => Ok(Campaign::Held(decode(&kv)?)),
            None => Err(StoreError::Unavailable { why: "the election is undecided".to_owned() }),
        }
    }

    /// Who leads now.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value.
    pub async fn leader(&self) -> Result<Option<Stored<LeaderRecord>>, StoreError> {
        self.etcd.get(keys::LEADER.into()).await?.map(|kv| decode(&kv)).transpose()
    }

    /// Renews the leadership's lease; see [`Store::keep_alive`] for what the outcomes mean.
    ///
    /// # Errors
    /// Not knowing; the old deadline keeps running.
    pub async fn renew_leadership(&self, leadership: &Leadership) -> Result<KeepAlive, StoreError> {
        self.etcd.keep_alive(leadership.lease).await
    }

    /// Gives the leadership up, so that another scheduler can lead at once.
    ///
    /// # Errors
    /// Those of the transport; the lease then ends by itself.
    pub async fn resign(&self, leadership: &Leadership) -> Result<(), StoreError> {
        let key = keys::LEADER;
        let ours = Compare::create_revision(key, CompareOp::Equal, leadership.create_revision);
        // Deleted by name first: a key that lost its lease would outlive the revocation.
        let txn = Txn::new().when([ours]).and_then([TxnOp::delete(key, None)]);
        let deleted = self.etcd.txn(txn).await;
        self.etcd.revoke(leadership.lease).await?;
        deleted.map(drop)
    }
}

pub(crate) fn decode(kv: &PbKeyValue) -> Result<Stored<LeaderRecord>, StoreError> {
    let record = LeaderRecord::decode(&kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, record))
}
