//! Authorities against each other, over real connections on the loopback.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::files::{CERTIFICATE, KEY, request_for, write_certificates, write_identity};
use crate::live::LiveIdentity;
use crate::{DAY, Peer, PinnedRoot, accept, connect, connect_trusting, connect_unverified};

fn now() -> Timestamp {
    Timestamp::now()
}

fn authority(dir: &TempDir, name: &str) -> Authority {
    Authority::init(&dir.path().join(name), name, DAY * 10, now()).unwrap()
}

fn order(subject: &str) -> Order<'static> {
    let identity = subject.parse().unwrap();
    let subject = Subject::Caller(identity);
    let hosts = if subject.serves() { vec!["127.0.0.1".to_owned()] } else { Vec::new() };
    let lifetime = Duration::from_secs(3600);
    Order { subject, hosts, lifetime, key: KeyOf::New, not_before: None }
}

fn write(dir: &Path, issued: &Issued) -> LiveIdentity {
    write_identity(dir, &issued.bundle, &issued.chain, issued.key.as_deref().unwrap()).unwrap();
    LiveIdentity::open(dir).unwrap()
}

fn identity(dir: &TempDir, authority: &Authority, subject: &str) -> LiveIdentity {
    let place = dir.path().join(format!("{}-{}", subject.replace(':', "-"), authority.pin()));
    write(&place, &authority.issue(&order(subject), now()).unwrap())
}

/// Connects two identities: what the server saw, or who refused and why.
async fn meet(server: &LiveIdentity, client: &LiveIdentity, host: &str) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut accepted =
            accept(tcp, server, false).await.map_err(|error| format!("server: {error}"))?;
        accepted.stream.write_all(b"x").await.map_err(|error| error.to_string())?;
        accepted.stream.shutdown().await.map_err(|error| error.to_string())?;
        Ok(accepted.peer.unwrap().identity.unwrap().to_string())
    };
    let ask = async {
        let connected = connect((host, port), client, Peer::Scheduler).await;
        let mut stream = connected.map_err(|error| format!("client: {error}"))?;
        // Of TLS 1.3's refusals the client learns with the first read.
        stream.read_u8().await.map_err(|error| format!("client: {error}"))
    };
    let (served, asked): (Result<String, String>, Result<u8, String>) = tokio::join!(serve, ask);
    match (served, asked) {
        (Ok(who), Ok(_)) => Ok(who),
        (_, Err(why)) if why.contains("certificate") || why.contains("scheduler") => Err(why),
        (Err(why), _) | (_, Err(why)) => Err(why),
    }
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let dir = TempDir::new().unwrap();
    let (ours, other) = (authority(&dir, "ours"), authority(&dir, "other"));
    let server = identity(&dir, &ours, "scheduler:s1");
    let node = identity(&dir, &ours, "node:n1");
    assert_eq!(meet(&server, &node, "127.0.0.1").await.as_deref(), Ok("node:n1"));
    let stranger = identity(&dir, &other, "node:n1");
    assert!(meet(&server, &stranger, "127.0.0.1").await.is_err(), "another authority's client");
    let impostor = identity(&dir, &other, "scheduler:s1");
    assert!(meet(&impostor, &node, "127.0.0.1").await.is_err(), "another authority's server");
    let why = meet(&server, &node, "localhost").await.unwrap_err();
    assert!(why.contains("localhost"), "the name in the address counts: {why}");
    let why = meet(&node, &server, "127.0.0.1").await.unwrap_err();
    assert!(why.contains("certificate"), "a node cannot serve: {why}");
}

#[tokio::test]
async fn a_scheduler_says_so_in_its_certificate() {
    let dir = TempDir::new().unwrap();
    let ours = authority(&dir, "ours");
    let node = identity(&dir, &ours, "node:n1");
    let subject = Subject::EtcdMember("e1".to_owned());
    let order = Order { subject, ..order("scheduler:s1") };
    let member = write(&dir.path().join("member"), &ours.issue(&order, now()).unwrap());
    let why = meet(&member, &node, "127.0.0.1").await.unwrap_err();
    assert!(why.contains("nobody of ours"), "{why}");
}

