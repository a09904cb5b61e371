//! The simulated etcd: the product's embedded server on the simulation's clock, its files outliving a
//! crash, and its event log read into the history.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flyball_embedded::{Options, Server};
use flyball_store::{Store, StoreOptions, WatchItem};

use crate::net;
use crate::site::Site;
use crate::surgeon::Surgeon;
use crate::view::Revoke;

pub(crate) const PORT: u16 = 2379;

/// Adds the host.
pub(crate) fn add(sim: &mut turmoil::Sim<'_>, site: &Arc<Site>) {
    let site = site.clone();
    let boots = Arc::new(AtomicU64::new(0));
    sim.host("etcd", move || run(site.clone(), boots.fetch_add(1, Ordering::Relaxed)));
}

async fn run(site: Arc<Site>, boot: u64) -> turmoil::Result {
    // Ids of leases that the server chooses must not come again after a restart.
    let seed = Some((site.seed << 8 | boot).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let options = Options { seed, ..Options::at(&site.store_dir) };
    let (server, drive) = Server::open_driven(options)?;
    tokio::spawn(drive);
    let client = etcd_client::Client::from_channel(server.channel(), None).await?;
    let options = StoreOptions { ambient: site.ambient("observer"), ..StoreOptions::default() };
    let store = Store::from_channel_with(server.channel(), &options).await?;
    tokio::spawn(observe(site.clone(), store));
    tokio::spawn(revoke_when_told(site.clone(), client.clone()));
    net::serve(Surgeon::before_etcd(server.routes(), site, client), PORT).await;
    Ok(())
}

/// Reads the event log into the history, from where an earlier boot got to.
async fn observe(site: Arc<Site>, store: Store) {
    let mut watch = store.watch(site.view().revision + 1);
    loop {
        let item = watch.next().await;
        if !matches!(item, WatchItem::Changes { .. } | WatchItem::Progress { .. }) {
            tracing::warn!(?item, "the observer");
        }
        if let WatchItem::Changes { revision, changes } = item {
            let events: Vec<_> = {
                let mut view = site.view();
                view.revision = revision;
                changes.into_iter().filter_map(|change| view.apply(revision, change)).collect()
            };
            events.into_iter().for_each(|event| site.saw(event));
        }
    }
}

/// Ends leases of live sessions, against the rules.
async fn revoke_when_told(site: Arc<Site>, mut client: etcd_client::Client) {
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let lease = {
            let mut view = site.view();
            let Some(whose) = view.revoke.take() else { continue };
            let leases: Vec<i64> = view.sessions.values().copied().collect();
            let lease = match whose {
                Revoke::Session(_) if leases.is_empty() => None,
                Revoke::Session(number) => Some(leases[number % leases.len()]),
                Revoke::Node(node) => view.sessions.get(&node).copied(),
                Revoke::Leader => view.leader.as_ref().map(|leader| leader.1),
            };
            let Some(lease) = lease else { continue };
            view.unfair.insert(lease);
            lease
        };
        if client.lease_revoke(lease).await.is_ok() {
            site.bite("a live session's lease was revoked");
        }
    }
}
