//! A scheduler host: the product's scheduler over the simulated network and etcd.

use std::sync::Arc;
use std::time::Duration;

use flyball_scheduler::{Config, StoreChoice};
use flyball_store::{Channel, Store, StoreOptions};

use crate::site::{ELECTION_TTL, Site, TTL};
use crate::surgeon::Surgeon;
use crate::{etcd, net};

pub(crate) const PORT: u16 = 7420;

/// Adds the host; it is started again when it ends, as a service manager would.
pub(crate) fn add(sim: &mut turmoil::Sim<'_>, site: &Arc<Site>, name: &'static str) {
    let site = site.clone();
    let ambient = site.ambient(name);
    sim.host(name, move || {
        let (site, ambient) = (site.clone(), ambient.clone());
        async move {
            loop {
                let options = StoreOptions {
                    ambient: ambient.clone(),
                    // Shorter than in the field, as is everything here.
                    request_timeout: Duration::from_secs(3),
                };
                let channel = Channel::Tonic(net::lazy("etcd", etcd::PORT));
                let store = Store::from_channel_with(channel, &options).await?;
                let config = Config {
                    id: name.to_owned(),
                    advertise: Some(format!("http://{name}:{PORT}")),
                    session_ttl: Some(TTL),
                    election_ttl: ELECTION_TTL,
                    ambient: ambient.clone(),
                    ..Config::new(StoreChoice::Memory, Vec::new())
                };
                let site = site.clone();
                let serve = |routes| net::serve(Surgeon::honest(routes, site, name), PORT);
                // It may not reach the store yet.
                let _ = flyball_scheduler::run_over(config, store, serve).await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    });
}
