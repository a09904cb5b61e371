//! What a loop has cost, for whoever tells it: each unit is handed out once.

use flyball_core::ids::{LoopKey, LoopUid};
use flyball_core::model::Amount;

use crate::accounts::{TRIES_MAX, contended};
use crate::error::StoreError;
use crate::store::Store;

impl Store {
    /// What a loop has spent since this was last asked, marked as told before this returns; `None` if it has called no
    /// model since, or is gone.
    ///
    /// # Errors
    /// Those of the transport. After [`StoreError::Unknown`] it may be marked, and is then handed out to nobody.
    pub async fn mark_told(
        &self,
        key: &LoopKey,
        uid: &LoopUid,
    ) -> Result<Option<Amount>, StoreError> {
        for _ in 0..TRIES_MAX {
            let read = self.read_accounts(key).await?;
            let mut accounts = read.accounts(uid);
            let account = &mut accounts.of_loop;
            let untold = account.spent.minus(account.told);
            let is_there = read.record.as_ref().is_some_and(|record| record.value.uid == *uid);
            if !is_there || untold.calls == 0 {
                return Ok(None);
            }
            account.told = account.spent;
            if self.write_accounts(key, None, &read, &accounts).await? {
                return Ok(Some(untold));
            }
        }
        Err(contended(key))
    }
}
