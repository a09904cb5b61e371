//! Names of the refs that Flyball keeps in a loop's repository.

use flyball_core::ids::{InstallationId, LoopUid, Token};

/// Where journals live unless configured otherwise: outside branches and tags, so that they are
/// neither shown nor cloned by default.
pub const DEFAULT_PREFIX: &str = "refs/flyball";
/// For servers that accept only branches. An installation's id is random, so it does not collide
/// with publish branches `flyball/<loop>`.
pub const FALLBACK_PREFIX: &str = "refs/heads/flyball";

/// The refs of one loop: `<prefix>/<installation>/<loop uid>/…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopRefs {
    namespace: String,
}

impl LoopRefs {
    /// The refs of a loop under a prefix, e.g. [`DEFAULT_PREFIX`].
    pub fn new(prefix: &str, installation: &InstallationId, uid: &LoopUid) -> Self {
        Self { namespace: format!("{}/{installation}/{uid}", prefix.trim_end_matches('/')) }
    }

    /// The append-only chain that is the seal.
    pub fn journal(&self) -> String {
        format!("{}/journal", self.namespace)
    }

    /// The checkpoint of the run with this token.
    pub fn run(&self, token: Token) -> String {
        format!("{}/run/{token}", self.namespace)
    }

    /// Fetches all of the loop's refs to the same names, also when they were reset.
    pub(super) fn refspec(&self) -> String {
        format!("+{0}/*:{0}/*", self.namespace)
    }
}
