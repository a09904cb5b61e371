//! Roles and bindings as documents: what users write, and what is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::builtin::built_in;
use super::role::{Binding, BindingKey, Permissions, Role, Subject};
use super::words::{Kind, Verb};
use crate::ids::check_name;
use crate::manifest::{FieldError, parse_shape};
use crate::spec::DEFAULT_NAMESPACE;

/// The kind of a role's manifest.
pub const KIND_ROLE: &str = "Role";
/// The kind of a binding's manifest.
pub const KIND_BINDING: &str = "RoleBinding";
/// Most rules of a role, and words of a rule: all verbs and kinds there are fit.
const RULES_MAX: usize = 32;
/// Most subjects of a binding; more people are told apart by more bindings.
const SUBJECTS_MAX: usize = 200;
/// Stands for every verb or kind.
const ALL: &str = "*";

/// A manifest of kind `Role`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleManifest {
    /// Always `flyball.dev/v1`.
    pub api_version: String,
    /// Always `Role`.
    pub kind: String,
    /// What it is called.
    pub metadata: RoleMetadata,
    /// What it allows.
    pub spec: RoleSpec,
}

/// A role's name; roles are in no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleMetadata {
    /// 1 to 63 characters of a-z, 0-9 and '-'; not that of a built-in role.
    pub name: String,
}

/// What a role allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoleSpec {
    /// All of them together are the role.
    pub rules: Vec<RuleSpec>,
}

/// Every one of these verbs on every one of these kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleSpec {
    /// Kinds: loops, claims, events, logs, secrets, rolebindings, audit, nodes, schedulers, roles, providers, modelroutes,
    /// agents, budgets; or * for all.
    pub kinds: Vec<String>,
    /// Verbs: get, list, watch, apply (also create, update, set), delete, cancel, mark (also cordon, drain), diagnose,
    /// verify; or * for all.
    pub verbs: Vec<String>,
}

/// A manifest of kind `RoleBinding`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingManifest {
    /// Always `flyball.dev/v1`.
    pub api_version: String,
    /// Always `RoleBinding`.
    pub kind: String,
    /// What it is called.
    pub metadata: BindingMetadata,
    /// Who gets which role, and where.
    pub spec: BindingSpec,
}

/// A binding's name, and where it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingMetadata {
    /// 1 to 63 characters of a-z, 0-9 and '-'.
    pub name: String,
    /// Where the role is given; `default` if absent, and left out with allNamespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Who gets which role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BindingSpec {
    /// Name of a role: viewer, submitter, operator, admin, or one of your own.
    pub role: String,
    /// Who: user:NAME for one user, users for all of them.
    pub subjects: Vec<String>,
    /// In all namespaces, those to come among them, and for what is in none: nodes, schedulers, roles.
    #[serde(default)]
    pub all_namespaces: bool,
}

/// Reads a role.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_role(json: &Value) -> Result<(RoleManifest, Role), Vec<FieldError>> {
    let manifest: RoleManifest = parse_shape(json, KIND_ROLE)?;
    let mut errors = Vec::new();
    name(&mut errors, "metadata.name", &manifest.metadata.name);
    if built_in(&manifest.metadata.name).is_some() {
        let rule = "is the name of a built-in role, which cannot be changed";
        errors.push(FieldError::new("metadata.name", rule).found(&manifest.metadata.name));
    }
    count(&mut errors, "spec.rules", manifest.spec.rules.len(), RULES_MAX);
    let mut permissions = Permissions::default();
    for (index, rule) in manifest.spec.rules.iter().enumerate() {
        let path = format!("spec.rules[{index}]");
        let all: Vec<_> = Verb::all().filter(|verb| !verb.is_of_nodes()).collect();
        let verbs = words(&mut errors, &format!("{path}.verbs"), &rule.verbs, &all);
        let all: Vec<_> = Kind::all().collect();
        let kinds = words(&mut errors, &format!("{path}.kinds"), &rule.kinds, &all);
        if let Some(verb) = verbs.iter().find(|verb| verb.is_of_nodes()) {
            let rule = "only a node does this, with its own certificate; no role can give it";
            errors.push(FieldError::new(format!("{path}.verbs"), rule).found(verb.as_str()));
        }
        permissions = permissions.with(Permissions::of(&verbs, &kinds));
    }
    let role = Role { name: manifest.metadata.name.clone(), permissions };
    if errors.is_empty() { Ok((manifest, role)) } else { Err(errors) }
}

/// Reads a binding; a namespace that is left out is filled in.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_binding(json: &Value) -> Result<(BindingManifest, Binding), Vec<FieldError>> {
    let mut manifest: BindingManifest = parse_shape(json, KIND_BINDING)?;
    let mut errors = Vec::new();
    let (metadata, spec) = (&mut manifest.metadata, &manifest.spec);
    name(&mut errors, "metadata.name", &metadata.name);
    if spec.all_namespaces {
        if let Some(namespace) = &metadata.namespace {
            let rule = "must be left out with spec.allNamespaces, which holds in every namespace";
            errors.push(FieldError::new("metadata.namespace", rule).found(namespace));
        }
    } else {
        let namespace = metadata.namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned());
        name(&mut errors, "metadata.namespace", namespace);
    }
    name(&mut errors, "spec.role", &spec.role);
    if spec.role == "node" {
        let rule = "comes with a node's certificate and cannot be given to anybody";
        errors.push(FieldError::new("spec.role", rule).found("node"));
    }
    count(&mut errors, "spec.subjects", spec.subjects.len(), SUBJECTS_MAX);
    let mut subjects = Vec::new();
    for (index, text) in spec.subjects.iter().enumerate() {
        match text.parse::<Subject>() {
            Ok(subject) => subjects.push(subject),
            Err(invalid) => {
                let path = format!("spec.subjects[{index}]");
                errors.push(FieldError::new(path, invalid.to_string()).found(format!("{text:?}")));
            }
        }
    }
    let key = BindingKey { namespace: metadata.namespace.clone(), name: metadata.name.clone() };
    let binding = Binding { key, role: spec.role.clone(), subjects };
    if errors.is_empty() { Ok((manifest, binding)) } else { Err(errors) }
}

fn name(errors: &mut Vec<FieldError>, path: &str, text: &str) {
    if let Err(invalid) = check_name(text) {
        errors.push(FieldError::new(path, invalid.to_string()));
    }
}

fn count(errors: &mut Vec<FieldError>, path: &str, count: usize, most: usize) {
    if count == 0 {
        errors.push(FieldError::new(path, "must have at least one entry"));
    } else if count > most {
        let message = format!("must have at most {most} entries");
        errors.push(FieldError::new(path, message).found(count.to_string()));
    }
}

/// The verbs or kinds of a rule; `*` is all of them.
fn words<T: Copy + std::str::FromStr<Err = super::UnknownWord>>(
    errors: &mut Vec<FieldError>,
    path: &str,
    texts: &[String],
    all: &[T],
) -> Vec<T> {
    count(errors, path, texts.len(), RULES_MAX);
    let mut found = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            _ if text == ALL => found.extend_from_slice(all),
            Ok(word) => found.push(word),
            Err(unknown) => {
                errors.push(FieldError::new(format!("{path}[{index}]"), unknown.to_string()));
            }
        }
    }
    found
}
