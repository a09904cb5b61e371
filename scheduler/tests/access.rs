//! Roles and bindings on a real scheduler: who gets through, who does not, and what a change does.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use flyball_core::access::AuditEntry;
use flyball_proto::v1::access_client::AccessClient;
use flyball_proto::v1::audit_client::AuditClient;
use flyball_proto::v1::events_client::EventsClient;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::nodes_client::NodesClient;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::{
    ApplyAccessRequest, ApplyRequest, CanIRequest, CancelLoopRequest, DeleteBindingRequest,
    DeleteRoleRequest, GetLoopRequest, HeartbeatRequest, ListAuditRequest, ListBindingsRequest,
    ListEventsRequest, ListLoopsRequest, ListNodesRequest, ListRolesRequest, MarkNodeRequest,
    NodeMark, NodeMessage, ReportGoneRequest, RunEnded, SchedulerMessage, VerifyAuditRequest,
    WhoAmIRequest, node_message, scheduler_message,
};
use serde_json::{Value, json};
use support::{As, Callers, PATIENCE, ack, attach, manifest};
use tonic::{Code, Status, Streaming};

fn document(value: &Value) -> ApplyAccessRequest {
    ApplyAccessRequest { manifest_json: value.to_string().into(), dry_run: false }
}

fn role(name: &str, verbs: &[&str], kinds: &[&str]) -> Value {
    json!({
        "apiVersion": "flyball.dev/v1", "kind": "Role", "metadata": { "name": name },
        "spec": { "rules": [{ "verbs": verbs, "kinds": kinds }] },
    })
}

fn binding(name: &str, namespace: Option<&str>, role: &str, subjects: &[&str]) -> Value {
    let mut metadata = json!({ "name": name });
    if let Some(namespace) = namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({
        "apiVersion": "flyball.dev/v1", "kind": "RoleBinding", "metadata": metadata,
        "spec": { "role": role, "subjects": subjects, "allNamespaces": namespace.is_none() },
    })
}

async fn bind(callers: &Callers, value: &Value) {
    let mut access = AccessClient::new(callers.caller("owner").await);
    access.apply_binding(document(value)).await.unwrap();
}

async fn submit(client: &mut LoopsClient<As>, namespace: &str, name: &str) -> Result<(), Status> {
    let mut json = manifest(name, &[&format!("gpu:{namespace}/{name}")]);
    json["metadata"]["namespace"] = json!(namespace);
    let manifest_json = json.to_string().into();
    client.apply(ApplyRequest { manifest_json, ..ApplyRequest::default() }).await.map(drop)
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

/// Tries again until the answer is the wanted one: a change takes as long as the watch.
async fn until(wanted: Code, mut ask: impl AsyncFnMut() -> Code) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let found = ask().await;
        if found == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "still {found:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_submitter_of_one_namespace_touches_no_other_and_a_viewer_submits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let callers = Callers::start(dir.path()).await;
    let mut ada = LoopsClient::new(callers.caller("user:ada").await);
    let refused = submit(&mut ada, "a", "x").await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("a role that would: submitter, admin"), "{refused}");

    bind(&callers, &binding("subs", Some("a"), "submitter", &["user:ada"])).await;
    bind(&callers, &binding("views", Some("a"), "viewer", &["user:vic"])).await;
    until(Code::Ok, async || code(submit(&mut ada, "a", "x").await)).await;
    let refused = submit(&mut ada, "b", "x").await.unwrap_err();
    assert!(refused.message().ends_with("it may in: a"), "{refused}");
    assert_eq!(code(submit(&mut ada, "", "x").await), Code::PermissionDenied);
    let everywhere = ListLoopsRequest::default();
    assert_eq!(code(ada.list(everywhere.clone()).await), Code::PermissionDenied);
    let own = ListLoopsRequest { namespace: "a".to_owned(), ..everywhere };
    assert_eq!(ada.list(own.clone()).await.unwrap().into_inner().loops.len(), 1);

    let mut vic = LoopsClient::new(callers.caller("user:vic").await);
    until(Code::Ok, async || code(vic.list(own.clone()).await)).await;
    let get =
        |namespace: &str| GetLoopRequest { namespace: namespace.to_owned(), name: "x".to_owned() };
    assert_eq!(code(vic.get(get("a")).await), Code::Ok);
    assert_eq!(code(vic.get(get("b")).await), Code::PermissionDenied, "not NotFound");
    assert_eq!(code(submit(&mut vic, "a", "y").await), Code::PermissionDenied);
    let cancel = CancelLoopRequest {
        namespace: "a".to_owned(),
        name: "x".to_owned(),
        ..CancelLoopRequest::default()
    };
    assert_eq!(code(vic.cancel(cancel.clone()).await), Code::PermissionDenied);
    let mut events = EventsClient::new(callers.caller("user:vic").await);
    let of = |namespace: &str| ListEventsRequest {
        namespace: namespace.to_owned(),
        ..Default::default()
    };
    assert_eq!(code(events.list(of("a")).await), Code::Ok);
    assert_eq!(code(events.list(of("")).await), Code::PermissionDenied);
    assert_eq!(code(ada.cancel(cancel).await), Code::Ok);
}

