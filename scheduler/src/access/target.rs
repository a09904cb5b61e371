//! What a call acts on, read from its first message exactly as the handler will read it.

use flyball_core::access::{Kind, Scope};
use flyball_core::ids::NodeName;
use flyball_core::model::{DefinitionKind, UnknownDefinitionKind};
use flyball_core::spec::DEFAULT_NAMESPACE;
use flyball_proto::v1::node_message::Message as FromNode;
use flyball_proto::{Message, v1};
use serde_json::Value;
use tonic::transport::server::{TcpConnectInfo, UdsConnectInfo};

/// Where a call acts, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) scope: Scope,
    /// Name of the object, or empty.
    pub(super) name: String,
    /// Nothing is to be changed.
    pub(super) dry_run: bool,
    /// The kind, of a method that acts on several.
    pub(super) kind: Option<Kind>,
}

/// A first message that cannot be read: nobody can say what the call acts on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be read: {0}")]
pub(super) struct Unreadable(String);

type Found = Result<Target, Unreadable>;

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, Unreadable> {
    M::decode(bytes).map_err(|error| Unreadable(error.to_string()))
}

/// One object in a namespace; handlers take an empty one for the default.
fn one(namespace: String, name: String) -> Target {
    let namespace = if namespace.is_empty() { DEFAULT_NAMESPACE.to_owned() } else { namespace };
    Target { scope: Scope::Namespace(namespace), name, dry_run: false, kind: None }
}

/// All of a namespace; handlers take an empty one for all.
fn all(namespace: String) -> Target {
    let scope = match namespace.as_str() {
        "" => Scope::AllNamespaces,
        _ => Scope::Namespace(namespace),
    };
    Target { scope, name: String::new(), dry_run: false, kind: None }
}

fn as_node(name: String) -> Target {
    Target { scope: Scope::AsNode(NodeName(name.clone())), name, dry_run: false, kind: None }
}

fn of_installation(name: String) -> Target {
    Target { scope: Scope::Installation, name, dry_run: false, kind: None }
}

/// The metadata of a manifest, read as a whole first: with a key given twice the last one counts, as
/// for whoever parses it.
fn metadata(manifest: &[u8]) -> Result<(Option<String>, String), Unreadable> {
    let json: Value =
        serde_json::from_slice(manifest).map_err(|error| Unreadable(error.to_string()))?;
    let text = |field| json.pointer(field).and_then(Value::as_str).map(str::to_owned);
    Ok((text("/metadata/namespace"), text("/metadata/name").unwrap_or_default()))
}

pub(super) fn open(_: &[u8]) -> Found {
    Ok(Target { scope: Scope::Open, name: String::new(), dry_run: false, kind: None })
}

pub(super) fn installation(_: &[u8]) -> Found {
    Ok(of_installation(String::new()))
}

pub(super) fn all_namespaces(_: &[u8]) -> Found {
    Ok(all(String::new()))
}

pub(super) fn list_audit(bytes: &[u8]) -> Found {
    Ok(all(read::<v1::ListAuditRequest>(bytes)?.namespace))
}

pub(super) fn set_secret(bytes: &[u8]) -> Found {
    let request: v1::SetSecretRequest = read(bytes)?;
    Ok(one(request.namespace, request.name))
}

pub(super) fn list_secrets(bytes: &[u8]) -> Found {
    Ok(all(read::<v1::ListSecretsRequest>(bytes)?.namespace))
}

pub(super) fn delete_secret(bytes: &[u8]) -> Found {
    let request: v1::DeleteSecretRequest = read(bytes)?;
    Ok(one(request.namespace, request.name))
}

/// The key is the schedulers', and what is sealed with it is in all namespaces.
pub(super) fn secrets_key(bytes: &[u8]) -> Found {
    read::<v1::RotateSecretsKeyRequest>(bytes)?;
    Ok(of_installation("secrets-key".to_owned()))
}

