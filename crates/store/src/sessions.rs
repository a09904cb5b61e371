//! Sessions: one lease per incarnation of a worker, and the key that says which incarnation of a
//! node is alive. All claims of the incarnation hang on that lease.

use std::time::Duration;

use etcd_client::proto::PbKeyValue;
use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use flyball_core::ids::{Incarnation, NodeName};

use crate::client::{KeepAlive, ranges};
use crate::error::StoreError;
use crate::keys;
use crate::leadership::Leadership;
use crate::loops::stored;
use crate::store::Store;
use crate::values::{SessionRecord, Stored};

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The incarnation's lease.
    pub lease: i64,
    /// Granted time to live of the lease.
    pub ttl: Duration,
    /// Create revision of the session's key; assignments compare it.
    pub create_revision: i64,
}

/// The outcome of opening a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenSession {
    /// The incarnation is registered.
    Opened(Session),
    /// Another incarnation of that node is alive. If it is proven to be stopped (the new one says
    /// that it replaces it), revoke its lease and open again; otherwise the node is a duplicate.
    Duplicate(Stored<SessionRecord>),
    /// This scheduler does not lead any more.
    Fenced,
}

/// The outcome of adopting a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adopt {
    /// The session is alive; a renewal of its lease was made for this answer.
    Alive(Session),
    /// The incarnation's session is gone; its claims are gone with it.
    Lost,
    /// Another incarnation of that node is alive.
    Replaced(Stored<SessionRecord>),
}

/// The outcome of ending a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndSession {
    /// The lease was revoked, and with it everything bound to it is gone.
    Ended,
    /// The node has no session; nothing was done.
    Gone,
    /// The node's session is of another incarnation or under another lease; nothing was done.
    Other(Stored<SessionRecord>),
}

impl Store {
    /// Registers an incarnation of a node under a new lease of `ttl`.
    ///
    /// # Errors
    /// Those of the transport. An unknown outcome is read back here; if that fails too, the lease
    /// left behind ends by itself.
    pub async fn open_session(
        &self,
        leadership: &Leadership,
        node: &NodeName,
        incarnation: &Incarnation,
        ttl: Duration,
    ) -> Result<OpenSession, StoreError> {
        self.remove_detached_session(leadership, node).await?;
        let (lease, ttl) = self.etcd.grant(ttl).await?;
        let record = SessionRecord { node: node.clone(), incarnation: incarnation.clone(), lease };
        let outcome = self.create_session(leadership, &record, ttl).await;
        if !matches!(outcome, Ok(OpenSession::Opened(_))) {
            // Nothing of ours may linger; if this fails as well the lease ends by itself.
            let _ = self.etcd.revoke(lease).await;
        }
        outcome
    }

