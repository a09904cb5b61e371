//! etcd over TLS: the store's own identity on one side, the members' certificates on the other.
//!
//! One connection at a time; each new one is made to the next member and shows the identity as its files
//! are by then, so neither a member that is gone nor a renewed certificate needs a restart.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::Channel;
use flyball_pki::{LiveIdentity, Peer};
use hyper_util::rt::TokioIo;

use crate::client::endpoint;
use crate::error::StoreError;

const SCHEME: &str = "https://";

pub(crate) fn is_encrypted(url: &str) -> bool {
    url.starts_with(SCHEME)
}

/// The members of a cluster, and what they are shown.
#[derive(Debug)]
pub(crate) struct Encrypted {
    members: Arc<[(String, u16)]>,
    identity: Arc<LiveIdentity>,
}

impl Encrypted {
    pub(crate) fn new(
        endpoints: &[String],
        identity: Option<Arc<LiveIdentity>>,
    ) -> Result<Self, StoreError> {
        let refused = |why: String| StoreError::Refused { why };
        let members: Result<Vec<_>, _> = endpoints.iter().map(|url| member(url)).collect();
        let identity = identity.ok_or_else(|| {
            let why = "etcd at https:// endpoints needs an identity: --etcd-identity DIR with ca.pem, \
                       cert.pem and key.pem";
            refused(why.to_owned())
        })?;
        Ok(Self { members: members.map_err(refused)?.into(), identity })
    }

    /// A channel that connects when it is first used.
    pub(crate) fn channel(&self) -> Result<Channel, StoreError> {
        let (members, identity) = (self.members.clone(), self.identity.clone());
        let turn = Arc::new(AtomicUsize::new(0));
        let connector = tower::service_fn(move |_| {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            let (members, identity) = (members.clone(), identity.clone());
            async move {
                let Some((host, port)) = members.get(turn % members.len().max(1)) else {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "no endpoint is given"));
                };
                let stream = flyball_pki::connect((host, *port), &identity, Peer::Foreign).await?;
                Ok(TokioIo::new(stream))
            }
        });
        // Plain to the library, because the connector encrypts; it ignores the address too.
        Ok(Channel::Tonic(endpoint("http://etcd")?.connect_with_connector_lazy(connector)))
    }
}

fn member(url: &str) -> Result<(String, u16), String> {
    let rest = url.strip_prefix(SCHEME).ok_or_else(|| {
        format!(
            "{url}: among https:// endpoints all have to be, or the others would be used in clear"
        )
    })?;
    let split = rest.trim_end_matches('/').rsplit_once(':');
    let host_and_port = split.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    match host_and_port {
        Some((host, port)) if !host.is_empty() => Ok((host.to_owned(), port)),
        _ => Err(format!("{url} is no endpoint: use https://host:port")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_all_encrypted_or_none() {
        assert_eq!(member("https://e1:2379/"), Ok(("e1".to_owned(), 2379)));
        assert_eq!(member("https://[::1]:1"), Ok(("[::1]".to_owned(), 1)));
        for wrong in ["http://e1:2379", "https://e1", "https://:1", "https://e1:x", "e1:1"] {
            assert!(member(wrong).is_err(), "{wrong}");
        }
        let refused = Encrypted::new(&["https://e1:1".to_owned()], None).unwrap_err();
        assert!(refused.to_string().contains("--etcd-identity"), "{refused}");
    }
}
