//! The network of a fleet: one proxy per pair of processes that talk.

use std::collections::BTreeMap;

use super::proxy::{Mode, Proxy, Target, Way};

/// All edges by who connects and to whom: `n1` -> `s1`, `s1` -> `m2`.
#[derive(Default)]
pub(crate) struct Net {
    edges: BTreeMap<(String, String), Proxy>,
}

impl Net {
    /// Adds an edge and gives the address to connect to.
    pub(crate) async fn add(&mut self, from: &str, to: &str) -> String {
        let edge = (from.to_owned(), to.to_owned());
        if !self.edges.contains_key(&edge) {
            let proxy = Proxy::start().await.expect("a free port");
            self.edges.insert(edge.clone(), proxy);
        }
        self.edges[&edge].url()
    }

    /// The edges between these two; `*` means everybody.
    pub(crate) fn edges<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
    ) -> impl Iterator<Item = &'a Proxy> + use<'a> {
        let fits = |wanted: &str, name: &str| wanted == "*" || wanted == name;
        self.edges
            .iter()
            .filter(move |((one, other), _)| fits(from, one) && fits(to, other))
            .map(|(_, proxy)| proxy)
    }

    /// The edge of these two.
    #[track_caller]
    pub(crate) fn edge(&self, from: &str, to: &str) -> &Proxy {
        &self.edges[&(from.to_owned(), to.to_owned())]
    }

    /// Where everybody finds this process from now on.
    pub(crate) fn lead_to(&self, to: &str, target: &Target) {
        self.edges("*", to).for_each(|proxy| proxy.lead_to(target.clone()));
    }

    /// Sets both directions.
    pub(crate) fn set(&self, from: &str, to: &str, mode: Mode) {
        self.edges(from, to).for_each(|proxy| proxy.set_both(mode));
    }

    /// Sets one direction.
    pub(crate) fn set_way(&self, from: &str, to: &str, way: Way, mode: Mode) {
        self.edges(from, to).for_each(|proxy| proxy.set(way, mode));
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.edges.values().for_each(|proxy| {
            proxy.disarm();
            proxy.silence_watches(false);
            proxy.set_both(Mode::Pass);
        });
    }
}