    /// Removes a session key that somebody put without its lease, once its incarnation's lease is gone:
    /// it would shut the node out for ever. One that cannot be read goes too: it names nobody, and
    /// claims do not rest on it. Any other one stays.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn remove_detached_session(
        &self,
        leadership: &Leadership,
        node: &NodeName,
    ) -> Result<(), StoreError> {
        let key = keys::session(node);
        let Some(kv) = self.etcd.get(key.clone()).await? else { return Ok(()) };
        if kv.lease != 0 {
            return Ok(());
        }
        if let Ok(record) = SessionRecord::decode(node.clone(), &kv.value)
            && self.etcd.time_to_live(record.lease).await?.is_some()
        {
            return Ok(());
        }
        tracing::warn!(%node, "a session key without a lease is removed");
        let same = Compare::mod_revision(key.clone(), CompareOp::Equal, kv.mod_revision);
        let txn = Txn::new().when([leadership.holds(), same]).and_then([TxnOp::delete(key, None)]);
        // Refused or applied: what comes next finds out.
        self.etcd.txn(txn).await.map(drop)
    }

    async fn create_session(
        &self,
        leadership: &Leadership,
        record: &SessionRecord,
        ttl: Duration,
    ) -> Result<OpenSession, StoreError> {
        let key = keys::session(&record.node);
        let lease = record.lease;
        let bound = PutOptions::new().with_lease(lease);
        let txn = Txn::new()
            .when([leadership.holds(), Compare::create_revision(key.clone(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key.clone(), record.encode(), Some(bound))])
            .or_else([TxnOp::get(keys::LEADER, None), TxnOp::get(key.clone(), None)]);
        let found = match self.etcd.txn(txn).await {
            Ok(answer) if answer.succeeded => {
                let create_revision = answer.revision;
                return Ok(OpenSession::Opened(Session { lease, ttl, create_revision }));
            }
            Ok(answer) => {
                let mut found = ranges(answer.responses).map(|mut kvs| kvs.pop());
                let leads = found.next().flatten().map(|kv| kv.create_revision);
                match found.next().flatten() {
                    Some(kv) if leads == Some(leadership.create_revision) => kv,
                    _ => return Ok(OpenSession::Fenced),
                }
            }
            Err(error) if error.is_unknown() => match self.etcd.get(key).await? {
                Some(kv) => kv,
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        if found.lease == lease {
            let create_revision = found.create_revision;
            return Ok(OpenSession::Opened(Session { lease, ttl, create_revision }));
        }
        Ok(OpenSession::Duplicate(decode(&record.node, &found)?))
    }

    /// Takes over the session of an incarnation that another scheduler opened, e.g. after this one
    /// became the leader.
    ///
    /// # Errors
    /// Those of the transport; nothing is known then and the call may be repeated.
    pub async fn adopt_session(
        &self,
        node: &NodeName,
        incarnation: &Incarnation,
        lease: i64,
    ) -> Result<Adopt, StoreError> {
        let Some(kv) = self.session_key(node, lease).await? else { return Ok(Adopt::Lost) };
        let found = decode(node, &kv)?;
        if found.value.incarnation != *incarnation {
            return Ok(Adopt::Replaced(found));
        }
        if found.lease != lease {
            return Ok(Adopt::Lost); // detached from its lease: nothing hangs on it any more
        }
        match self.etcd.keep_alive(lease).await? {
            KeepAlive::Renewed { ttl } => {
                Ok(Adopt::Alive(Session { lease, ttl, create_revision: found.create_revision }))
            }
            KeepAlive::Lost => Ok(Adopt::Lost),
        }
    }

    /// The key of a node's session, which hangs on this lease. While that lives, that there is no such key may have been
    /// a stale read (etcd issue 20418: after a pause of its process, 3.4.20 to 3.4.41), and is asked once more.
    async fn session_key(
        &self,
        node: &NodeName,
        lease: i64,
    ) -> Result<Option<PbKeyValue>, StoreError> {
        let key = keys::session(node);
        match self.etcd.get(key.clone()).await? {
            None if self.etcd.time_to_live(lease).await?.is_some() => self.etcd.get(key).await,
            found => Ok(found),
        }
    }

    /// The session of a node, if it has one.
    ///
    /// # Errors
    /// Those of the transport, or an unreadable value; repeating is safe.
    pub async fn session(
        &self,
        node: &NodeName,
    ) -> Result<Option<Stored<SessionRecord>>, StoreError> {
        self.etcd.get(keys::session(node)).await?.map(|kv| decode(node, &kv)).transpose()
    }

    /// Ends the session of an incarnation of which nothing is left, and its lease. Only that life's
    /// lease can be hit, whatever happens meanwhile: a session's record never changes, so what was
    /// read stays true, and lease ids are not used again.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn end_session(
        &self,
        node: &NodeName,
        incarnation: &Incarnation,
        lease: i64,
    ) -> Result<EndSession, StoreError> {
        let Some(kv) = self.session_key(node, lease).await? else { return Ok(EndSession::Gone) };
        let found = decode(node, &kv)?;
        if found.value.incarnation != *incarnation || found.value.lease != lease {
            return Ok(EndSession::Other(found));
        }
        self.etcd.revoke(lease).await?;
        Ok(EndSession::Ended)
    }

    /// Renews a lease, once. The renewal is sent after this call began, and the answer is that
    /// renewal's own: an answer is never shared between calls or kept.
    ///
    /// # Errors
    /// Every error means that nothing is known: the old deadline keeps running.
    pub async fn keep_alive(&self, lease: i64) -> Result<KeepAlive, StoreError> {
        self.etcd.keep_alive(lease).await
    }

    /// Ends a lease and deletes everything bound to it, in one step. A lease that is gone already
    /// is no error.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn revoke(&self, lease: i64) -> Result<(), StoreError> {
        self.etcd.revoke(lease).await
    }

    /// Remaining time of a lease, for display; `None` if it is gone.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn time_to_live(&self, lease: i64) -> Result<Option<Duration>, StoreError> {
        Ok(self.lease_times(lease).await?.map(|(remaining, _)| remaining))
    }

    /// Remaining time of a lease, cut to whole seconds, and for how long it was granted, for display; `None` if it is
    /// gone or in its last second.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn lease_times(
        &self,
        lease: i64,
    ) -> Result<Option<(Duration, Duration)>, StoreError> {
        self.etcd.time_to_live(lease).await
    }
}

fn decode(node: &NodeName, kv: &PbKeyValue) -> Result<Stored<SessionRecord>, StoreError> {
    let record =
        SessionRecord::decode(node.clone(), &kv.value).map_err(|error| error.at(&kv.key))?;
    Ok(stored(kv, record))
}