/// As the node; for which loop is the object's name in the trail.
pub(super) fn fetch_secrets(bytes: &[u8]) -> Found {
    let request: v1::FetchSecretsRequest = read(bytes)?;
    let name = format!("{}/{}", request.namespace, request.r#loop);
    Ok(Target { name, ..as_node(request.node) })
}

/// As the node that a run says it is on; for which loop is the object's name in the trail.
fn as_run(run: Option<v1::RunProof>) -> Target {
    let run = run.unwrap_or_default();
    let name = format!("{}/{}", run.namespace, run.r#loop);
    Target { name, ..as_node(run.node) }
}

pub(super) fn draw_budget(bytes: &[u8]) -> Found {
    Ok(as_run(read::<v1::DrawBudgetRequest>(bytes)?.run))
}

pub(super) fn settle_budget(bytes: &[u8]) -> Found {
    Ok(as_run(read::<v1::SettleBudgetRequest>(bytes)?.run))
}

pub(super) fn get_budget(bytes: &[u8]) -> Found {
    let request: v1::GetBudgetRequest = read(bytes)?;
    Ok(one(request.namespace, request.r#loop))
}

pub(super) fn list_budgets(bytes: &[u8]) -> Found {
    Ok(all(read::<v1::ListBudgetsRequest>(bytes)?.namespace))
}

pub(super) fn extend_budget(bytes: &[u8]) -> Found {
    let request: v1::ExtendBudgetRequest = read(bytes)?;
    Ok(one(request.namespace, request.r#loop))
}

pub(super) fn get_namespace_budget(bytes: &[u8]) -> Found {
    let request: v1::GetNamespaceBudgetRequest = read(bytes)?;
    Ok(one(request.namespace.clone(), request.namespace))
}

pub(super) fn list_namespace_budgets(bytes: &[u8]) -> Found {
    Ok(all(read::<v1::ListNamespaceBudgetsRequest>(bytes)?.namespace))
}

/// Nobody raises the bound of their own namespace.
pub(super) fn extend_namespace_budget(bytes: &[u8]) -> Found {
    Ok(of_installation(read::<v1::ExtendNamespaceBudgetRequest>(bytes)?.namespace))
}

pub(super) fn take_quota(bytes: &[u8]) -> Found {
    Ok(as_node(read::<v1::TakeQuotaRequest>(bytes)?.node))
}

pub(super) fn quota_limited(bytes: &[u8]) -> Found {
    Ok(as_node(read::<v1::QuotaLimitedRequest>(bytes)?.node))
}

/// Open to whoever has a token; the answer tells the trail who has joined.
pub(super) fn join(bytes: &[u8]) -> Found {
    let request: v1::JoinRequest = read(bytes)?;
    Ok(Target { scope: Scope::Open, name: request.node, dry_run: false, kind: None })
}

pub(super) fn create_token(bytes: &[u8]) -> Found {
    Ok(of_installation(read::<v1::CreateTokenRequest>(bytes)?.node))
}

pub(super) fn delete_token(bytes: &[u8]) -> Found {
    Ok(of_installation(read::<v1::DeleteTokenRequest>(bytes)?.id))
}

/// What is revoked is the object's name in the trail.
pub(super) fn revoke(bytes: &[u8]) -> Found {
    let request: v1::RevokeRequest = read(bytes)?;
    let name = match request.serial.is_empty() {
        true => request.identity,
        false => format!("serial:{}", request.serial),
    };
    Ok(of_installation(name))
}

pub(super) fn apply_loop(bytes: &[u8]) -> Found {
    let request: v1::ApplyRequest = read(bytes)?;
    let (namespace, name) = metadata(&request.manifest_json)?;
    Ok(Target { dry_run: request.dry_run, ..one(namespace.unwrap_or_default(), name) })
}

pub(super) fn get_loop(bytes: &[u8]) -> Found {
    let request: v1::GetLoopRequest = read(bytes)?;
    Ok(one(request.namespace, request.name))
}

pub(super) fn list_loops(bytes: &[u8]) -> Found {
    Ok(all(read::<v1::ListLoopsRequest>(bytes)?.namespace))
}

pub(super) fn watch_loops(bytes: &[u8]) -> Found {
    let request: v1::WatchLoopsRequest = read(bytes)?;
    Ok(Target { name: request.name, ..all(request.namespace) })
}

pub(super) fn cancel_loop(bytes: &[u8]) -> Found {
    let request: v1::CancelLoopRequest = read(bytes)?;
    Ok(one(request.namespace, request.name))
}

pub(super) fn delete_loop(bytes: &[u8]) -> Found {
    let request: v1::DeleteLoopRequest = read(bytes)?;
    Ok(one(request.namespace, request.name))
}

pub(super) fn list_claims(bytes: &[u8]) -> Found {
    Ok(all(read::<v1::ListClaimsRequest>(bytes)?.namespace))
}

pub(super) fn list_seals(bytes: &[u8]) -> Found {
    Ok(all(read::<v1::ListSealsRequest>(bytes)?.namespace))
}

/// What is given up with a seal are resources, and those are the cluster's.
pub(super) fn abandon_seal(bytes: &[u8]) -> Found {
    Ok(of_installation(read::<v1::AbandonSealRequest>(bytes)?.uid))
}

pub(super) fn mark_node(bytes: &[u8]) -> Found {
    Ok(of_installation(read::<v1::MarkNodeRequest>(bytes)?.name))
}

pub(super) fn attach(bytes: &[u8]) -> Found {
    match read::<v1::NodeMessage>(bytes)?.message {
        Some(FromNode::Register(register)) => Ok(as_node(register.node)),
        _ => Err(Unreadable("the first message has to be Register".to_owned())),
    }
}

pub(super) fn heartbeat(bytes: &[u8]) -> Found {
    Ok(as_node(read::<v1::HeartbeatRequest>(bytes)?.node))
}

pub(super) fn report_gone(bytes: &[u8]) -> Found {
    Ok(as_node(read::<v1::ReportGoneRequest>(bytes)?.node))
}

pub(super) fn list_events(bytes: &[u8]) -> Found {
    let request: v1::ListEventsRequest = read(bytes)?;
    match request.r#loop.is_empty() {
        true => Ok(all(request.namespace)),
        false => Ok(one(request.namespace, request.r#loop)),
    }
}

pub(super) fn read_logs(bytes: &[u8]) -> Found {
    let request: v1::ReadLogsRequest = read(bytes)?;
    Ok(one(request.namespace, request.r#loop))
}

pub(super) fn apply_role(bytes: &[u8]) -> Found {
    let request: v1::ApplyAccessRequest = read(bytes)?;
    let name = metadata(&request.manifest_json)?.1;
    Ok(Target { dry_run: request.dry_run, ..of_installation(name) })
}

pub(super) fn delete_role(bytes: &[u8]) -> Found {
    Ok(of_installation(read::<v1::DeleteRoleRequest>(bytes)?.name))
}

pub(super) fn list_bindings(bytes: &[u8]) -> Found {
    Ok(all(read::<v1::ListBindingsRequest>(bytes)?.namespace))
}

/// One that says it holds everywhere is everybody's; anything else is as the parser takes it.
pub(super) fn apply_binding(bytes: &[u8]) -> Found {
    let request: v1::ApplyAccessRequest = read(bytes)?;
    let json: Value = serde_json::from_slice(&request.manifest_json)
        .map_err(|error| Unreadable(error.to_string()))?;
    let (namespace, name) = metadata(&request.manifest_json)?;
    match json.pointer("/spec/allNamespaces") {
        None | Some(Value::Bool(false) | Value::Null) => {
            Ok(Target { dry_run: request.dry_run, ..one(namespace.unwrap_or_default(), name) })
        }
        Some(_) => Ok(Target { dry_run: request.dry_run, name, ..all(String::new()) }),
    }
}

pub(super) fn delete_binding(bytes: &[u8]) -> Found {
    let request: v1::DeleteBindingRequest = read(bytes)?;
    match request.all_namespaces {
        true => Ok(Target { name: request.name, ..all(String::new()) }),
        false => Ok(one(request.namespace, request.name)),
    }
}

fn access_kind(kind: DefinitionKind) -> Kind {
    match kind {
        DefinitionKind::Provider => Kind::Providers,
        DefinitionKind::ModelRoute => Kind::ModelRoutes,
        DefinitionKind::Agent => Kind::Agents,
        DefinitionKind::Budget => Kind::Budgets,
    }
}

fn definition_kind(word: &str) -> Result<DefinitionKind, Unreadable> {
    word.parse().map_err(|unknown: UnknownDefinitionKind| Unreadable(unknown.to_string()))
}

/// A definition that is to be changed. Also a namespace's budget is the installation's then: it bounds the namespace
/// from outside.
pub(super) fn apply_definition(bytes: &[u8]) -> Found {
    let request: v1::ApplyDefinitionRequest = read(bytes)?;
    let json: Value = serde_json::from_slice(&request.manifest_json)
        .map_err(|error| Unreadable(error.to_string()))?;
    let kind = json.get("kind").and_then(Value::as_str).unwrap_or_default();
    let kind = DefinitionKind::of_manifest(kind)
        .ok_or_else(|| Unreadable(UnknownDefinitionKind(kind.to_owned()).to_string()))?;
    let (namespace, name) = metadata(&request.manifest_json)?;
    let name = match kind {
        DefinitionKind::Budget => namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        _ => name,
    };
    let kind = Some(access_kind(kind));
    Ok(Target { dry_run: request.dry_run, kind, ..of_installation(name) })
}

pub(super) fn delete_definition(bytes: &[u8]) -> Found {
    let request: v1::DeleteDefinitionRequest = read(bytes)?;
    let kind = Some(access_kind(definition_kind(&request.kind)?));
    Ok(Target { kind, ..of_installation(request.name) })
}

pub(super) fn get_definition(bytes: &[u8]) -> Found {
    let request: v1::GetDefinitionRequest = read(bytes)?;
    let kind = definition_kind(&request.kind)?;
    let target = match kind {
        DefinitionKind::Budget => one(request.name.clone(), request.name),
        _ => of_installation(request.name),
    };
    Ok(Target { kind: Some(access_kind(kind)), ..target })
}

pub(super) fn list_definitions(bytes: &[u8]) -> Found {
    let request: v1::ListDefinitionsRequest = read(bytes)?;
    let kind = definition_kind(&request.kind)?;
    let target = match kind {
        DefinitionKind::Budget => all(request.namespace),
        _ => of_installation(String::new()),
    };
    Ok(Target { kind: Some(access_kind(kind)), ..target })
}

/// As the node; for which loop is the object's name in the trail.
pub(super) fn setup_models(bytes: &[u8]) -> Found {
    let request: v1::SetupModelsRequest = read(bytes)?;
    let name = format!("{}/{}", request.namespace, request.r#loop);
    Ok(Target { name, ..as_node(request.node) })
}

/// Where a connection comes from: the other process of a Unix socket, or an address.
pub(crate) fn origin(extensions: &http::Extensions) -> String {
    if let Some(info) = extensions.get::<UdsConnectInfo>() {
        let Some(peer) = info.peer_cred else { return "unix".to_owned() };
        return match peer.pid() {
            Some(pid) => format!("unix uid {} pid {pid}", peer.uid()),
            None => format!("unix uid {}", peer.uid()),
        };
    }
    let address = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
}
