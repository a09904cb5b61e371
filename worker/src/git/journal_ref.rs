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
    prefix: String,
    installation: InstallationId,
    namespace: String,
}

impl LoopRefs {
    /// The refs of a loop under a prefix, e.g. [`DEFAULT_PREFIX`].
    pub fn new(prefix: &str, installation: &InstallationId, uid: &LoopUid) -> Self {
        let prefix = prefix.trim_end_matches('/').to_owned();
        let namespace = format!("{prefix}/{installation}/{uid}");
        Self { prefix, installation: installation.clone(), namespace }
    }

    /// The append-only chain that is the seal.
    pub fn journal(&self) -> String {
        format!("{}/journal", self.namespace)
    }

    /// The checkpoint of the run with this token.
    pub fn run(&self, token: Token) -> String {
        format!("{}/run/{token}", self.namespace)
    }

    /// Journals of every installation under this prefix, as `git ls-remote` takes it.
    pub(super) fn every_journal(&self) -> String {
        format!("{}/*/journal", self.prefix)
    }

    /// The other installation whose journal a ref of this name is. Ids are 32 hex digits; anything else is a branch
    /// that happens to be under the prefix.
    pub(super) fn other_installation(&self, name: &str) -> Option<InstallationId> {
        let rest = name.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        let (installation, rest) = rest.split_once('/')?;
        let is_id = installation.len() == 32 && installation.bytes().all(|b| b.is_ascii_hexdigit());
        let is_journal = rest.strip_suffix("/journal").is_some_and(|uid| !uid.contains('/'));
        let is_other = installation != self.installation.as_str();
        (is_id && is_journal && is_other).then(|| InstallationId::from(installation))
    }

    /// Fetches all of the loop's refs to the same names, also when they were reset.
    pub(super) fn refspec(&self) -> String {
        format!("+{0}/*:{0}/*", self.namespace)
    }
}
