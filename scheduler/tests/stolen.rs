//! A node that knows more of others' runs than it should: what it may not fetch, report or take over with that.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::secrets_client::SecretsClient;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{
    Assign, FetchSecretsRequest, HeartbeatRequest, NodeMessage, RunEnded, SchedulerMessage,
    SetSecretRequest, node_message, scheduler_message,
};
use flyball_scheduler::SecretKeys;
use serde_json::json;
use support::{Callers, PATIENCE, ack, attach, manifest};
use tonic::{Code, Status, Streaming};

const FORGED: &[u8] = br#"{"phase":"Converged","reason":"None","message":"forged"}"#;

async fn start(dir: &std::path::Path) -> Callers {
    let keys = SecretKeys::at(&dir.join("secrets.key")).unwrap();
    Callers::start_with(dir, |config| config.secret_keys = Some(keys)).await
}

async fn assigned(from: &mut Streaming<SchedulerMessage>) -> Assign {
    let read = async {
        loop {
            let message = from.message().await.unwrap().unwrap().message;
            if let Some(scheduler_message::Message::Assign(run)) = message {
                return run;
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

fn ended(run: &Assign, sequence: u64) -> RunEnded {
    RunEnded {
        sequence,
        namespace: run.namespace.clone(),
        r#loop: run.name.clone(),
        uid: run.uid.clone(),
        token: run.token,
        progress_json: b"{}".to_vec().into(),
        outcome_json: FORGED.to_vec().into(),
        stopped: true,
    }
}

fn message(ended: RunEnded) -> NodeMessage {
    NodeMessage { message: Some(node_message::Message::RunEnded(ended)) }
}

async fn set(callers: &Callers, name: &str) {
    let mut owner = SecretsClient::new(callers.caller("owner").await);
    let value = format!("value-of-{name}").into_bytes().into();
    let (namespace, name) = ("default".to_owned(), name.to_owned());
    owner.set(SetSecretRequest { namespace, name, value }).await.unwrap();
}

async fn fetch(
    callers: &Callers,
    who: &str,
    request: FetchSecretsRequest,
) -> Result<Vec<String>, Status> {
    let mut client = SecretsClient::new(callers.caller(who).await);
    let found = client.fetch(request).await?.into_inner().secrets;
    Ok(found.iter().map(|one| String::from_utf8_lossy(&one.value).into_owned()).collect())
}

#[tokio::test]
async fn secrets_go_to_the_run_that_names_them_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let callers = start(dir.path()).await;
    set(&callers, "one").await;
    set(&callers, "other").await;
    let (to, mut from, _) = attach(&callers, "node:n1", "n1").await.unwrap();
    let mut owner = LoopsClient::new(callers.caller("owner").await);
    let mut x = manifest("x", &["gpu:n/0"]);
    x["spec"]["secrets"] = json!([{"name": "one", "to": ["check/ok"], "env": "ONE"}]);
    support::apply_as(&mut owner, &x).await;
    let run = assigned(&mut from).await;
    // Another loop, with a secret of its own, that nobody runs yet as its set is taken.
    let mut y = manifest("y", &["gpu:n/0"]);
    y["spec"]["secrets"] = json!([{"name": "other", "to": ["check/ok"], "env": "OTHER"}]);
    support::apply_as(&mut owner, &y).await;
    let (_other_to, _other_from, _) = attach(&callers, "node:n2", "n2").await.unwrap();

    let right = FetchSecretsRequest {
        node: "n1".to_owned(),
        incarnation: "i-n1".to_owned(),
        namespace: run.namespace.clone(),
        r#loop: run.name.clone(),
        uid: run.uid.clone(),
        token: run.token,
    };
    let own = FetchSecretsRequest {
        node: "n2".to_owned(),
        incarnation: "i-n2".to_owned(),
        ..right.clone()
    };
    let text = str::to_owned;
    let attempts = [
        ("another node in the owner's name", "node:n2", right.clone()),
        ("another node in its own name", "node:n2", own),
        ("a user", "user:eve", right.clone()),
        ("a later token", "node:n1", FetchSecretsRequest { token: run.token + 1, ..right.clone() }),
        (
            "an older token",
            "node:n1",
            FetchSecretsRequest { token: run.token - 1, ..right.clone() },
        ),
        ("no token", "node:n1", FetchSecretsRequest { token: 0, ..right.clone() }),
        (
            "another life",
            "node:n1",
            FetchSecretsRequest { incarnation: text("i-n0"), ..right.clone() },
        ),
        ("another uid", "node:n1", FetchSecretsRequest { uid: text("u-0"), ..right.clone() }),
        ("another loop", "node:n1", FetchSecretsRequest { r#loop: text("y"), ..right.clone() }),
        (
            "another namespace",
            "node:n1",
            FetchSecretsRequest { namespace: text("b"), ..right.clone() },
        ),
    ];
    for (what, who, request) in attempts {
        let refused = fetch(&callers, who, request).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{what}: {refused}");
    }
    assert_eq!(fetch(&callers, "node:n1", right.clone()).await.unwrap(), ["value-of-one"]);
    // Once the run has ended its token opens nothing any more.
    to.send(message(ended(&run, 1))).await.unwrap();
    assert_eq!(ack(&mut from).await, (1, String::new()));
    let refused = fetch(&callers, "node:n1", right).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test]
async fn a_forged_token_and_a_replayed_session_end_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let callers = start(dir.path()).await;
    let (to, mut from, lease) = attach(&callers, "node:n1", "n1").await.unwrap();
    let mut owner = LoopsClient::new(callers.caller("owner").await);
    support::apply_as(&mut owner, &manifest("x", &["gpu:n/0"])).await;
    let run = assigned(&mut from).await;
    let forged = [
        RunEnded { token: run.token + 1, ..ended(&run, 1) },
        RunEnded { token: run.token - 1, ..ended(&run, 2) },
        RunEnded { token: i64::MAX, ..ended(&run, 3) },
        RunEnded { uid: "u-0".to_owned(), ..ended(&run, 4) },
        RunEnded { r#loop: "y".to_owned(), ..ended(&run, 5) },
    ];
    for one in forged {
        let sequence = one.sequence;
        to.send(message(one)).await.unwrap();
        assert_eq!(ack(&mut from).await, (sequence, "fenced".to_owned()));
    }
    // Whoever has seen its registration or its lease gains nothing by saying the same again.
    assert_eq!(attach(&callers, "node:n2", "n1").await.unwrap_err().code(), Code::PermissionDenied);
    let (other_to, mut other_from, other_lease) = attach(&callers, "node:n2", "n2").await.unwrap();
    assert_ne!(lease, other_lease);
    let mut n2 = SessionsClient::new(callers.caller("node:n2").await);
    let beat = HeartbeatRequest {
        node: "n2".to_owned(),
        incarnation: "i-n2".to_owned(),
        lease_id: lease,
        token_mark: 0,
    };
    let refused = n2.heartbeat(beat).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "unknown, never lost: {refused}");
    // The owner's own last word, replayed by another node before the owner says it.
    other_to.send(message(ended(&run, 6))).await.unwrap();
    assert_eq!(ack(&mut other_from).await, (6, "fenced".to_owned()));
    to.send(message(ended(&run, 7))).await.unwrap();
    assert_eq!(ack(&mut from).await, (7, String::new()));
}
