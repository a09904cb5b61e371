//! The JSON Schema of a manifest: derived from the types, with the bounds of `rules` added, and
//! closed, so that editors mark unknown fields as the parser does.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::{models, rules};
use crate::access::{BindingManifest, KIND_BINDING, KIND_ROLE, RoleManifest};
use crate::ids::NAME_BYTES_MAX;
use crate::model::{
    AgentManifest, BudgetManifest, KIND_AGENT, KIND_BUDGET, KIND_MODEL_ROUTE, KIND_PROVIDER,
    ModelRouteManifest, ProviderManifest,
};
use crate::resource;
use crate::spec::{API_VERSION, KIND_LOOP, Manifest};

static SCHEMA: LazyLock<Value> = LazyLock::new(build);
static ROLE: LazyLock<Value> =
    LazyLock::new(|| closed(schemars::schema_for!(RoleManifest), KIND_ROLE));
static BINDING: LazyLock<Value> =
    LazyLock::new(|| closed(schemars::schema_for!(BindingManifest), KIND_BINDING));
static PROVIDER: LazyLock<Value> =
    LazyLock::new(|| closed(schemars::schema_for!(ProviderManifest), KIND_PROVIDER));
static MODEL_ROUTE: LazyLock<Value> =
    LazyLock::new(|| closed(schemars::schema_for!(ModelRouteManifest), KIND_MODEL_ROUTE));
static AGENT: LazyLock<Value> =
    LazyLock::new(|| closed(schemars::schema_for!(AgentManifest), KIND_AGENT));
static BUDGET: LazyLock<Value> =
    LazyLock::new(|| closed(schemars::schema_for!(BudgetManifest), KIND_BUDGET));

/// The JSON Schema (draft 2020-12) of a manifest of kind `Loop`.
pub fn schema() -> Value {
    SCHEMA.clone()
}

/// The JSON Schema of a kind: `loop`, `role`, `rolebinding`, `provider`, `modelroute`, `agent` or `budget`; `None` for
/// what is no kind.
pub fn schema_of(kind: &str) -> Option<Value> {
    root_of(kind).cloned()
}

/// The schema without a copy.
pub(super) fn root() -> &'static Value {
    &SCHEMA
}

/// The schema of a kind by its word, singular or plural, in any case.
pub(super) fn root_of(kind: &str) -> Option<&'static Value> {
    let word = kind.to_lowercase();
    match word.strip_suffix('s').unwrap_or(&word) {
        "loop" => Some(&SCHEMA),
        "role" => Some(&ROLE),
        "rolebinding" => Some(&BINDING),
        "provider" => Some(&PROVIDER),
        "modelroute" => Some(&MODEL_ROUTE),
        "agent" => Some(&AGENT),
        "budget" => Some(&BUDGET),
        _ => None,
    }
}

/// The types that hold names and namespaces.
const METADATA: [&str; 6] = [
    "RoleMetadata",
    "BindingMetadata",
    "ProviderMetadata",
    "ModelRouteMetadata",
    "AgentMetadata",
    "BudgetMetadata",
];

fn closed(schema: schemars::Schema, kind: &str) -> Value {
    let mut schema = schema.to_value();
    close_objects(&mut schema);
    schema["title"] = json!(format!("Flyball {kind}"));
    let name = json!("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$");
    let bounds = [
        ("/properties/apiVersion", "const", json!(API_VERSION)),
        ("/properties/kind", "const", json!(kind)),
    ];
    let metadata = METADATA.iter().flat_map(|of| {
        ["name", "namespace"].map(|field| format!("/$defs/{of}/properties/{field}"))
    });
    for pointer in metadata {
        if let Some(field) = schema.pointer_mut(&pointer) {
            field["pattern"] = name.clone();
            field["maxLength"] = json!(NAME_BYTES_MAX);
        }
    }
    for (pointer, keyword, value) in bounds.into_iter().chain(models::bounds()) {
        if let Some(field) = schema.pointer_mut(pointer) {
            field[keyword] = value;
        }
    }
    schema
}

