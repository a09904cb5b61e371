//! Providers, model routes, agents and budgets on a real scheduler: who may define them, what is refused, what a run is
//! given of them, and what would become of a call.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use flyball_core::access::AuditEntry;
use flyball_proto::v1::access_client::AccessClient;
use flyball_proto::v1::audit_client::AuditClient;
use flyball_proto::v1::definitions_client::DefinitionsClient;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::models_client::ModelsClient;
use flyball_proto::v1::secrets_client::SecretsClient;
use flyball_proto::v1::{
    ApplyAccessRequest, ApplyDefinitionRequest, ApplyDefinitionResponse, ApplyRequest, Assign,
    CanIRequest, DeleteDefinitionRequest, ExplainRouteRequest, GetDefinitionRequest,
    ListAuditRequest, ListDefinitionsRequest, ModelSetup, SetSecretRequest, SetupModelsRequest,
    scheduler_message,
};
use flyball_scheduler::SecretKeys;
use serde_json::{Value, json};
use support::{As, Callers, PATIENCE, attach, manifest};
use tonic::{Code, Status};

const KEY: &str = "sk-a-key-that-nobody-may-see";

fn document(kind: &str, metadata: Value, spec: Value) -> Value {
    json!({ "apiVersion": "flyball.dev/v1", "kind": kind, "metadata": metadata, "spec": spec })
}

fn provider(name: &str) -> Value {
    let auth = json!({ "secret": { "name": "model-key", "namespace": "ops" } });
    let spec =
        json!({ "baseUrl": "https://a.example.org", "protocols": ["anthropic"], "auth": auth });
    document("Provider", json!({ "name": name }), spec)
}

fn route(name: &str, namespaces: &[&str], provider: &str) -> Value {
    let cheap = json!([{ "provider": provider, "model": "small-1" }]);
    let strong = json!([{ "provider": provider, "model": "big-1" }]);
    let tiers = json!([
        { "name": "cheap", "deployments": cheap },
        { "name": "strong", "from": { "stall": 2 }, "deployments": strong },
    ]);
    let spec = json!({ "match": [{ "namespaces": namespaces }], "tiers": tiers });
    document("ModelRoute", json!({ "name": name }), spec)
}

fn budget(namespace: &str, money: &str) -> Value {
    document("Budget", json!({ "namespace": namespace }), json!({ "money": money }))
}

async fn apply(
    client: &mut DefinitionsClient<As>,
    json: &Value,
) -> Result<ApplyDefinitionResponse, Status> {
    let request = ApplyDefinitionRequest { manifest_json: json.to_string().into(), dry_run: false };
    client.apply(request).await.map(tonic::Response::into_inner)
}

async fn delete(client: &mut DefinitionsClient<As>, kind: &str, name: &str) -> Result<(), Status> {
    let request = DeleteDefinitionRequest { kind: kind.to_owned(), name: name.to_owned() };
    client.delete(request).await.map(drop)
}

async fn get(client: &mut DefinitionsClient<As>, kind: &str, name: &str) -> Result<Value, Status> {
    let request = GetDefinitionRequest { kind: kind.to_owned(), name: name.to_owned() };
    let object = client.get(request).await?.into_inner();
    Ok(serde_json::from_slice(&object.object_json).unwrap())
}

