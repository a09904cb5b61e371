//! F22: somebody deletes an owner key of a live run, and puts its claim without the lease.

use etcd_client::GetOptions;

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F22",
    title: "owner keys deleted and put without lease",
    usual: true,
    owners: Owners::Change,
    run,
};

/// The claim of the first loop.
const CLAIM: &str = "/flyball/v1/claims/default/l1";
fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.victim();
    fleet.fault("meddle with owner keys");
    fleet.runtime.block_on(async {
        let mut client = fleet.raw().await;
        let all = Some(GetOptions::new().with_prefix());
        let owners = client.get("/flyball/v1/owners/", all).await.expect("etcd answers");
        let mine = |kv: &&etcd_client::KeyValue| kv.key().ends_with(b"/l1.txt");
        let owner = owners.kvs().iter().find(mine).expect("l1 owns its list").key().to_vec();
        client.delete(owner, None).await.expect("a key can be deleted");
        let claim = client.get(CLAIM, None).await.expect("etcd answers");
        let value = claim.kvs().first().expect("l1 is claimed").value().to_vec();
        client.put(CLAIM, value, None).await.expect("a key can be put");
    });
    fleet.until("the claim hangs on no lease", NOTICE_MAX, |view| {
        view.claims.get("default/l1").filter(|claim| claim.lease == 0).map(drop)
    });
    fleet.bite("the claim of l1 hangs on no lease");
    // Once the worker is gone, the key would stay for ever.
    fleet.kill_worker(&victim.node);
    fleet.comes_back(&victim);
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