fn build() -> Value {
    let mut schema = schemars::schema_for!(Manifest).to_value();
    close_objects(&mut schema);
    schema["title"] = json!("Flyball Loop");
    for (pointer, text) in texts() {
        if let Some(field) = schema.pointer_mut(pointer) {
            field["description"] = json!(text);
        }
    }
    for (pointer, keyword, value) in bounds() {
        if let Some(field) = schema.pointer_mut(pointer) {
            field[keyword] = value;
        }
    }
    schema
}

/// Descriptions that say more than the types do: JSON pointer of the field, text.
pub(super) fn texts() -> [(&'static str, &'static str); 3] {
    [
        (
            "/$defs/Score/oneOf/0/properties/libtest",
            "The output of Rust's test harness (cargo test): one result per test case. Written as \
             libtest: {}.",
        ),
        (
            "/$defs/LoopSpec/properties/owns",
            "What the loop may touch: at most 48 entries. An entry is a path of the workspace \
             repository (src/**), git:<repository>/<path> for another one, or \
             <scheme>:<path> for anything else (gpu:node1/0). In paths, * stands for any part of \
             one name and a ** at the end for everything below; everything else stands for \
             itself. Plain text asks for exclusive use; {resource: docs/**, access: read} shares \
             with other readers.",
        ),
        (
            "/$defs/LoopSpec/properties/pins",
            "Paths of the workspace that the agent may not change, as patterns like those of owns; \
             restored from the loop's base before verification.",
        ),
    ]
}

/// Bounds that the types do not carry: JSON pointer of the field, keyword, value.
pub(super) fn bounds() -> Vec<(&'static str, &'static str, Value)> {
    let name = json!("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$");
    vec![
        ("/properties/apiVersion", "const", json!(API_VERSION)),
        ("/properties/kind", "const", json!(KIND_LOOP)),
        ("/$defs/Metadata/properties/name", "pattern", name.clone()),
        ("/$defs/Metadata/properties/name", "maxLength", json!(NAME_BYTES_MAX)),
        ("/$defs/Metadata/properties/namespace", "pattern", name.clone()),
        ("/$defs/Metadata/properties/namespace", "maxLength", json!(NAME_BYTES_MAX)),
        ("/$defs/CheckSpec/properties/name", "pattern", name),
        ("/$defs/CheckSpec/properties/name", "maxLength", json!(NAME_BYTES_MAX)),
        ("/$defs/LoopSpec/properties/goal", "minLength", json!(1)),
        ("/$defs/LoopSpec/properties/goal", "maxLength", json!(rules::GOAL_BYTES_MAX)),
        ("/$defs/LoopSpec/properties/checks", "minItems", json!(1)),
        ("/$defs/LoopSpec/properties/checks", "maxItems", json!(rules::CHECKS_MAX)),
        ("/$defs/LoopSpec/properties/secrets", "maxItems", json!(rules::SECRETS_OF_LOOP_MAX)),
        ("/$defs/LoopSpec/properties/owns", "maxItems", json!(resource::ENTRIES_MAX)),
        ("/$defs/LoopSpec/properties/pins", "maxItems", json!(resource::PINS_MAX)),
        ("/$defs/GovernorSpec/properties/iterations", "minimum", json!(1)),
        ("/$defs/GovernorSpec/properties/iterations", "maximum", json!(rules::ITERATIONS_MAX)),
        ("/$defs/GovernorSpec/properties/patience", "minimum", json!(1)),
        ("/$defs/GovernorSpec/properties/patience", "maximum", json!(rules::PATIENCE_MAX)),
        ("/$defs/GovernorSpec/properties/maxFiles", "minimum", json!(1)),
        ("/$defs/GovernorSpec/properties/maxLines", "minimum", json!(1)),
    ]
}

/// Forbids unknown fields in every object that lists its fields.
fn close_objects(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let object = map.get("type").is_some_and(|kind| kind == "object");
            if object && !map.contains_key("additionalProperties") {
                map.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            map.values_mut().for_each(close_objects);
        }
        Value::Array(items) => items.iter_mut().for_each(close_objects),
        _ => {}
    }
}
