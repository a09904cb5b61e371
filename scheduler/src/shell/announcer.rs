//! Says in the store that this scheduler can sign certificates, for as long as it lives: whoever makes a
//! join token learns where to join, and other schedulers whom to name.

use std::sync::Arc;
use std::time::Duration;

use flyball_pki::LiveIdentity;
use flyball_store::{KeepAlive, SignerRecord, Store, StoreError};

use crate::signing::pin_of;

/// Life of the record after the scheduler's end.
const TTL: Duration = Duration::from_secs(15);
/// Rhythm of keeping it alive: some tries are left when one fails.
const EVERY: Duration = Duration::from_secs(4);

/// Runs until it is dropped.
pub(crate) struct Announcer {
    pub(crate) store: Store,
    pub(crate) id: String,
    /// Where this scheduler is reached.
    pub(crate) address: String,
    pub(crate) identity: Arc<LiveIdentity>,
}

impl Announcer {
    pub(crate) async fn run(self) {
        let mut said: Option<(i64, SignerRecord)> = None;
        loop {
            said = match self.say(said).await {
                Ok(said) => Some(said),
                Err(error) => {
                    tracing::warn!(%error, "cannot say that this scheduler signs certificates");
                    None
                }
            };
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Keeps alive what was said, or says it anew: the lease is gone, or the certificate is of another
    /// authority by now.
    async fn say(
        &self,
        said: Option<(i64, SignerRecord)>,
    ) -> Result<(i64, SignerRecord), StoreError> {
        let record = SignerRecord { address: self.address.clone(), pin: pin_of(&self.identity) };
        if let Some((lease, known)) = said
            && known == record
            && matches!(self.store.keep_alive(lease).await?, KeepAlive::Renewed { .. })
        {
            return Ok((lease, record));
        }
        let lease = self.store.announce_signer(&self.id, &record, TTL).await?;
        Ok((lease, record))
    }
}
