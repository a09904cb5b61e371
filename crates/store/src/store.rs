//! The store: one handle for all operations, and what the installation as a whole says of itself.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Compare, CompareOp, GetOptions, Txn, TxnOp};
use flyball_core::ambient::Ambient;
use flyball_core::ids::InstallationId;
use flyball_pki::LiveIdentity;

use crate::client::{Etcd, ranges};
use crate::error::StoreError;
use crate::events::EventLease;
use crate::keys;
use crate::values::{self, SCHEMA_VERSION};

/// How the store is used.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Bound on one request. A write without an answer by then is [`StoreError::Unknown`].
    pub request_timeout: Duration,
    /// Where ids come from.
    pub ambient: Ambient,
}

impl Default for StoreOptions {
    fn default() -> Self {
        // Beyond etcd's own bound on a proposal (5 s and two election timeouts), so that the
        // server's word, which is clearer, comes first.
        Self { request_timeout: Duration::from_secs(8), ambient: ambient() }
    }
}

/// A handle to the store. Clones share connections.
#[derive(Clone)]
pub struct Store {
    pub(crate) etcd: Etcd,
    pub(crate) events: Arc<EventLease>,
    pub(crate) ambient: Ambient,
}

/// The real one.
fn ambient() -> Ambient {
    Ambient::new(jiff::Timestamp::now, rand::random)
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Who this installation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Random id, made once with the store.
    pub id: InstallationId,
    /// Version of its keys and values.
    pub schema_version: u32,
}

impl Store {
    /// A store behind an open channel, e.g. the embedded server's.
    ///
    /// # Errors
    /// None in practice; the channel is not used yet.
    pub async fn from_channel(channel: Channel) -> Result<Self, StoreError> {
        Self::from_channel_with(channel, &StoreOptions::default()).await
    }

    /// Like [`Store::from_channel`] with options.
    ///
    /// # Errors
    /// None in practice; the channel is not used yet.
    pub async fn from_channel_with(
        channel: Channel,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        let etcd = Etcd::new(channel.clone(), channel, options).await?;
        Ok(Self { etcd, events: Arc::default(), ambient: options.ambient.clone() })
    }

    /// A store at the given endpoints: `http://host:port` or `host:port`, or a single
    /// `unix:///path`. Connections are made when first used, so success proves nothing;
    /// [`Store::status`] does.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an endpoint that is no address.
    pub async fn connect(endpoints: &[String]) -> Result<Self, StoreError> {
        Self::connect_as(endpoints, None).await
    }

    /// Like [`Store::connect`]; `https://host:port` endpoints are shown this identity, as its files are
    /// when a connection is made.
    ///
    /// # Errors
    /// [`StoreError::Refused`] also for endpoints of both kinds, and for encrypted ones without identity.
    pub async fn connect_as(
        endpoints: &[String],
        identity: Option<Arc<LiveIdentity>>,
    ) -> Result<Self, StoreError> {
        let etcd = Etcd::connect(endpoints, identity, &StoreOptions::default()).await?;
        Ok(Self { etcd, events: Arc::default(), ambient: ambient() })
    }

    /// The installation's id, made now if this is its first use.
    ///
    /// # Errors
    /// [`StoreError::Newer`] if the store was written by a newer schema; otherwise those of the
    /// transport. Repeating it after any error is safe.
    pub async fn installation(&self) -> Result<Installation, StoreError> {
        let fresh =
            uuid::Builder::from_random_bytes(self.ambient.bytes()).as_uuid().simple().to_string();
        let key = keys::INSTALLATION;
        let value = values::encode_installation(&fresh, SCHEMA_VERSION);
        let txn = Txn::new()
            .when([Compare::create_revision(key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, value, None)])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.etcd.txn(txn).await?;
        if answer.succeeded {
            return Ok(Installation { id: fresh.into(), schema_version: SCHEMA_VERSION });
        }
        let found = ranges(answer.responses).next().and_then(|mut kvs| kvs.pop());
        let found =
            found.ok_or_else(|| StoreError::bad_answer("no installation, yet not absent"))?;
        let found =
            values::decode_installation(&found.value).map_err(|error| error.at(key.as_bytes()))?;
        if found.schema_version > SCHEMA_VERSION {
            return Err(StoreError::Newer {
                what: "the store's schema".to_owned(),
                found: found.schema_version,
                known: SCHEMA_VERSION,
            });
        }
        Ok(Installation { id: found.id.into(), schema_version: found.schema_version })
    }

    /// The newest revision, by a read that a quorum has to confirm.
    ///
    /// # Errors
    /// Those of the transport; always safe to repeat.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        let answer = self.etcd.range(keys::INSTALLATION.into(), GetOptions::new()).await?;
        Ok(answer.header.map_or(0, |header| header.revision))
    }
}
