//! Nodes as witnesses of time: a worker knows the highest token it was given, and by whom. A store that
//! has not reached it was restored from an old state and would hand out tokens a second time.

use flyball_proto::v1::Register;
use tonic::Status;

use super::Api;
use super::error::of_store;
use crate::findings::{OTHER_INSTALLATION, STORE_BEHIND, STORE_BEHIND_STEP, Severity};

const OTHER_STEP: &str = "if the store was wiped, see that every worker of the earlier installation has \
                          been stopped or restarted";

impl Api {
    /// Whether the store has reached what the node has seen; why not, if it has not.
    pub(super) async fn check_mark(&self, register: &Register) -> Result<Option<String>, Status> {
        let (node, mark) = (&register.node, register.token_mark);
        let ours = self.about.installation.as_str();
        if !register.installation.is_empty() && register.installation != ours {
            let theirs = &register.installation;
            let message = format!("node {node} worked for installation {theirs}; this is {ours}");
            let at = (OTHER_INSTALLATION, node.as_str());
            self.findings.raise(Severity::Warning, at, message, OTHER_STEP);
            return Ok(None);
        }
        if mark > 0 {
            // Not what the view says: it may be older than a restored store.
            let revision = self.store.revision().await.map_err(|error| of_store(&error))?;
            if revision < mark {
                let message = format!(
                    "node {node} was given token {mark}, and the store is at revision {revision}: it \
                     was restored from an old state"
                );
                let at = (STORE_BEHIND, node.as_str());
                self.findings.raise(Severity::Error, at, message.clone(), STORE_BEHIND_STEP);
                return Ok(Some(format!("{message}; {STORE_BEHIND_STEP}")));
            }
        }
        self.findings.clear(STORE_BEHIND, node);
        Ok(None)
    }
}
