//! Manifests of what model calls need: providers, routes, agents and namespaces' budgets. Parsing, rules and doubts.

mod address;
mod agent;
mod provider;
mod route;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::error::FieldError;
use super::rules::Errors;
use super::{check_size, parse_ruled};
use crate::model::{AMOUNT_MAX, BudgetManifest, Definition, DefinitionKind, Limits, Money};

/// Largest definition as compact JSON, in bytes: all that a run may need are handed to it at once.
pub(super) const DEFINITION_BYTES_MAX: usize = 64 * 1024;
/// Longest name of a model, in bytes; vendors' own stay below 100.
const MODEL_BYTES_MAX: usize = 256;
/// Most further arguments of an agent.
const ARGS_MAX: usize = 256;

/// Reads a manifest of kind `Provider`, `ModelRoute`, `Agent` or `Budget`: its shape first, then its rules.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_definition(json: &Value) -> Result<Definition, Vec<FieldError>> {
    let found = json.get("kind").and_then(Value::as_str).unwrap_or_default();
    let Some(kind) = DefinitionKind::of_manifest(found) else {
        let kinds: Vec<_> = DefinitionKind::all().map(DefinitionKind::manifest_kind).collect();
        let error = FieldError::new("kind", format!("must be {}", kinds.join(" or ")));
        return Err(vec![error.found(format!("{found:?}"))]);
    };
    check_size(json, DEFINITION_BYTES_MAX).map_err(|error| vec![error])?;
    let name = kind.manifest_kind();
    match kind {
        DefinitionKind::Provider => {
            parse_ruled(json, name, Errors::provider).map(Definition::Provider)
        }
        DefinitionKind::ModelRoute => {
            parse_ruled(json, name, Errors::model_route).map(Definition::ModelRoute)
        }
        DefinitionKind::Agent => {
            parse_ruled(json, name, Errors::defined_agent).map(Definition::Agent)
        }
        DefinitionKind::Budget => {
            parse_ruled(json, name, Errors::namespace_budget).map(Definition::Budget)
        }
    }
}

/// Doubts about a valid definition, as far as it can be told without others, one line each: `path: text`.
pub fn warnings_of(definition: &Definition) -> Vec<String> {
    match definition {
        Definition::Provider(manifest) => provider::warnings(&manifest.spec),
        Definition::ModelRoute(_) | Definition::Agent(_) | Definition::Budget(_) => Vec::new(),
    }
}

/// Bounds that the types do not carry, for the schemas: JSON pointer of the field, keyword, value.
pub(super) fn bounds() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("/$defs/ProviderSpec/properties/protocols", "minItems", json!(1)),
        ("/$defs/ProviderSpec/properties/baseUrl", "maxLength", json!(address::URL_BYTES_MAX)),
        ("/$defs/ModelRouteSpec/properties/match", "maxItems", json!(route::MATCHES_MAX)),
        ("/$defs/ModelRouteSpec/properties/tiers", "minItems", json!(1)),
        ("/$defs/ModelRouteSpec/properties/tiers", "maxItems", json!(route::TIERS_MAX)),
        ("/$defs/ModelRouteSpec/properties/maxOutputTokens", "minimum", json!(1)),
        ("/$defs/ModelRouteSpec/properties/maxOutputTokens", "maximum", json!(route::OUTPUT_MAX)),
        ("/$defs/Tier/properties/deployments", "minItems", json!(1)),
        ("/$defs/Tier/properties/deployments", "maxItems", json!(route::DEPLOYMENTS_MAX)),
        ("/$defs/Deployment/properties/weight", "maximum", json!(route::WEIGHT_MAX)),
        ("/$defs/OnError/properties/tries", "minimum", json!(1)),
        ("/$defs/OnError/properties/tries", "maximum", json!(route::TRIES_MAX)),
        ("/$defs/OnError/properties/failures", "minimum", json!(1)),
        ("/$defs/OnError/properties/failures", "maximum", json!(route::FAILURES_MAX)),
        ("/$defs/AgentDefinition/properties/command", "minItems", json!(1)),
    ]
}

impl Errors {
    fn namespace_budget(&mut self, manifest: &BudgetManifest) {
        self.name("metadata.namespace", &manifest.metadata.namespace);
        self.limits("spec", &manifest.spec);
        if manifest.spec.is_none() {
            let rule =
                "must bound something: tokens, money or calls; delete the budget to bound nothing";
            self.0.push(FieldError::new("spec", rule));
        }
    }

    /// A bound of nothing is a mistake: whoever wants no calls gives no route.
    pub(super) fn limits(&mut self, path: &str, limits: &Limits) {
        let money = limits.money.map(|money| money.0);
        let bounds = [("tokens", limits.tokens), ("money", money), ("calls", limits.calls)];
        for (field, bound) in bounds {
            let path = format!("{path}.{field}");
            match bound {
                Some(0) => self.add(path, "must be more than nothing", "0"),
                Some(bound) if bound > AMOUNT_MAX => {
                    let most = match field {
                        "money" => Money(AMOUNT_MAX).to_string(),
                        _ => AMOUNT_MAX.to_string(),
                    };
                    self.0.push(FieldError::new(path, format!("must be at most {most}")));
                }
                _ => {}
            }
        }
    }

    pub(super) fn model_name(&mut self, path: &str, name: &str) {
        if name.is_empty() || name.len() > MODEL_BYTES_MAX || name.contains(char::is_control) {
            let rule = format!("must be 1 to {MODEL_BYTES_MAX} bytes without control characters");
            self.add(path, rule, format!("{name:?}"));
        }
    }

    pub(super) fn args(&mut self, path: &str, args: &[String]) {
        self.count(path, args.len(), ARGS_MAX);
        for (index, arg) in args.iter().enumerate() {
            if arg.contains('\0') {
                let rule = "must not contain NUL characters";
                self.0.push(FieldError::new(format!("{path}[{index}]"), rule));
            }
        }
    }
}
