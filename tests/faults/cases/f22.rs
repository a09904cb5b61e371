//! F22: somebody deletes an owner key of a live run, and puts its claim without the lease.

use std::time::Duration;

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
/// What the second loop waits for a part of.
const WANTED: &str = "/common-1/**";
/// How long the second loop has to resist: many times what an assignment takes.
const TEMPTED: Duration = Duration::from_millis(1500);

fn run(attempt: &Attempt) -> Outcome {
    let mut fleet = Fleet::start(attempt, Shape::default());
    let victim = fleet.busy_victim();
    fleet.fault("meddle with owner keys");
    let waits = |fleet: &Fleet| {
        fleet.record.see(|view| {
            let status = view.statuses.get("default/l2");
            let over = status.is_some_and(|status| status.phase.is_terminal());
            !over && !view.claims.contains_key("default/l2")
        })
    };
    assert!(waits(&fleet), "l2 does not wait for what l1 owns");
    fleet.runtime.block_on(async {
        let mut client = fleet.raw().await;
        let all = Some(GetOptions::new().with_prefix());
        let owners = client.get("/flyball/v1/owners/", all).await.expect("etcd answers");
        for name in ["/l1.txt", WANTED] {
            let mine = |kv: &&etcd_client::KeyValue| kv.key().ends_with(name.as_bytes());
            let owner = owners.kvs().iter().find(mine).expect("l1 owns it").key().to_vec();
            client.delete(owner, None).await.expect("a key can be deleted");
        }
    });
    // Its agent is at work: what the key said is true without it.
    fleet.last(TEMPTED);
    assert!(waits(&fleet), "l2 was given what l1 owns");
    fleet.bite("the owner key of what l2 waits for is gone, and l2 waits");
    fleet.runtime.block_on(async {
        let mut client = fleet.raw().await;
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
