//! Providers, model routes, agents and budgets, as rows and as pages.

use flyball_core::model::{
    AgentDefinition, AgentManifest, AgentMetadata, Definition, DefinitionKind, Deployment,
    KIND_AGENT, Limits, Match, ModelRouteSpec, Protocol, ProviderSpec, preset,
};
use flyball_core::spec::API_VERSION;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::sheet::Sheet;
use super::words;
use crate::output::{Cell, Table};

/// The document of an agent that is shipped with the program.
pub(crate) fn shipped(kind: DefinitionKind, name: &str) -> Option<Value> {
    let spec = (kind == DefinitionKind::Agent).then(|| preset(name)).flatten()?;
    let metadata = AgentMetadata { name: name.to_owned() };
    let (api_version, kind) = (API_VERSION.to_owned(), KIND_AGENT.to_owned());
    let manifest = AgentManifest { api_version, kind, metadata, spec };
    let mut document = serde_json::to_value(manifest).ok()?;
    document["status"] = json!({ "shipped": true });
    Some(document)
}

/// The table of a kind.
pub(crate) fn table(kind: DefinitionKind, wide: bool) -> Table {
    let mut headers = match kind {
        DefinitionKind::Provider => vec!["NAME", "SPEAKS", "URL", "KEY", "QUOTA"],
        DefinitionKind::ModelRoute => vec!["NAME", "PRIORITY", "TAKES", "TIERS"],
        DefinitionKind::Agent => vec!["NAME", "VERSION", "SPEAKS", "COMMAND"],
        DefinitionKind::Budget => vec!["NAMESPACE", "MONEY", "TOKENS", "CALLS"],
    };
    if wide {
        headers.extend(["GENERATION", "BY", "DOUBTS"]);
    }
    Table::new(headers)
}

/// The row of a definition.
pub(crate) fn row(definition: &Definition, document: &Value, wide: bool) -> Vec<Cell> {
    let name = definition.key().name;
    let cells = match definition {
        Definition::Provider(one) => provider_row(&one.spec),
        Definition::ModelRoute(one) => {
            let spec = &one.spec;
            vec![spec.priority.to_string(), takes(spec).join("; "), tiers(spec).join(", ")]
        }
        Definition::Agent(one) => {
            let spec = &one.spec;
            let command = spec.command.join(" ");
            let command = if wide { command } else { clipped(&command) };
            vec![spec.version.clone(), speaks(spec.protocol.as_slice()), command]
        }
        Definition::Budget(one) => limits(&one.spec).into(),
    };
    let mut cells: Vec<Cell> = std::iter::once(name).chain(cells).map(Cell::from).collect();
    if wide {
        let status = &document["status"];
        let by = if status["shipped"] == true { "shipped" } else { text(&status["changedBy"]) };
        let doubts = status["warnings"].as_array().map_or(0, Vec::len);
        let generation = document["metadata"]["generation"].as_u64();
        let generation = generation.map(|number| number.to_string()).unwrap_or_default();
        cells.extend([generation.into(), by.into(), doubts.to_string().into()]);
    }
    cells
}

/// What fits beside the other columns; `-o wide` and `describe` tell all.
fn clipped(command: &str) -> String {
    const CHARS_MAX: usize = 60;
    match command.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.to_owned(),
    }
}

