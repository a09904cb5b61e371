//! Certificates in a fleet: who is let in, how a machine joins, what a revocation ends, and that a
//! certificate is renewed under a running loop.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures, and what was skipped")]

use std::time::{Duration, Instant};

use flyball_pki::{Authority, JoinToken, KeyOf, Order, Subject, facts_of_pem, write_identity};
use flyball_proto::transport;
use flyball_proto::v1::join_client::JoinClient;
use flyball_proto::v1::nodes_client::NodesClient;
use flyball_proto::v1::server_client::ServerClient;
use flyball_proto::v1::{InfoRequest, JoinRequest, ListNodesRequest};
use flyball_tests::etcd;
use flyball_tests::poll::until;
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tonic::Code;

use crate::fleet::{BOUND, Fleet, said};
use crate::support::{FINISH_ONE, finish_list, list};

const BINDING: &str = r#"{"apiVersion": "flyball.dev/v1", "kind": "RoleBinding",
"metadata": {"name": "ada"}, "spec": {"role": "submitter", "subjects": ["user:ada"]}}"#;

fn args(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[test]
fn a_machine_joins_once_and_a_stranger_gets_nowhere() {
    if etcd::is_skipped() {
        eprintln!("skipped: no etcd");
        return;
    }
    let mut fleet = Fleet::start(true, "1h");
    fleet.apply(None, BINDING);
    let ada = fleet.path("ada");

    // For n1 only, and once.
    let token = fleet.token(&["--node", "n1"]);
    let why = fleet.bad(None, &args(&fleet.joining(&token, "n2-identity", &["--node", "n2"])));
    assert!(why.contains("is for node n1, not for n2"), "{why}");
    let joined = fleet.good(None, &args(&fleet.joining(&token, "n1-identity", &[])));
    assert!(joined.starts_with("node:n1: "), "{joined}");
    let why = fleet.bad(None, &args(&fleet.joining(&token, "again", &[])));
    assert!(why.contains("was used"), "{why}");
    // What somebody else has made up, or what was deleted, or of another authority.
    let mut forged: JoinToken = fleet.token(&["--node", "n3"]).parse().unwrap();
    let (kept, id) = (forged.clone(), forged.id.clone());
    forged.secret = "0".repeat(forged.secret.len());
    let why = fleet.bad(None, &args(&fleet.joining(&forged.to_string(), "n3-identity", &[])));
    assert!(why.contains("does not count"), "{why}");
    let elsewhere = JoinToken { pin: "0".repeat(64), ..kept.clone() };
    let why = fleet.bad(None, &args(&fleet.joining(&elsewhere.to_string(), "n3-identity", &[])));
    assert!(why.contains("does not have the authority that the token names"), "{why}");
    let listed = fleet.good(None, &["node", "token", "list", "-o", "json"]);
    assert!(listed.contains(&id) && !listed.contains(&kept.secret), "{listed}");
    fleet.good(None, &["node", "token", "delete", &id]);
    let why = fleet.bad(None, &args(&fleet.joining(&kept.to_string(), "n3-identity", &[])));
    assert!(why.contains("was deleted"), "{why}");

    fleet.start_worker("n1");
    // A token for any new node gives nobody the name of one that is there.
    let any = fleet.token(&[]);
    let why = fleet.bad(None, &args(&fleet.joining(&any, "n1-again", &["--node", "n1"])));
    assert!(why.contains("there is a node n1"), "{why}");
    fleet.good(None, &args(&fleet.joining(&any, "n4-identity", &["--node", "n4"])));

    let repo = list(&["a", "b"]);
    fleet.apply(Some(&ada), &finish_list("finish", &repo, FINISH_ONE, ""));
    assert_eq!(fleet.converged("finish").progress.accepted, 2);

    // A node is a node and nothing else.
    let node = fleet.path("n1-identity");
    let why = fleet.bad(Some(&node), &["get", "loops"]);
    assert!(why.contains("node:n1 may not list loops"), "{why}");
    let why = fleet.bad(Some(&node), &["node", "token", "create"]);
    assert!(why.contains("node:n1 may not apply jointokens"), "{why}");
    let why = fleet.bad(Some(&ada), &["node", "token", "create"]);
    assert!(why.contains("user:ada may not apply jointokens"), "{why}");
    strangers_are_refused(&fleet);
    let audit = fleet.good(None, &["audit", "--verb", "join", "-o", "json"]);
    assert!(audit.contains("n1 by token") && audit.contains("PermissionDenied"), "{audit}");
    for text in [audit, fleet.log("s1-process"), fleet.log("n1")] {
        assert!(!text.contains(&kept.secret), "no secret of a token is told");
    }
}

/// One of another authority does not get through the handshake; one without a certificate gets nothing but
/// the calls that join.
fn strangers_are_refused(fleet: &Fleet) {
    let day = flyball_pki::DAY;
    let other = Authority::init(&fleet.path("other"), "ours", day, Timestamp::now()).unwrap();
    let order = Order {
        subject: Subject::Caller("user:ada".parse().unwrap()),
        hosts: Vec::new(),
        lifetime: day,
        key: KeyOf::New,
        not_before: None,
    };
    let issued = other.issue(&order, Timestamp::now()).unwrap();
    let ours = std::fs::read_to_string(fleet.path("ada").join("ca.pem")).unwrap();
    let eve = fleet.path("eve");
    write_identity(&eve, &ours, &issued.chain, issued.key.as_deref().unwrap()).unwrap();
    fleet.bad(Some(&eve), &["get", "loops"]);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let address = fleet.address.parse().unwrap();
        let channel = transport::connect_to_join(&address, None).await.unwrap();
        let nodes = NodesClient::new(channel.clone()).list(ListNodesRequest {}).await;
        assert_eq!(nodes.unwrap_err().code(), Code::PermissionDenied);
        let info = ServerClient::new(channel.clone()).info(InfoRequest {}).await;
        assert_eq!(info.unwrap_err().code(), Code::PermissionDenied);
        // It may guess, and not for long.
        let mut last = Code::Ok;
        for number in 0..1000 {
            let request =
                JoinRequest { token_id: format!("{number:016x}"), ..JoinRequest::default() };
            last = JoinClient::new(channel.clone()).join(request).await.unwrap_err().code();
            if last != Code::PermissionDenied {
                break;
            }
        }
        assert_eq!(last, Code::ResourceExhausted);
        // Connections are bounded as well.
        let mut open = Vec::new();
        let refused = loop {
            match transport::connect_to_join(&address, None).await {
                Ok(channel) => {
                    // Refused after the handshake, so the first call tells.
                    let info = ServerClient::new(channel.clone()).info(InfoRequest {}).await;
                    if info.is_err_and(|status| status.code() != Code::PermissionDenied) {
                        break true;
                    }
                    open.push(channel);
                }
                Err(_) => break true,
            }
            if open.len() > 100 {
                break false;
            }
        };
        assert!(refused, "{} connections of a stranger are open", open.len());
    });
}

