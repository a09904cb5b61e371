//! A worker host: the product's session, heartbeats and bookkeeping of runs, over the simulated network
//! and a machine whose clock is a little wrong; the guard and the runs are models.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flyball_core::ids::{Incarnation, NodeName};
use flyball_core::lease::BootInstant;
use flyball_core::node::NodeFacts;
use flyball_proto::transport::{Address, Connection, Credential};
use flyball_worker::ground::{Boxed, Ground};
use flyball_worker::simulated::{self, Link, Parts};
use flyball_worker::{Config, DRIFT_PPM_DEFAULT, REF_PREFIX_DEFAULT};
use tonic::service::interceptor::InterceptedService;

use crate::chance::Chance;
use crate::guard::Guard;
use crate::run::Runs;
use crate::site::{BootClock, KILL_BUDGET, SLOTS, Site, TTL};
use crate::{SCHEDULERS, net, scheduler};

/// The label with the node's own name, for loops that have to run there.
pub(crate) const NODE_LABEL: &str = "node";

/// A machine.
struct Machine {
    clock: BootClock,
    chance: Chance,
    /// The incarnation that began last; kept on its disk.
    last: Mutex<Option<Incarnation>>,
}

impl Ground for Machine {
    fn boottime(&self) -> BootInstant {
        self.clock.now()
    }

    fn jitter(&self) -> f64 {
        self.chance.share()
    }

    fn connect<'a>(
        &'a self,
        address: &'a Address,
        credential: Credential,
    ) -> Boxed<'a, Result<Connection, tonic::transport::Error>> {
        let text = address.to_string();
        let host = text.trim_start_matches("http://").split(':').next().unwrap_or("").to_owned();
        Box::pin(async move {
            let channel = net::connect(&host, scheduler::PORT).await?;
            Ok(InterceptedService::new(channel, credential))
        })
    }
}

/// Adds the host. A crash of it is one of the whole machine.
pub(crate) fn add(sim: &mut turmoil::Sim<'_>, site: &Arc<Site>, node: &'static str) {
    let chance = Chance::new(site.seed, node);
    let clock = BootClock::new(&chance);
    let machine = Arc::new(Machine { clock, chance, last: Mutex::default() });
    let site = site.clone();
    sim.host(node, move || {
        let (site, machine) = (site.clone(), machine.clone());
        async move {
            loop {
                live(&site, &machine, node).await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
}

async fn live(site: &Arc<Site>, machine: &Arc<Machine>, node: &str) {
    let id = format!("{node}-{:016x}", machine.chance.next());
    let id = Incarnation(id);
    // Whoever was before is gone with all its processes: killed below, or with the machine.
    let replaces = machine.last.lock().expect("whole").replace(id.clone());
    let drawn = machine.chance.between(0, 400);
    let lag = Duration::from_millis(site.shape.lag_ms.unwrap_or(drawn));
    let guard = Guard::new(site, node, machine.clock, lag);
    let link = Arc::new(Link::default());
    let execute = Arc::new(Runs {
        site: site.clone(),
        node: node.to_owned(),
        guard: guard.clone(),
        link: link.clone(),
        chance: Arc::new(Chance::new(site.seed, id.as_str())),
    });
    let parts = Parts {
        config: Arc::new(config(node)),
        id,
        replaces,
        ground: machine.clone(),
        deadline: guard.clone(),
        execute,
        link,
    };
    simulated::live(parts, guard.watch()).await;
    // The guard proves it before another life begins.
    guard.kill();
}

fn config(node: &str) -> Config {
    let address = |name| format!("http://{name}:{}", scheduler::PORT);
    Config {
        node: NodeName(node.to_owned()),
        data_dir: "/".into(),
        schedulers: SCHEDULERS
            .iter()
            .map(|name| address(name).parse().expect("an address"))
            .collect(),
        credential: Credential::none(),
        facts: NodeFacts {
            slots: SLOTS,
            labels: BTreeMap::from([(NODE_LABEL.to_owned(), node.to_owned())]),
            ..NodeFacts::default()
        },
        guard_command: Vec::new(),
        ttl_seconds: Some(TTL.as_secs().cast_signed()),
        drift_ppm: DRIFT_PPM_DEFAULT,
        kill_budget: KILL_BUDGET,
        pass_env: Vec::new(),
        sandbox: flyball_worker::SandboxConfig::default(),
        ref_prefix: REF_PREFIX_DEFAULT.to_owned(),
        models: flyball_worker::ModelsConfig::default(),
    }
}