#[tokio::test]
async fn a_new_authority_is_accepted_by_whoever_knows_only_the_old_one() {
    let dir = TempDir::new().unwrap();
    let old = authority(&dir, "ours");
    let (old_server, old_node) =
        (identity(&dir, &old, "scheduler:s1"), identity(&dir, &old, "node:n1"));
    let new = old.rotate(DAY * 10, now()).unwrap();
    assert_ne!(new.pin(), old.pin());
    assert_eq!(facts_of_pem(new.bundle()).unwrap().len(), 2);
    let (new_server, new_node) =
        (identity(&dir, &new, "scheduler:s1"), identity(&dir, &new, "node:n1"));
    for server in [&old_server, &new_server] {
        for node in [&old_node, &new_node] {
            assert_eq!(meet(server, node, "127.0.0.1").await.as_deref(), Ok("node:n1"));
        }
    }
    let last = new.retire().unwrap();
    let (last_server, last_node) =
        (identity(&dir, &last, "scheduler:s1"), identity(&dir, &last, "node:n1"));
    assert_eq!(meet(&last_server, &last_node, "127.0.0.1").await.as_deref(), Ok("node:n1"));
    assert!(meet(&last_server, &old_node, "127.0.0.1").await.is_err(), "retired");
}

#[tokio::test]
async fn a_pin_finds_the_authority_and_nobody_else() {
    let dir = TempDir::new().unwrap();
    let (ours, other) = (authority(&dir, "ours"), authority(&dir, "other"));
    assert!(PinnedRoot::find(other.bundle(), ours.pin()).is_err());
    let root = PinnedRoot::find(ours.bundle(), ours.pin()).unwrap();
    for (authority, good) in [(&ours, true), (&other, false)] {
        let server = identity(&dir, authority, "scheduler:s1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = async {
            let (tcp, _) = listener.accept().await.unwrap();
            accept(tcp, &server, true).await.map(|accepted| accepted.peer).ok()
        };
        let (served, asked) = tokio::join!(serve, connect_trusting(("127.0.0.1", port), &root));
        assert_eq!((served.is_some(), asked.is_ok()), (good, good));
        let serve = async {
            let (tcp, _) = listener.accept().await.unwrap();
            accept(tcp, &server, true).await.map(|accepted| accepted.peer).ok()
        };
        let (served, asked) = tokio::join!(serve, connect_unverified(("127.0.0.1", port)));
        assert_eq!((served, asked.is_ok()), (Some(None), true));
    }
}

#[test]
fn what_is_issued_is_bounded() {
    let dir = TempDir::new().unwrap();
    let ours = authority(&dir, "ours");
    let issue = |order: &Order<'_>| ours.issue(order, now());
    let facts = issue(&order("node:n1")).unwrap().facts;
    assert_eq!(facts.identity.map(|who| who.to_string()).as_deref(), Some("node:n1"));
    assert!(!facts.is_authority && facts.hosts.is_empty());
    let long = issue(&Order { lifetime: DAY * 300, ..order("user:ada") }).unwrap().facts;
    assert_eq!(long.not_after, ours.facts().not_after, "not longer than its authority");
    assert!(issue(&Order { lifetime: LIFETIME_MAX * 2, ..order("user:ada") }).is_err());
    assert!(issue(&Order { lifetime: Duration::ZERO, ..order("user:ada") }).is_err());
    assert!(issue(&Order { hosts: Vec::new(), ..order("scheduler:s1") }).is_err());
    assert!(issue(&Order { hosts: vec!["h".to_owned()], ..order("node:n1") }).is_err());
    let owner = Subject::Caller(flyball_core::identity::Identity::Owner);
    assert!(issue(&Order { subject: owner, ..order("user:ada") }).is_err());
    let later = now() + jiff::SignedDuration::from_secs(30);
    let facts = issue(&Order { not_before: Some(later), ..order("user:ada") }).unwrap().facts;
    assert_eq!(facts.not_before.as_second(), later.as_second());
    assert!(issue(&Order { key: KeyOf::Request(b"junk"), ..order("user:ada") }).is_err());
    assert!(
        Authority::init(&dir.path().join("ours"), "x", DAY, now()).is_err(),
        "never over another"
    );
}