#[test]
fn a_revoked_node_is_thrown_out_and_its_loop_goes_on_elsewhere() {
    if etcd::is_skipped() {
        eprintln!("skipped: no etcd");
        return;
    }
    let mut fleet = Fleet::start(true, "1h");
    fleet.apply(None, BINDING);
    fleet.add_worker("n1");
    fleet.add_worker("n2");
    let ada = fleet.path("ada");
    let repo = list(&["a", "b", "c", "d", "e", "f"]);
    let slowly = format!("sleep 0.3; {FINISH_ONE}");
    fleet.apply(Some(&ada), &finish_list("finish", &repo, &slowly, ""));
    let half = fleet.wait("finish", |status| status.progress.accepted >= 2);
    let victim = half.node.unwrap().to_string();

    let begun = Instant::now();
    let whose = format!("node:{victim}");
    let revoke = ["pki", "revoke", &whose, "--reason", "stolen"];
    fleet.good(None, &revoke);
    let ended = || fleet.log("s1-process").contains("the certificate was revoked at").then_some(());
    until("its connections have ended", BOUND, ended);
    println!("the revoked node's connections ended {:?} after the command began", begun.elapsed());
    fleet.wait_online(&victim, false);
    let status = fleet.converged("finish");
    println!("its loop was over elsewhere after {:?}", begun.elapsed());
    assert_ne!(status.node.unwrap().as_str(), victim);
    assert_eq!((status.progress.accepted, status.runs), (6, 2));
    let identity = fleet.path(&format!("{victim}-identity"));
    let why = fleet.bad(Some(&identity), &["auth", "whoami"]);
    assert!(why.contains("the certificate was revoked at") && !why.contains("stolen"), "{why}");
    let told = fleet.good(None, &["pki", "revoked", "-o", "json"]);
    assert!(told.contains(&whose) && told.contains("stolen"), "{told}");
    let audit = fleet.good(None, &["audit", "--verb", "revoke"]);
    assert!(audit.contains(&whose), "{audit}");

    // A new certificate is another matter.
    drop(fleet.workers.remove(&victim));
    fleet.add_worker(&victim);

    // One by its file; what is known counts while the store cannot be asked.
    let path = ada.display().to_string();
    let why = fleet.bad(Some(&ada), &["pki", "revoke", &path, "--reason", "x"]);
    assert!(why.contains("user:ada may not revoke certificates"), "{why}");
    fleet.good(Some(&ada), &["auth", "whoami"]);
    fleet.good(None, &["pki", "revoke", &path, "--reason", "left"]);
    let refused = |fleet: &Fleet| {
        let out = fleet.run(Some(&ada), &["auth", "whoami"], "");
        said(&out).1.contains("the certificate was revoked at").then_some(())
    };
    until("ada is refused", BOUND, || refused(&fleet));
    let stopped = Pid::from_raw(i32::try_from(fleet.etcd.as_ref().unwrap().pid()).unwrap());
    kill(stopped, Signal::SIGSTOP).unwrap();
    let still = refused(&fleet);
    kill(stopped, Signal::SIGCONT).unwrap();
    assert!(still.is_some(), "without its store the scheduler keeps what it knew");
}