async fn names(
    client: &mut DefinitionsClient<As>,
    kind: &str,
    namespace: &str,
) -> Result<Vec<String>, Status> {
    let request = ListDefinitionsRequest { kind: kind.to_owned(), namespace: namespace.to_owned() };
    let listed = client.list(request).await?.into_inner().definitions;
    Ok(listed.into_iter().map(|one| one.name).collect())
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn with_keys(dir: &std::path::Path) -> Callers {
    let mut callers = Callers::start(dir).await;
    let keys = SecretKeys::at(&dir.join("secrets.key")).unwrap();
    callers.add(|config| config.secret_keys = Some(keys)).await;
    callers
}

#[tokio::test]
async fn a_definition_is_created_changed_shown_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let callers = Callers::start(dir.path()).await;
    let mut client = DefinitionsClient::new(callers.caller("owner").await);
    let dry = ApplyDefinitionRequest {
        manifest_json: provider("acme").to_string().into(),
        dry_run: true,
    };
    assert_eq!(client.apply(dry).await.unwrap().into_inner().outcome, "created");
    assert_eq!(code(get(&mut client, "provider", "acme").await), Code::NotFound);

    let early = apply(&mut client, &route("main", &["*"], "acme")).await.unwrap();
    assert_eq!(
        early.warnings[0],
        "spec.tiers[0].deployments[0].provider: provider acme does not exist"
    );
    assert_eq!(early.warnings.len(), 2);
    let created = apply(&mut client, &provider("acme")).await.unwrap();
    assert_eq!(created.outcome, "created");
    assert!(created.warnings[0].contains("there is no secret model-key in namespace ops"));
    assert_eq!(apply(&mut client, &provider("acme")).await.unwrap().outcome, "unchanged");
    let mut changed = provider("acme");
    changed["spec"]["baseUrl"] = json!("http://a.example.org");
    let changed = apply(&mut client, &changed).await.unwrap();
    assert_eq!((changed.outcome.as_str(), changed.warnings.len()), ("configured", 2));
    let shown = get(&mut client, "providers", "acme").await.unwrap();
    assert_eq!(shown["metadata"]["generation"], 2);
    assert_eq!(shown["status"]["changedBy"], "owner");
    assert_eq!(shown["spec"]["auth"]["scheme"], "bearer");

    let refused = delete(&mut client, "provider", "acme").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("modelroute main"), "{refused}");
    delete(&mut client, "modelroute", "main").await.unwrap();
    delete(&mut client, "provider", "acme").await.unwrap();
    assert_eq!(code(delete(&mut client, "provider", "acme").await), Code::NotFound);
    assert!(names(&mut client, "provider", "").await.unwrap().is_empty());

    let mut bad = provider("acme");
    bad["spec"]["baseUrl"] = json!("ftp://x");
    bad["spec"]["colour"] = json!("red");
    let refused = apply(&mut client, &bad).await.unwrap_err();
    assert_eq!(refused.message(), "the manifest has 2 errors");
    assert_eq!(code(apply(&mut client, &json!({ "kind": "Loop" })).await), Code::InvalidArgument);
    assert_eq!(code(names(&mut client, "loops", "").await), Code::InvalidArgument);
    trail(&callers).await;
}

/// Every change is in the trail, by its own kind.
async fn trail(callers: &Callers) {
    let mut audit = AuditClient::new(callers.caller("owner").await);
    let request = ListAuditRequest { result: "ok".to_owned(), ..ListAuditRequest::default() };
    let entries = audit.list(request).await.unwrap().into_inner().entries_json;
    let entries = entries.iter().map(|json| serde_json::from_slice::<AuditEntry>(json).unwrap());
    let told: Vec<_> =
        entries.map(|one| format!("{} {} {}", one.verb, one.kind, one.name)).collect();
    assert_eq!(
        told,
        [
            "apply providers acme",
            "apply modelroutes main",
            "apply providers acme",
            "apply providers acme",
            "apply providers acme",
            "delete modelroutes main",
            "delete providers acme",
        ]
    );
}

