//! `owners/x/<scheme>/<path…>` for exclusive entries and `owners/r/<scheme>/<path…>/<ns>/<loop>`
//! for shared ones; lease-bound. The last line behind the leader's claim index: two loops that
//! somehow got the same exclusive entry cannot both be committed.

use flyball_core::ids::LoopKey;
use flyball_core::spec::Access;

use super::{loops, path};

const EXCLUSIVE: &[u8] = b"/flyball/v1/owners/x/";
const SHARED: &[u8] = b"/flyball/v1/owners/r/";

/// One owned resource entry as a key. `resource` is `<scheme>/<path…>` in canonical form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OwnerKey {
    /// Held by one loop alone.
    Exclusive {
        /// `<scheme>/<path…>`.
        resource: String,
    },
    /// Shared for reading; one key per holder.
    Shared {
        /// `<scheme>/<path…>`.
        resource: String,
        /// The loop that reads.
        holder: LoopKey,
    },
}

impl OwnerKey {
    /// The key by which `holder` owns `resource`.
    pub fn new(access: Access, resource: impl Into<String>, holder: &LoopKey) -> Self {
        let resource = resource.into();
        match access {
            Access::Exclusive => Self::Exclusive { resource },
            Access::Read => Self::Shared { resource, holder: holder.clone() },
        }
    }

    /// `<scheme>/<path…>`.
    pub fn resource(&self) -> &str {
        match self {
            Self::Exclusive { resource } | Self::Shared { resource, .. } => resource,
        }
    }

    /// How it is held.
    pub fn access(&self) -> Access {
        match self {
            Self::Exclusive { .. } => Access::Exclusive,
            Self::Shared { .. } => Access::Read,
        }
    }
}

/// The encoded key by which `holder` owns `resource`.
pub(crate) fn owner(access: Access, resource: &str, holder: &LoopKey) -> Vec<u8> {
    let prefix = match access {
        Access::Exclusive => EXCLUSIVE,
        Access::Read => SHARED,
    };
    let mut key = Vec::with_capacity(prefix.len() + resource.len() + 64);
    key.extend_from_slice(prefix);
    path::push_path(&mut key, resource);
    if access == Access::Read {
        key.push(b'/');
        loops::push_loop(&mut key, holder);
    }
    key
}

impl OwnerKey {
    /// The encoded key.
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Exclusive { resource } => {
                owner(Access::Exclusive, resource, &LoopKey::new("", ""))
            }
            Self::Shared { resource, holder } => owner(Access::Read, resource, holder),
        }
    }
}

pub(super) fn decode(rest: &str) -> Option<OwnerKey> {
    match rest.split_once('/')? {
        ("x", resource) => Some(OwnerKey::Exclusive { resource: path::decode_path(resource)? }),
        ("r", rest) => {
            // The holder is the last two segments: neither of them can hold a '/'.
            let (rest, name) = rest.rsplit_once('/')?;
            let (resource, namespace) = rest.rsplit_once('/')?;
            let holder =
                LoopKey::new(path::decode_segment(namespace)?, path::decode_segment(name)?);
            Some(OwnerKey::Shared { resource: path::decode_path(resource)?, holder })
        }
        _ => None,
    }
}