#[tokio::test]
async fn custom_roles_and_changes_of_bindings_count_on_every_scheduler_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut callers = Callers::start(dir.path()).await;
    callers.add(|_| {}).await;
    let mut owner = AccessClient::new(callers.caller("owner").await);
    owner.apply_role(document(&role("marker", &["cordon"], &["nodes"]))).await.unwrap();
    bind(&callers, &binding("marks", None, "marker", &["user:oda"])).await;
    let mark = MarkNodeRequest {
        name: "n1".to_owned(),
        mark: NodeMark::Cordoned.into(),
        ..MarkNodeRequest::default()
    };
    for number in [0, 1] {
        let mut oda = NodesClient::new(callers.caller_at(number, "user:oda").await);
        // Allowed, and there is no such node.
        until(Code::NotFound, async || code(oda.mark(mark.clone()).await)).await;
        assert_eq!(code(oda.list(ListNodesRequest {}).await), Code::PermissionDenied);
    }
    let in_use = owner.delete_role(DeleteRoleRequest { name: "marker".to_owned() }).await;
    assert_eq!(code(in_use), Code::FailedPrecondition);
    let gone = DeleteBindingRequest {
        name: "marks".to_owned(),
        all_namespaces: true,
        ..Default::default()
    };
    owner.delete_binding(gone.clone()).await.unwrap();
    assert_eq!(code(owner.delete_binding(gone).await), Code::NotFound);
    for number in [0, 1] {
        let mut oda = NodesClient::new(callers.caller_at(number, "user:oda").await);
        until(Code::PermissionDenied, async || code(oda.mark(mark.clone()).await)).await;
    }
    owner.delete_role(DeleteRoleRequest { name: "marker".to_owned() }).await.unwrap();
    let built_in = owner.delete_role(DeleteRoleRequest { name: "admin".to_owned() }).await;
    assert_eq!(code(built_in), Code::FailedPrecondition);
    let roles = owner.list_roles(ListRolesRequest {}).await.unwrap().into_inner().roles;
    let names: Vec<_> = roles.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["viewer", "submitter", "operator", "admin", "node"]);
}

#[tokio::test]
async fn nobody_raises_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let callers = Callers::start(dir.path()).await;
    bind(&callers, &binding("adm", Some("a"), "admin", &["user:bea"])).await;
    let mut bea = AccessClient::new(callers.caller("user:bea").await);
    let own = binding("mates", Some("a"), "submitter", &["user:ada"]);
    until(Code::Ok, async || code(bea.apply_binding(document(&own)).await)).await;
    for sly in [
        binding("adm", None, "admin", &["user:bea"]),
        binding("adm", Some("b"), "admin", &["user:bea"]),
    ] {
        assert_eq!(code(bea.apply_binding(document(&sly)).await), Code::PermissionDenied, "{sly}");
    }
    // What says two things at once is refused whichever of them is read.
    let mut both = binding("adm", Some("a"), "admin", &["user:bea"]);
    both["spec"]["allNamespaces"] = json!(true);
    assert_ne!(code(bea.apply_binding(document(&both)).await), Code::Ok);
    let sly = role("all", &["*"], &["*"]);
    assert_eq!(code(bea.apply_role(document(&sly)).await), Code::PermissionDenied);
    // An operator who may write roles may not write more than it has.
    let mut owner = AccessClient::new(callers.caller("owner").await);
    owner
        .apply_role(document(&role("roles", &["apply", "list"], &["roles", "rolebindings"])))
        .await
        .unwrap();
    bind(&callers, &binding("r", None, "roles", &["user:rob"])).await;
    let mut rob = AccessClient::new(callers.caller("user:rob").await);
    until(Code::Ok, async || code(rob.list_roles(ListRolesRequest {}).await)).await;
    let refused = rob.apply_role(document(&sly)).await.unwrap_err();
    assert!(refused.message().contains("may not give away"), "{refused}");
    let own = binding("r", None, "admin", &["user:rob"]);
    assert_eq!(code(rob.apply_binding(document(&own)).await), Code::PermissionDenied);
    let missing = binding("r2", None, "nosuch", &["user:rob"]);
    let invalid = owner.apply_binding(document(&missing)).await.unwrap_err();
    assert!(invalid.message().contains("there is no such role"), "{invalid}");
    let of_a = ListBindingsRequest { namespace: "a".to_owned() };
    let listed = bea.list_bindings(of_a).await.unwrap().into_inner().bindings;
    assert_eq!(listed.len(), 2);
}