/// The page of a definition.
pub(crate) fn page(definition: &Definition, document: &Value, now: Timestamp) -> String {
    let mut sheet = Sheet::default();
    let key = definition.key();
    let label = if key.kind == DefinitionKind::Budget { "Namespace" } else { "Name" };
    sheet.field(label, &key.name);
    match definition {
        Definition::Provider(one) => provider(&mut sheet, &one.spec),
        Definition::ModelRoute(one) => route(&mut sheet, &one.spec),
        Definition::Agent(one) => agent(&mut sheet, &one.spec),
        Definition::Budget(one) => {
            let [money, tokens, calls] = limits(&one.spec);
            sheet.field("Money", money);
            sheet.field("Tokens", tokens);
            sheet.field("Calls", calls);
        }
    }
    let status = &document["status"];
    if status["shipped"] == true {
        sheet.field("Changed", "never: it is shipped with this program");
    } else {
        let at = text(&status["changedAt"]).parse::<Timestamp>().ok();
        let (at, by) = (words::moment(at, now), text(&status["changedBy"]));
        let generation = document["metadata"]["generation"].as_u64().unwrap_or_default();
        sheet.field("Changed", format!("{at} by {by}, generation {generation}"));
    }
    let doubts = status["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    sheet.list("Doubts", &doubts.iter().map(text).collect::<Vec<_>>());
    sheet.finish()
}

fn provider_row(spec: &ProviderSpec) -> Vec<String> {
    vec![speaks(&spec.protocols), spec.base_url.clone(), key(spec), quota(spec)]
}

fn provider(sheet: &mut Sheet, spec: &ProviderSpec) {
    sheet.field("URL", &spec.base_url);
    sheet.field("Query", spec.query.as_deref().unwrap_or_default());
    sheet.field("Speaks", speaks(&spec.protocols));
    sheet.field("Key", key(spec));
    let headers: Vec<_> =
        spec.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    sheet.list("Headers", &headers);
    sheet.field("Quota", quota(spec));
    let price = |(model, price): (&String, &flyball_core::model::ModelPrice)| {
        format!("{model}: {} in, {} out per million tokens", price.input, price.output)
    };
    sheet.list("Prices", &spec.prices.iter().map(price).collect::<Vec<_>>());
}

fn route(sheet: &mut Sheet, spec: &ModelRouteSpec) {
    sheet.field("Priority", spec.priority.to_string());
    sheet.list("Takes", &takes(spec));
    let mut lines = Vec::new();
    for tier in &spec.tiers {
        lines.push(format!("{}, from stall {} on", tier.name, tier.from.stall));
        lines.extend(tier.deployments.iter().map(|one| format!("  {}", deployment(one))));
    }
    sheet.field("Tiers", lines.join("\n"));
    let on_error = &spec.on_error;
    let others = if on_error.other_tiers { "yes" } else { "no" };
    sheet.field(
        "On error",
        format!(
            "at most {} tries, pauses of at most {}, other tiers: {others}\nleft alone for {} after {} failures in a \
             row\nno byte within {}: failed",
            on_error.tries, on_error.pause_max, on_error.cool_down, on_error.failures, on_error.first_byte,
        ),
    );
    sheet.field(
        "Output",
        format!("at most {} tokens where the client sets no limit", spec.max_output_tokens),
    );
}

fn agent(sheet: &mut Sheet, spec: &AgentDefinition) {
    sheet.field("Version", &spec.version);
    sheet.field("Command", spec.command.join(" "));
    sheet.field("Prompt", format!("{:?}", spec.prompt).to_lowercase());
    sheet.field("Speaks", speaks(spec.protocol.as_slice()));
    sheet.field("Model", spec.model.as_deref().unwrap_or_default());
    sheet.list("Environment", &spec.env.keys().collect::<Vec<_>>());
    sheet.list("Files", &spec.files.keys().collect::<Vec<_>>());
    sheet.field("Output", &spec.output);
    let stall = spec.stall.map(|stall| format!(", when silent for {stall}")).unwrap_or_default();
    sheet.field(
        "Killed",
        format!("{} after its last event, after {} in all{stall}", spec.grace, spec.timeout),
    );
}

fn speaks(protocols: &[Protocol]) -> String {
    protocols.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(",")
}

fn key(spec: &ProviderSpec) -> String {
    let secret = spec.auth.as_ref().map(|auth| &auth.secret);
    secret.map(|secret| format!("secret {}/{}", secret.namespace, secret.name)).unwrap_or_default()
}

fn quota(spec: &ProviderSpec) -> String {
    let requests = spec.quota.requests_per_minute.map(|most| format!("{most} requests/min"));
    let tokens = spec.quota.tokens_per_minute.map(|most| format!("{most} tokens/min"));
    requests.into_iter().chain(tokens).collect::<Vec<_>>().join(", ")
}

fn deployment(one: &Deployment) -> String {
    let model = one.model.as_deref().unwrap_or("(the requested model)");
    format!("{} {model}, weight {}", one.provider, one.weight)
}

/// `cheap, strong from 2`.
fn tiers(spec: &ModelRouteSpec) -> Vec<String> {
    let tier = |tier: &flyball_core::model::Tier| match tier.from.stall {
        0 => tier.name.clone(),
        stall => format!("{} from {stall}", tier.name),
    };
    spec.tiers.iter().map(tier).collect()
}

/// What a route takes, one alternative per text.
fn takes(spec: &ModelRouteSpec) -> Vec<String> {
    match spec.matches.as_slice() {
        [] => vec!["every call".to_owned()],
        some => some.iter().map(conditions).collect(),
    }
}

fn conditions(one: &Match) -> String {
    let mut all = Vec::new();
    if !one.models.is_empty() {
        all.push(format!("models {}", one.models.join(",")));
    }
    if !one.subtasks.is_empty() {
        let classes: Vec<_> = one.subtasks.iter().map(|class| class.as_str()).collect();
        all.push(classes.join(","));
    }
    if !one.namespaces.is_empty() {
        all.push(format!("namespaces {}", one.namespaces.join(",")));
    }
    all.extend(one.labels.iter().map(|(key, value)| format!("{key}={value}")));
    all.extend(one.distance_at_least.map(|least| format!("distance {least}+")));
    all.extend(one.stall_at_least.map(|least| format!("stall {least}+")));
    all.join(" ")
}

fn limits(limits: &Limits) -> [String; 3] {
    let number = |most: Option<u64>| most.map(|most| most.to_string()).unwrap_or_default();
    let money = limits.money.map(|money| money.to_string()).unwrap_or_default();
    [money, number(limits.tokens), number(limits.calls)]
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use flyball_core::manifest::parse_definition;

    use super::*;

    fn shown(kind: &str, metadata: Value, spec: Value) -> String {
        let json =
            json!({ "apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec });
        let definition = parse_definition(&json).unwrap();
        let mut document = serde_json::to_value(&definition).unwrap();
        document["metadata"]["generation"] = json!(2);
        document["status"] = json!({
            "changedAt": "2026-11-28T12:00:00Z", "changedBy": "user:ada", "warnings": ["spec.x: hm"],
        });
        let mut table = table(definition.key().kind, true);
        table.row(row(&definition, &document, true));
        let now = "2026-11-28T12:01:00Z".parse().unwrap();
        format!("{}\n{}", table.take(false, true), page(&definition, &document, now))
    }

    #[test]
    fn each_kind_has_a_row_and_a_page() {
        insta::assert_snapshot!(shown("Provider", json!({ "name": "acme" }), json!({
            "baseUrl": "https://api.example.org/v1", "protocols": ["chat", "responses"],
            "auth": { "secret": { "name": "key" } }, "query": "a=b", "headers": { "x-team": "core" },
            "quota": { "requestsPerMinute": 60 },
            "prices": { "m-1": { "input": "3 USD", "output": "15 USD" } }
        })), @"
        NAME   SPEAKS           URL                          KEY                  QUOTA             GENERATION   BY         DOUBTS
        acme   chat,responses   https://api.example.org/v1   secret default/key   60 requests/min   2            user:ada   1

        Name:         acme
        URL:          https://api.example.org/v1
        Query:        a=b
        Speaks:       chat,responses
        Key:          secret default/key
        Headers:      x-team: core
        Quota:        60 requests/min
        Prices:       m-1: 3 USD in, 15 USD out per million tokens
        Changed:      2026-11-28 12:00:00Z (60s ago) by user:ada, generation 2
        Doubts:       spec.x: hm
        ");
        insta::assert_snapshot!(shown("ModelRoute", json!({ "name": "main" }), json!({
            "match": [{ "models": ["claude-*"], "stallAtLeast": 1 }, { "subtasks": ["small"], "labels": { "a": "b" } }],
            "tiers": [
                { "name": "cheap", "deployments": [{ "provider": "acme", "model": "m-1", "weight": 3 }] },
                { "name": "strong", "from": { "stall": 2 }, "deployments": [{ "provider": "acme" }] }
            ]
        })), @"
        NAME   PRIORITY   TAKES                                 TIERS                  GENERATION   BY         DOUBTS
        main   0          models claude-* stall 1+; small a=b   cheap, strong from 2   2            user:ada   1

        Name:         main
        Priority:     0
        Takes:        models claude-* stall 1+
                      small a=b
        Tiers:        cheap, from stall 0 on
                        acme m-1, weight 3
                      strong, from stall 2 on
                        acme (the requested model), weight 1
        On error:     at most 3 tries, pauses of at most 10s, other tiers: yes
                      left alone for 30s after 3 failures in a row
                      no byte within 5m: failed
        Output:       at most 8192 tokens where the client sets no limit
        Changed:      2026-11-28 12:00:00Z (60s ago) by user:ada, generation 2
        Doubts:       spec.x: hm
        ");
        insta::assert_snapshot!(shown("Agent", json!({ "name": "own" }), json!({
            "version": "7", "command": ["agent", "{promptFile}"], "protocol": "chat", "stall": "5m",
            "env": { "URL": "{gateway}" }, "model": "large"
        })), @"
        NAME   VERSION   SPEAKS   COMMAND              GENERATION   BY         DOUBTS
        own    7         chat     agent {promptFile}   2            user:ada   1

        Name:         own
        Version:      7
        Command:      agent {promptFile}
        Prompt:       files
        Speaks:       chat
        Model:        large
        Environment:  URL
        Output:       lines
        Killed:       30s after its last event, after 30m in all, when silent for 5m
        Changed:      2026-11-28 12:00:00Z (60s ago) by user:ada, generation 2
        Doubts:       spec.x: hm
        ");
        insta::assert_snapshot!(shown("Budget", json!({ "namespace": "team" }), json!({
            "money": "50 USD", "calls": 1000
        })), @"
        NAMESPACE   MONEY    TOKENS   CALLS   GENERATION   BY         DOUBTS
        team        50 USD   -        1000    2            user:ada   1

        Namespace:    team
        Money:        50 USD
        Calls:        1000
        Changed:      2026-11-28 12:00:00Z (60s ago) by user:ada, generation 2
        Doubts:       spec.x: hm
        ");
    }

    #[test]
    fn shipped_agents_are_agents() {
        let document = shipped(DefinitionKind::Agent, "codex").unwrap();
        let definition: Definition = serde_json::from_value(document.clone()).unwrap();
        let page = page(&definition, &document, Timestamp::UNIX_EPOCH);
        assert!(page.contains("shipped with this program"), "{page}");
        assert!(shipped(DefinitionKind::Agent, "own").is_none());
        assert!(shipped(DefinitionKind::Provider, "codex").is_none());
    }
}
