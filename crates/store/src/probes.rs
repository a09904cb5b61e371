//! The probe for lost workers: a leader that hears nothing of a node asks all schedulers, by a key that hangs on the
//! node's lease. Whoever renews that lease from then on deletes the key; one that stays says that nobody does, and
//! the lease is ended. Without it a lease is as long as etcd says: there every change of leader arms all leases anew
//! (issue 9888), so while leaders change faster than a lease lasts, none ends.

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};
use flyball_core::ids::NodeName;

use crate::error::StoreError;
use crate::keys;
use crate::leadership::Leadership;
use crate::store::Store;
use crate::values::SessionRecord;

impl Store {
    /// Asks who hears from the life of a node that this session names; answers the question's revision, or `None` if
    /// that life or this leadership is over. A question that stands already is put anew.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe, and only puts the question later.
    pub async fn ask_for_node(
        &self,
        leadership: &Leadership,
        session: &SessionRecord,
    ) -> Result<Option<i64>, StoreError> {
        let bound = PutOptions::new().with_lease(session.lease);
        let put = TxnOp::put(keys::probe(&session.node), session.encode(), Some(bound));
        match self.etcd.txn(Txn::new().when([leadership.holds()]).and_then([put])).await {
            Ok(answer) => Ok(answer.succeeded.then_some(answer.revision)),
            Err(StoreError::LeaseLost { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A scheduler has renewed the lease since the question of this revision: takes it away. One that was put anew stays.
    ///
    /// # Errors
    /// Those of the transport; the next renewal does it again.
    pub async fn answer_for_node(&self, node: &NodeName, asked: i64) -> Result<(), StoreError> {
        let key = keys::probe(node);
        let same = Compare::mod_revision(key.clone(), CompareOp::Equal, asked);
        let txn = Txn::new().when([same]).and_then([TxnOp::delete(key, None)]);
        self.etcd.txn(txn).await.map(drop)
    }

    /// Whether nobody has answered the question of this revision, that life goes on, and this leadership too. What hangs
    /// on the lease, the question with it, is then ended by [`Store::revoke`]. A renewal in between comes too late,
    /// which costs work and is safe, like every early end of a lease.
    ///
    /// # Errors
    /// Those of the transport; repeating is safe.
    pub async fn stands(
        &self,
        leadership: &Leadership,
        session: &SessionRecord,
        asked: i64,
    ) -> Result<bool, StoreError> {
        let key = keys::probe(&session.node);
        let same = Compare::mod_revision(key, CompareOp::Equal, asked);
        Ok(self.etcd.txn(Txn::new().when([leadership.holds(), same])).await?.succeeded)
    }
}