#[tokio::test]
async fn everybody_may_ask_who_they_are_and_what_they_may() {
    let dir = tempfile::tempdir().unwrap();
    let callers = Callers::start(dir.path()).await;
    bind(&callers, &binding("subs", Some("a"), "submitter", &["user:ada"])).await;
    let mut ada = AccessClient::new(callers.caller("user:ada").await);
    let ask = |namespace: &str| CanIRequest {
        verb: "create".to_owned(),
        kind: "loop".to_owned(),
        namespace: namespace.to_owned(),
    };
    let allowed = async |client: &mut AccessClient<As>, namespace: &str| {
        client.can_i(ask(namespace)).await.unwrap().into_inner()
    };
    until(Code::Ok, async || match allowed(&mut ada, "a").await.allowed {
        true => Code::Ok,
        false => Code::PermissionDenied,
    })
    .await;
    let yes = allowed(&mut ada, "a").await;
    assert_eq!(yes.reason, "role submitter, given by rolebinding a/subs");
    assert!(!allowed(&mut ada, "b").await.allowed);
    assert!(!allowed(&mut ada, "").await.allowed);
    let me = ada.who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
    assert_eq!((me.identity.as_str(), me.roles.len()), ("user:ada", 1));
    assert!(me.from.starts_with("unix uid "), "{}", me.from);
    let mut owner = AccessClient::new(callers.caller("owner").await);
    assert!(allowed(&mut owner, "").await.allowed);
    let bad = CanIRequest { verb: "fly".to_owned(), ..ask("a") };
    assert_eq!(code(ada.can_i(bad).await), Code::InvalidArgument);
}

#[tokio::test]
async fn a_node_speaks_for_itself_only() {
    let dir = tempfile::tempdir().unwrap();
    let callers = Callers::start(dir.path()).await;
    let (to, mut from, lease) = attach(&callers, "node:n1", "n1").await.unwrap();
    assert_eq!(code(attach(&callers, "node:n2", "n1").await), Code::PermissionDenied);
    assert_eq!(code(attach(&callers, "user:eve", "n1").await), Code::PermissionDenied);
    let (other_to, mut other_from, _) = attach(&callers, "node:n2", "n2").await.unwrap();

    let beat = HeartbeatRequest {
        node: "n1".to_owned(),
        incarnation: "i-n1".to_owned(),
        lease_id: lease,
        token_mark: 0,
    };
    let gone = ReportGoneRequest {
        node: "n1".to_owned(),
        incarnation: "i-n1".to_owned(),
        lease_id: lease,
    };
    let mut n2 = SessionsClient::new(callers.caller("node:n2").await);
    assert_eq!(code(n2.heartbeat(beat.clone()).await), Code::PermissionDenied);
    assert_eq!(code(n2.report_gone(gone.clone()).await), Code::PermissionDenied);
    // Under its own name the other's lease is not its own either.
    let sly = ReportGoneRequest { node: "n2".to_owned(), ..gone.clone() };
    assert_eq!(code(n2.report_gone(sly).await), Code::FailedPrecondition);
    let mut loops = LoopsClient::new(callers.caller("node:n1").await);
    assert_eq!(code(loops.list(ListLoopsRequest::default()).await), Code::PermissionDenied);

    let mut n1 = SessionsClient::new(callers.caller("node:n1").await);
    n1.heartbeat(beat).await.unwrap();
    // A run of n1 is not for n2 to report, whatever it knows of it.
    let mut owner = LoopsClient::new(callers.caller("owner").await);
    support::apply_as(&mut owner, &manifest("x", &["gpu:n/0"])).await;
    let (run, mut to, mut from, other_to, mut other_from) =
        match assigned(&mut from, &mut other_from).await {
            (run, true) => (run, to, from, other_to, other_from),
            (run, false) => (run, other_to, other_from, to, from),
        };
    let ended = |sequence| NodeMessage {
        message: Some(node_message::Message::RunEnded(RunEnded {
            sequence,
            namespace: run.namespace.clone(),
            r#loop: run.name.clone(),
            uid: run.uid.clone(),
            token: run.token,
            progress_json: b"{}".to_vec().into(),
            outcome_json:
                br#"{"phase":"Converged","reason":"None","message":"forged"}"#.to_vec().into(),
            stopped: true,
        })),
    };
    other_to.send(ended(1)).await.unwrap();
    assert_eq!(ack(&mut other_from).await, (1, "fenced".to_owned()));
    to.send(ended(2)).await.unwrap();
    assert_eq!(ack(&mut from).await, (2, String::new()));
    let _ = (&mut to, &mut from);
    n1.report_gone(gone).await.unwrap();
}

