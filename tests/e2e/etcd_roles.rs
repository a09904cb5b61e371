//! etcd's own access control, where a certificate's common name is a user and the schedulers' one has nothing but
//! Flyball's prefix: everything works with it, and another client of the same etcd can neither read nor meddle.

use std::process::{Command, Output, Stdio};

use flyball_core::status::Phase;
use flyball_tests::etcd;
use serde_json::Value;

use crate::fleet::{Fleet, said};
use crate::support::{FINISH_ONE, finish_list, list};

/// What an operator does once; docs/security.md has the same.
const SET_UP: [&str; 9] = [
    "role add root",
    "user add root --no-password",
    "user grant-role root root",
    "role add flyball",
    "role grant-permission flyball --prefix=true readwrite /flyball/",
    "user add scheduler --no-password",
    "user grant-role scheduler flyball",
    "user add rogue --no-password",
    "auth enable",
];

/// Asks etcd over TLS, as whoever the identity is.
fn ask(fleet: &Fleet, identity: &str, args: &str) -> Output {
    let file = |name: &str| fleet.path(identity).join(name);
    Command::new(etcd::etcdctl().unwrap())
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", fleet.etcd_url()))
        .arg("--cacert")
        .arg(file("ca.pem"))
        .arg("--cert")
        .arg(file("cert.pem"))
        .arg("--key")
        .arg(file("key.pem"))
        .args(args.split(' '))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn good(fleet: &Fleet, identity: &str, args: &str) -> String {
    let (text, error) = said(&ask(fleet, identity, args));
    assert!(error.is_empty(), "etcdctl {args}: {text}{error}");
    text
}

#[test]
fn schedulers_need_nothing_but_their_prefix_and_nobody_else_has_it() {
    if etcd::is_skipped() {
        return;
    }
    let mut fleet = Fleet::start(true, "1h");
    fleet.issue("--etcd-client=root", None, "etcd-root");
    fleet.issue("--etcd-client=rogue", None, "etcd-rogue");
    for command in SET_UP {
        good(&fleet, "etcd-root", command);
    }
    // One scheduler runs already; another one starts under it.
    fleet.issue("--scheduler=s2", Some("127.0.0.1"), "s2");
    let (_standby, _) = fleet.start_scheduler("s2", &[]);
    fleet.add_worker("n1");
    let go = fleet.path("go");
    let agent = format!("until test -e {}; do sleep 0.05; done; {FINISH_ONE}", go.display());
    let repo = list(&["a", "b"]);
    fleet.apply(None, &finish_list("finish", &repo, &agent, ""));
    let running = fleet.wait("finish", |status| status.phase == Phase::Running);
    let lease = lease_of(&fleet);
    // What it would take to own it as well, to free it, to end its owner, or to see who has it.
    for meddle in [
        "put /flyball/v1/claims/default/finish x",
        "del --prefix /flyball/v1/owners/",
        "get --prefix /flyball/",
        &format!("lease revoke {lease}"),
        "role grant-permission flyball --prefix=true readwrite /",
        "auth disable",
    ] {
        let (text, error) = said(&ask(&fleet, "etcd-rogue", meddle));
        assert!(error.contains("permission denied"), "{meddle}: {text}{error}");
    }
    // Nor do schedulers reach beyond it.
    let (_, error) = said(&ask(&fleet, "etcd-client", "put /elsewhere x"));
    assert!(error.contains("permission denied"), "{error}");
    std::fs::write(&go, "").unwrap();
    let done = fleet.converged("finish");
    assert_eq!(done.progress.accepted, 2);
    assert_eq!(done.runs, running.runs, "it kept its owner");
    let doctor = fleet.run(None, &["doctor", "-o", "json"], "");
    let text = said(&doctor).0;
    assert!(!text.contains("permission denied"), "{text}");
}

/// The lease of the one node, as etcdctl writes it.
fn lease_of(fleet: &Fleet) -> String {
    let found = good(fleet, "etcd-client", "get /flyball/v1/sessions/n1 -w json");
    let found: Value = serde_json::from_str(&found).unwrap();
    let lease = found["kvs"][0]["lease"].as_i64().unwrap_or_else(|| panic!("{found}"));
    format!("{lease:x}")
}