#[test]
fn a_running_workers_certificate_is_renewed() {
    let mut fleet = Fleet::start(false, "20s");
    fleet.add_worker("n1");
    let file = fleet.path("n1-identity").join("cert.pem");
    let serial = || {
        let text = std::fs::read_to_string(&file).unwrap();
        facts_of_pem(&text).unwrap()[0].serial.clone()
    };
    let first = serial();
    let begun = Instant::now();
    let repo = list(&["a", "b", "c", "d"]);
    // Each iteration waits for longer than a quarter of a life.
    let slowly = format!("sleep 8; {FINISH_ONE}");
    fleet.apply(None, &finish_list("finish", &repo, &slowly, ""));
    let mut seen = vec![first];
    until("the certificate was renewed twice", Duration::from_secs(90), || {
        let now = serial();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        (seen.len() > 2).then_some(())
    });
    let status = fleet.converged("finish");
    println!("{} certificates in {:?}", seen.len(), begun.elapsed());
    // The first one has ended by now, and nobody noticed.
    assert!(begun.elapsed() > Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((status.runs, status.progress.accepted), (1, 4), "{}", fleet.log("n1"));
    assert!(fleet.log("n1").contains("the certificate was renewed"));
    let doctor = said(&fleet.run(None, &["doctor", "-o", "json"], "")).0;
    for told in ["OwnCertificate", "CallerCertificate", "node:n1", "scheduler:s1", "Signers"] {
        assert!(doctor.contains(told), "{told}: {doctor}");
    }
    let shown =
        fleet.good(None, &["pki", "show", &fleet.path("n1-identity").display().to_string()]);
    assert!(shown.contains(seen.last().unwrap()), "{shown}");
}

/// The number of the certificate in a directory.
fn serial_in(dir: &std::path::Path) -> String {
    let text = std::fs::read_to_string(dir.join("cert.pem")).unwrap();
    facts_of_pem(&text).unwrap()[0].serial.clone()
}

/// Two machines at once with one token: one of them gets in, however they interleave.
#[test]
fn a_token_that_two_use_at_once_admits_one() {
    let fleet = Fleet::start(false, "1h");
    let refused = "was used";
    for round in 0..4 {
        let token = fleet.token(&[]);
        let joins: Vec<bool> = std::thread::scope(|scope| {
            let joins: Vec<_> = (0..4)
                .map(|number| {
                    let name = format!("m{round}-{number}");
                    let joining = fleet.joining(&token, &name, &["--node", &name]);
                    let fleet = &fleet;
                    scope.spawn(move || {
                        let out = fleet.run(None, &args(&joining), "");
                        assert!(out.status.success() || said(&out).1.contains(refused));
                        out.status.success()
                    })
                })
                .collect();
            joins.into_iter().map(|join| join.join().unwrap()).collect()
        });
        assert_eq!(joins.iter().filter(|joined| **joined).count(), 1, "round {round}: {joins:?}");
    }
}

/// A scheduler that cannot sign names the one that can: its own certificate, a person's and a worker's are renewed
/// through it, and no process is restarted.
#[test]
fn certificates_are_renewed_through_a_scheduler_that_does_not_sign() {
    if etcd::is_skipped() {
        eprintln!("skipped: no etcd");
        return;
    }
    let fleet = Fleet::start(true, "1h");
    fleet.issue_for("--scheduler=s2", Some("127.0.0.1"), "s2", Some("20s"));
    let first = serial_in(&fleet.path("s2"));
    let began = Timestamp::now();
    let (mut scheduler, address) = fleet.start_scheduler("s2", &[]);

    // A person asks it, and gets one from the other. The key stays; the certificate is another one.
    let ada = fleet.path("ada");
    let (key, was) = (std::fs::read(ada.join("key.pem")).unwrap(), serial_in(&ada));
    let renew = |fleet: &Fleet, format: &[&str]| {
        let args = [&["--addr", address.as_str(), "pki", "renew"], format].concat();
        fleet.run(Some(&ada), &args, "")
    };
    let said_so = renew(&fleet, &["-o", "json"]);
    let (text, error) = said(&said_so);
    assert!(said_so.status.success(), "{text}{error}");
    let is = serial_in(&ada);
    assert_ne!(is, was);
    assert!(text.contains(&is) && text.contains("user:ada"), "{text}");
    assert_eq!(std::fs::read(ada.join("key.pem")).unwrap(), key);
    let whoami = fleet.run(Some(&ada), &["--addr", &address, "auth", "whoami"], "");
    assert!(said(&whoami).0.contains("user:ada"), "{whoami:?}");

    // Its own is renewed by itself, before the first one has ended, in the running process.
    until("the scheduler's own certificate is renewed", BOUND, || {
        (serial_in(&fleet.path("s2")) != first).then_some(())
    });
    // Said after it was written.
    until("the renewal is told", BOUND, || {
        fleet.log("s2-process").contains("the certificate was renewed").then_some(())
    });
    let dir = fleet.path("s2");
    let facts = facts_of_pem(&std::fs::read_to_string(dir.join("cert.pem")).unwrap()).unwrap();
    assert_eq!(facts[0].hosts, ["127.0.0.1"], "it may listen where it did");
    let ended = || (Timestamp::now() > began + SignedDuration::from_secs(21)).then_some(());
    until("the first certificate has ended", BOUND, ended);
    let whoami = fleet.run(Some(&ada), &["--addr", &address, "auth", "whoami"], "");
    assert!(whoami.status.success(), "{whoami:?}: it shows the new one");
    assert_eq!(scheduler.ended(), None, "{}", fleet.log("s2-process"));

    // Revoked, nobody renews.
    fleet.good(None, &["pki", "revoke", "user:ada", "--reason", "left"]);
    until("ada cannot renew", BOUND, || (!renew(&fleet, &[]).status.success()).then_some(()));
}

/// Without a certificate or a scheduler, `doctor --local` looks at the host; with one it looks at that too.
#[test]
fn doctor_on_this_host_needs_no_certificate_and_looks_at_one() {
    let dir = tempfile::tempdir().unwrap();
    let flyball = |args: &[&str]| {
        let mut command = std::process::Command::new(flyball_tests::binary::flyball());
        command.args(args).env("HOME", dir.path()).current_dir(dir.path());
        for name in ["FLYBALL_ADDR", "FLYBALL_IDENTITY", "FLYBALL_TOKEN", "FLYBALL_PKI_DIR"] {
            command.env_remove(name);
        }
        command.output().unwrap()
    };
    let local = ["doctor", "--local", "-o", "json"];
    let (without, error) = said(&flyball(&local));
    for code in ["Guard", "Limits", "Kill"] {
        assert!(without.contains(&format!("\"{code}\"")), "{code}: {without}{error}");
    }
    assert!(without.contains("memory") && !without.contains("ClientIdentity"), "{without}");

    for args in [&["init"][..], &["issue", "--node=n1", "--out=n1"]] {
        let out = flyball(&[&["pki"], args, &["--dir=pki"]].concat());
        assert!(out.status.success(), "{args:?}: {}", said(&out).1);
    }
    let with = said(&flyball(&[&local[..], &["--identity=n1"]].concat())).0;
    assert!(with.contains("this client is node:n1 until"), "{with}");
    std::fs::remove_file(dir.path().join("n1/cert.pem")).unwrap();
    let broken = flyball(&[&local[..], &["--identity=n1"]].concat());
    assert_eq!(broken.status.code(), Some(1), "{broken:?}");
    assert!(said(&broken).0.contains("ClientIdentity"), "{broken:?}");
}