#[test]
fn a_request_gets_a_certificate_for_its_key_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let ours = authority(&dir, "ours");
    let place = dir.path().join("n1");
    let request = request_for(&place).unwrap();
    let order = Order { key: KeyOf::Request(&request), ..order("node:n1") };
    let issued = ours.issue(&order, now()).unwrap();
    assert!(issued.key.is_none());
    write_certificates(&place, &issued.bundle, &issued.chain).unwrap();
    let identity = LiveIdentity::open(&place).unwrap();
    assert_eq!(identity.identity().unwrap().to_string(), "node:n1");
    let again = request_for(&place).unwrap();
    let order = Order { key: KeyOf::Request(&again), ..order };
    assert_eq!(ours.issue(&order, now()).unwrap().facts.key, issued.facts.key, "the key stays");
    let mut forged = request.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(ours.issue(&Order { key: KeyOf::Request(&forged), ..order }, now()).is_err());
}

#[test]
fn keys_that_others_can_read_are_refused() {
    let dir = TempDir::new().unwrap();
    let ours = authority(&dir, "ours");
    let node = identity(&dir, &ours, "node:n1");
    for mode in [0o640, 0o604, 0o644] {
        for file in [node.dir().join(KEY), dir.path().join("ours").join(CA_KEY)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let why = LiveIdentity::open(node.dir()).unwrap_err().to_string();
        assert!(why.contains("chmod 600") && why.contains(&format!("{mode:03o}")), "{why}");
        assert!(Authority::load(&dir.path().join("ours")).is_err());
    }
}

#[test]
fn files_that_do_not_belong_together_are_named() {
    let dir = TempDir::new().unwrap();
    let ours = authority(&dir, "ours");
    let (one, two) = (identity(&dir, &ours, "node:n1"), identity(&dir, &ours, "node:n2"));
    std::fs::copy(two.dir().join(CERTIFICATE), one.dir().join(CERTIFICATE)).unwrap();
    let why = LiveIdentity::open(one.dir()).unwrap_err().to_string();
    assert!(why.contains("is not the key of"), "{why}");
    std::fs::write(one.dir().join(CERTIFICATE), "junk").unwrap();
    let why = LiveIdentity::open(one.dir()).unwrap_err().to_string();
    assert!(why.contains("no certificate"), "{why}");
    assert!(one.identity().is_ok(), "what was read before stays in use");
}

#[test]
fn a_rotation_that_was_cut_short_leaves_the_old_one_working() {
    let dir = TempDir::new().unwrap();
    let old = authority(&dir, "ours");
    let place = dir.path().join("ours");
    let key = std::fs::read_to_string(place.join(CA_KEY)).unwrap();
    old.rotate(DAY, now()).unwrap();
    write_private(&place.join(CA_KEY), &key).unwrap();
    let found = Authority::load(&place).unwrap();
    assert_eq!(found.pin(), old.pin());
    let issued = found.issue(&order("node:n1"), now()).unwrap();
    assert_eq!(facts_of_pem(&issued.chain).unwrap().len(), 1, "nothing of the new one is shown");
}

#[test]
fn renewal_is_due_in_the_last_third() {
    let dir = TempDir::new().unwrap();
    let ours = authority(&dir, "ours");
    let begun = now();
    let facts = ours.issue(&order("node:n1"), begun).unwrap().facts;
    let due = facts.renewal_due().as_second() - begun.as_second();
    assert!((2399..=2401).contains(&due), "{due}");
    assert!(
        facts.is_valid_at(begun) && !facts.is_valid_at(begun + jiff::SignedDuration::from_hours(2))
    );
}