/// The assignment, and whether the first of the two streams got it.
async fn assigned(
    one: &mut Streaming<SchedulerMessage>,
    other: &mut Streaming<SchedulerMessage>,
) -> (flyball_proto::v1::Assign, bool) {
    let read = async {
        loop {
            let (message, first) = tokio::select! {
                message = one.message() => (message, true),
                message = other.message() => (message, false),
            };
            if let Some(scheduler_message::Message::Assign(run)) = message.unwrap().unwrap().message
            {
                return (run, first);
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

#[tokio::test]
async fn the_trail_tells_who_did_what_and_shows_when_it_was_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut callers = Callers::start(dir.path()).await;
    callers.add(|_| {}).await;
    bind(&callers, &binding("subs", Some("a"), "submitter", &["user:ada"])).await;
    let mut ada = LoopsClient::new(callers.caller_at(1, "user:ada").await);
    until(Code::Ok, async || code(submit(&mut ada, "a", "x").await)).await;
    for _ in 0..20 {
        assert_eq!(code(submit(&mut ada, "b", "y").await), Code::PermissionDenied);
    }
    let mut owner = AuditClient::new(callers.caller("owner").await);
    let list = async |client: &mut AuditClient<As>, request| {
        let answer = client.list(request).await.unwrap().into_inner();
        let entries = answer.entries_json.iter();
        entries.map(|json| serde_json::from_slice(json).unwrap()).collect::<Vec<AuditEntry>>()
    };
    // An answer goes out when its entry is written: nothing to wait for.
    let all = list(&mut owner, ListAuditRequest::default()).await;
    let bound = &all[0];
    assert_eq!(
        (bound.who.as_str(), bound.verb.as_str(), bound.kind.as_str()),
        ("owner", "apply", "rolebindings")
    );
    assert_eq!((bound.namespace.as_str(), bound.name.as_str(), bound.number), ("a", "subs", 1));
    assert!(bound.from.starts_with("unix uid ") && bound.scheduler == "s0", "{bound:?}");
    let of = |result: &str| ListAuditRequest {
        result: result.to_owned(),
        who: "user:ada".to_owned(),
        ..Default::default()
    };
    let done = list(&mut owner, of("ok")).await;
    assert_eq!((done.len(), done[0].name.as_str(), done[0].scheduler.as_str()), (1, "x", "s1"));
    let refused =
        list(&mut owner, ListAuditRequest { namespace: "b".to_owned(), ..of("refused") }).await;
    assert_eq!(refused.len(), 1, "the other 19 are counted: {refused:?}");
    assert!(refused[0].reason.contains("no rolebinding gives it"));
    let mut not_hers = AuditClient::new(callers.caller("user:ada").await);
    assert_eq!(code(not_hers.list(ListAuditRequest::default()).await), Code::PermissionDenied);

    let verified = owner.verify(VerifyAuditRequest { entry: 1 }).await.unwrap().into_inner();
    assert!(
        verified.holds && verified.last >= 3 && !verified.entry_hash.is_empty(),
        "{verified:?}"
    );
}
