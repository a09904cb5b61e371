//! Nodes as witnesses of time: a worker knows the highest token it was given, and by whom. A store that
//! has not reached it was restored from an old state and would hand out tokens a second time. Such a node is
//! neither registered nor renewed: what runs on it is not known there, and ends with its deadline.

use std::sync::atomic::Ordering;

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
        self.findings.clear(OTHER_INSTALLATION, node);
        let behind = self.is_behind(node, mark).await?;
        if behind.is_none() {
            self.findings.clear(STORE_BEHIND, node);
        }
        Ok(behind)
    }

    /// Why the store has not reached a mark, if it has not. What this process knows to be reached is not asked for again
    /// but while its own watch has found the store to be behind; one whose revisions were raised is not noticed so, and
    /// then no mark would tell either.
    pub(super) async fn is_behind(&self, node: &str, mark: i64) -> Result<Option<String>, Status> {
        let reached = &self.about.reached;
        let behind = self.findings.holds(STORE_BEHIND);
        if mark <= reached.load(Ordering::Acquire) && !behind {
            return Ok(None);
        }
        // Not what the view says: it may be older than a restored store.
        let revision = self.store.revision().await.map_err(|error| of_store(&error))?;
        let reached = if behind {
            reached.store(revision, Ordering::Release);
            revision
        } else {
            reached.fetch_max(revision, Ordering::AcqRel).max(revision)
        };
        if mark <= reached {
            return Ok(None);
        }
        let message = format!(
            "node {node} was given token {mark}, and the store is at revision {revision}: it was restored \
             from an old state"
        );
        let at = (STORE_BEHIND, node);
        self.findings.raise(Severity::Error, at, message.clone(), STORE_BEHIND_STEP);
        Ok(Some(format!("{message}; {STORE_BEHIND_STEP}")))
    }
}