#[tokio::test]
async fn operators_define_and_others_read() {
    let dir = tempfile::tempdir().unwrap();
    let callers = Callers::start(dir.path()).await;
    let mut access = AccessClient::new(callers.caller("owner").await);
    for (role, namespace, who) in
        [("operator", None, "oda"), ("viewer", None, "vic"), ("admin", Some("team"), "bea")]
    {
        let mut metadata = json!({ "name": who });
        if let Some(namespace) = namespace {
            metadata["namespace"] = json!(namespace);
        }
        let subjects = json!([format!("user:{who}")]);
        let spec =
            json!({ "role": role, "subjects": subjects, "allNamespaces": namespace.is_none() });
        let manifest_json = document("RoleBinding", metadata, spec).to_string().into();
        access.apply_binding(ApplyAccessRequest { manifest_json, dry_run: false }).await.unwrap();
    }
    let mut oda = DefinitionsClient::new(callers.caller("user:oda").await);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // A binding holds as soon as the watch has told of it.
    while code(apply(&mut oda, &budget("team", "5 USD")).await) != Code::Ok {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    apply(&mut oda, &budget("other", "5 USD")).await.unwrap();
    apply(&mut oda, &provider("acme")).await.unwrap();

    let mut vic = DefinitionsClient::new(callers.caller("user:vic").await);
    while code(names(&mut vic, "budget", "").await) != Code::Ok {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(names(&mut vic, "budget", "").await.unwrap(), ["other", "team"]);
    assert_eq!(names(&mut vic, "provider", "").await.unwrap(), ["acme"]);
    assert_eq!(code(apply(&mut vic, &provider("acme")).await), Code::PermissionDenied);
    assert_eq!(code(delete(&mut vic, "provider", "acme").await), Code::PermissionDenied);

    // Admin of a namespace: sees what it may spend, and does not set it.
    let mut bea = DefinitionsClient::new(callers.caller("user:bea").await);
    while code(get(&mut bea, "budget", "team").await) != Code::Ok {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(names(&mut bea, "budget", "team").await.unwrap(), ["team"]);
    assert_eq!(code(get(&mut bea, "budget", "other").await), Code::PermissionDenied);
    assert_eq!(code(names(&mut bea, "budget", "").await), Code::PermissionDenied);
    assert_eq!(code(names(&mut bea, "provider", "").await), Code::PermissionDenied);
    assert_eq!(code(apply(&mut bea, &budget("team", "500 USD")).await), Code::PermissionDenied);
    assert_eq!(code(delete(&mut bea, "budget", "team").await), Code::PermissionDenied);
    let mut asks = AccessClient::new(callers.caller("user:bea").await);
    for (verb, allowed) in [("get", true), ("list", true), ("apply", false), ("delete", false)] {
        let (kind, namespace) = ("budgets".to_owned(), "team".to_owned());
        let request = CanIRequest { verb: verb.to_owned(), kind, namespace };
        assert_eq!(asks.can_i(request).await.unwrap().into_inner().allowed, allowed, "{verb}");
    }
}

/// A loop that runs on node n1, and its assignment; its stream must be held.
async fn run_of(callers: &Callers, namespace: &str, agent: Value) -> (Assign, impl Sized) {
    let (to, mut from, _) = attach(callers, "node:n1", "n1").await.unwrap();
    let mut loops = LoopsClient::new(callers.caller("owner").await);
    let mut json = manifest("fix", &["gpu:n/0"]);
    json["metadata"]["namespace"] = json!(namespace);
    json["spec"]["agent"] = agent;
    let manifest_json = json.to_string().into();
    loops.apply(ApplyRequest { manifest_json, ..ApplyRequest::default() }).await.unwrap();
    let read = async {
        loop {
            let message = from.message().await.unwrap().unwrap().message;
            if let Some(scheduler_message::Message::Assign(run)) = message {
                return run;
            }
        }
    };
    let run = tokio::time::timeout(PATIENCE, read).await.unwrap();
    (run, (to, from))
}

fn proof(run: &Assign) -> SetupModelsRequest {
    SetupModelsRequest {
        node: "n1".to_owned(),
        incarnation: "i-n1".to_owned(),
        namespace: run.namespace.clone(),
        r#loop: run.name.clone(),
        uid: run.uid.clone(),
        token: run.token,
    }
}

async fn setup(
    callers: &Callers,
    who: &str,
    request: SetupModelsRequest,
) -> Result<ModelSetup, Status> {
    let mut client = ModelsClient::new(callers.caller_at(1, who).await);
    client.setup(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_run_is_given_its_routes_providers_and_agent_and_nobody_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let callers = with_keys(dir.path()).await;
    let mut client = DefinitionsClient::new(callers.caller("owner").await);
    for one in [provider("acme"), provider("other")] {
        apply(&mut client, &one).await.unwrap();
    }
    apply(&mut client, &route("ours", &["team-*"], "acme")).await.unwrap();
    apply(&mut client, &route("theirs", &["else"], "other")).await.unwrap();
    let own = json!({ "version": "7", "command": ["agent", "{promptFile}"] });
    apply(&mut client, &document("Agent", json!({ "name": "own" }), own)).await.unwrap();
    let (run, _held) = run_of(&callers, "team-a", json!({ "use": "own" })).await;

    let missing = setup(&callers, "node:n1", proof(&run)).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(missing.message(), "provider acme: there is no secret ops/model-key");
    let mut secrets = SecretsClient::new(callers.caller_at(1, "owner").await);
    let (namespace, name) = ("ops".to_owned(), "model-key".to_owned());
    secrets.set(SetSecretRequest { namespace, name, value: KEY.into() }).await.unwrap();

    let given = setup(&callers, "node:n1", proof(&run)).await.unwrap();
    let routes: Vec<_> = given.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(routes, ["ours"], "a route of other namespaces is not handed over");
    let providers: Vec<_> = given.providers.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(providers, ["acme"], "nor is a key that no route of the loop's needs");
    assert_eq!(given.providers[0].credential, KEY);
    assert!(!format!("{given:?}").contains(KEY), "not even by mistake");
    let agent: Value = serde_json::from_slice(&given.agent_json).unwrap();
    assert_eq!(agent["version"], "7");

    let sly = [
        SetupModelsRequest { token: run.token + 1, ..proof(&run) },
        SetupModelsRequest { token: 0, ..proof(&run) },
        SetupModelsRequest { uid: "other".to_owned(), ..proof(&run) },
        SetupModelsRequest { incarnation: "other".to_owned(), ..proof(&run) },
        SetupModelsRequest { r#loop: "other".to_owned(), ..proof(&run) },
        SetupModelsRequest { namespace: "else".to_owned(), ..proof(&run) },
    ];
    for request in sly {
        assert_eq!(code(setup(&callers, "node:n1", request).await), Code::PermissionDenied);
    }
    let as_n2 = SetupModelsRequest { node: "n2".to_owned(), ..proof(&run) };
    assert_eq!(code(setup(&callers, "node:n2", as_n2.clone()).await), Code::PermissionDenied);
    assert_eq!(code(setup(&callers, "node:n1", as_n2).await), Code::PermissionDenied);
    assert_eq!(code(setup(&callers, "node:n2", proof(&run)).await), Code::PermissionDenied);
    assert_eq!(code(setup(&callers, "user:eve", proof(&run)).await), Code::PermissionDenied);
    let shown = get(&mut client, "provider", "acme").await.unwrap().to_string();
    assert!(!shown.contains(KEY));

    // The first scheduler has no key for secrets and says so.
    let mut keyless = ModelsClient::new(callers.caller("node:n1").await);
    let refused = keyless.setup(proof(&run)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("provider acme: this scheduler has no key"), "{refused}");

    // Who needs them is told before they can be deleted; what nobody needs can be.
    let refused = async |kind: &str, name: &str| {
        let mut client = DefinitionsClient::new(callers.caller("owner").await);
        let refused = delete(&mut client, kind, name).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        refused.message().to_owned()
    };
    assert_eq!(
        refused("agent", "own").await,
        "agent own is used by loop team-a/fix; delete or change that first"
    );
    assert_eq!(
        refused("modelroute", "ours").await,
        "modelroute ours is the only route for the agent of loop team-a/fix; delete or change that first"
    );
    assert_eq!(
        refused("provider", "acme").await,
        "provider acme is named by modelroute ours; delete or change that first"
    );
    delete(&mut client, "modelroute", "theirs").await.unwrap();
    apply(&mut client, &route("second", &["team-a"], "other")).await.unwrap();
    delete(&mut client, "modelroute", "ours").await.unwrap();
    let mut loops = LoopsClient::new(callers.caller("owner").await);
    let (namespace, name) = (run.namespace.clone(), run.name.clone());
    let request = flyball_proto::v1::DeleteLoopRequest { namespace, name };
    loops.delete(request).await.unwrap();
    assert_eq!(
        refused("agent", "own").await.split(';').next(),
        Some("agent own is used by loop team-a/fix")
    );
}

#[tokio::test]
async fn a_loop_with_an_agent_that_nobody_serves_is_doubted() {
    let dir = tempfile::tempdir().unwrap();
    let callers = Callers::start(dir.path()).await;
    let mut loops = LoopsClient::new(callers.caller("owner").await);
    let mut apply_with = async |agent: &str| {
        let mut json = manifest("fix", &["gpu:n/0"]);
        json["spec"]["agent"] = json!({ "use": agent });
        let manifest_json = json.to_string().into();
        let request = ApplyRequest { manifest_json, dry_run: true, ..ApplyRequest::default() };
        loops.apply(request).await.unwrap().into_inner().warnings
    };
    assert!(apply_with("nobody").await[0].contains("there is no agent nobody"));
    assert!(apply_with("builtin").await[0].contains("no model route"));
    let mut client = DefinitionsClient::new(callers.caller("owner").await);
    apply(&mut client, &provider("acme")).await.unwrap();
    apply(&mut client, &route("main", &["*"], "acme")).await.unwrap();
    let warnings = apply_with("builtin").await;
    assert!(!warnings.iter().any(|text| text.contains("spec.agent")), "{warnings:?}");
}

#[tokio::test]
async fn what_would_become_of_a_call_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let callers = with_keys(dir.path()).await;
    let mut client = DefinitionsClient::new(callers.caller("owner").await);
    apply(&mut client, &provider("acme")).await.unwrap();
    apply(&mut client, &route("main", &["team-*"], "acme")).await.unwrap();
    let (_, _held) = run_of(&callers, "team-a", json!({ "use": "codex" })).await;
    let mut ask = async |request: ExplainRouteRequest| -> Result<Value, Status> {
        let answer = client.explain_route(request).await?.into_inner();
        let json: Value = serde_json::from_slice(&answer.answer_json).unwrap();
        assert_eq!(json["served"], answer.served);
        Ok(json)
    };
    let question = ExplainRouteRequest {
        model: "large".to_owned(),
        namespace: "team-b".to_owned(),
        ..ExplainRouteRequest::default()
    };
    let told = ask(question.clone()).await.unwrap();
    assert_eq!((&told["plan"]["tier"], &told["asked"]["stall"]), (&json!("cheap"), &json!(0)));
    let told = ask(ExplainRouteRequest { stall: Some(3), ..question.clone() }).await.unwrap();
    assert_eq!(told["plan"]["tier"], "strong");
    assert_eq!(told["plan"]["steps"][0]["model"], "big-1");
    let told =
        ask(ExplainRouteRequest { namespace: String::new(), ..question.clone() }).await.unwrap();
    assert_eq!(told["refused"]["reason"], "no-route");
    assert!(
        told["refused"]["reasons"][0]
            .as_str()
            .unwrap()
            .contains("namespace default is not like team-*")
    );
    // A loop brings its namespace, its stall and what its agent speaks.
    let of_loop = ExplainRouteRequest {
        namespace: "team-a".to_owned(),
        r#loop: "fix".to_owned(),
        ..question.clone()
    };
    let told = ask(of_loop.clone()).await.unwrap();
    assert_eq!(told["asked"]["protocol"], "responses");
    assert_eq!(told["refused"]["reason"], "other-protocol");
    let told =
        ask(ExplainRouteRequest { protocol: "anthropic".to_owned(), ..of_loop }).await.unwrap();
    assert_eq!(told["plan"]["route"], "main");
    for bad in [
        ExplainRouteRequest { model: String::new(), ..question.clone() },
        ExplainRouteRequest { protocol: "gemini".to_owned(), ..question.clone() },
        ExplainRouteRequest { subtask: "huge".to_owned(), ..question.clone() },
    ] {
        assert_eq!(code(ask(bad).await), Code::InvalidArgument);
    }
    let gone = ExplainRouteRequest { r#loop: "gone".to_owned(), ..question };
    assert_eq!(code(ask(gone).await), Code::NotFound);
}
