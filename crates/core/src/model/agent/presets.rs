//! The agents that are there without any manifest, as data. Flags, variables and their reasons are from the
//! vendors' documentation; docs/agents.md says which versions they were tried with.

use std::collections::BTreeMap;

use super::fill::MODEL_LARGE;
use super::{AgentDefinition, PromptBy};
use crate::model::Protocol;
use crate::quantity::Span;

/// Silence of a command line agent, with none of its tools running, that is no thinking any more. A model may
/// think for minutes before the first byte of an answer.
const STALL: Span = Span::from_secs(15 * 60);

/// The agent of this name, if there is one without a manifest.
pub fn preset(name: &str) -> Option<AgentDefinition> {
    match name {
        "builtin" => Some(builtin()),
        "claude-code" => Some(claude_code()),
        "codex" => Some(codex()),
        "mini-swe-agent" => Some(mini_swe_agent()),
        _ => None,
    }
}

/// Variables that an agent must not inherit from whoever runs the worker: marks of an agent around it, and where
/// others' telemetry goes.
pub fn is_cleared(variable: &str) -> bool {
    const NAMES: [&str; 3] = ["CLAUDECODE", "AI_AGENT", "TRACESTATE"];
    const PREFIXES: [&str; 6] =
        ["CLAUDE_CODE_", "OTEL_", "ANTHROPIC_", "OPENAI_", "CODEX_", "MSWEA_"];
    NAMES.contains(&variable) || PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn base(command: Vec<String>, output: &str, protocol: Protocol) -> AgentDefinition {
    AgentDefinition {
        version: "1".to_owned(),
        model: Some(MODEL_LARGE.to_owned()),
        protocol: Some(protocol),
        output: output.to_owned(),
        stall: Some(STALL),
        ..AgentDefinition::plain(command)
    }
}

/// `flyball agent builtin`, which speaks all three protocols: the one that is given, or whichever its route has.
fn builtin() -> AgentDefinition {
    let command = words("{flyball} agent builtin");
    AgentDefinition {
        env: variables(&[
            ("FLYBALL_MODEL_URL", "{gateway}"),
            ("FLYBALL_MODEL_KEY", "{key}"),
            ("FLYBALL_MODEL", "{model}"),
            ("FLYBALL_MODEL_PROTOCOL", "{protocol}"),
        ]),
        probe: words("--version"),
        ..base(command, "builtin", Protocol::Anthropic)
    }
}

/// Claude Code. `--bare`: it takes no hooks, skills, memory or MCP servers from the repository, which is hostile
/// input. Permissions are bypassed because the sandbox around it is what holds; what goes out is our gateway only.
/// CLAUDE_CODE_SUBPROCESS_ENV_SCRUB must not be set, as it takes that bypass back (tried with 2.1.197).
fn claude_code() -> AgentDefinition {
    let command = words(
        "claude -p --bare --output-format stream-json --verbose --permission-mode bypassPermissions \
         --disallowedTools WebFetch,WebSearch --strict-mcp-config --no-session-persistence \
         --model {model} --session-id {session}",
    );
    AgentDefinition {
        prompt: PromptBy::Stdin,
        env: variables(&[
            ("ANTHROPIC_BASE_URL", "{gateway}"),
            ("ANTHROPIC_API_KEY", "{key}"),
            ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "{small}"),
            ("CLAUDE_CODE_ATTRIBUTION_HEADER", "{attribution}"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("CLAUDE_CODE_PROPAGATE_TRACEPARENT", "1"),
            ("CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST", "1"),
            ("CLAUDE_CONFIG_DIR", "{home}/.claude"),
            ("DISABLE_AUTOUPDATER", "1"),
            ("DISABLE_ERROR_REPORTING", "1"),
            ("DISABLE_TELEMETRY", "1"),
            ("IS_SANDBOX", "1"),
            ("TRACEPARENT", "{traceparent}"),
        ]),
        probe: words("--version"),
        ..base(command, "claude-code", Protocol::Anthropic)
    }
}

/// Codex. A provider of its own name, as the built-in one switches websockets and a login on; its own sandbox
/// does not nest in ours.
fn codex() -> AgentDefinition {
    let mut command = words(
        "codex exec --json --skip-git-repo-check --ephemeral --ignore-user-config \
         --dangerously-bypass-approvals-and-sandbox",
    );
    let settings = [
        "model_provider=\"flyball\"",
        "model_providers.flyball={name=\"flyball\",base_url=\"{gateway}/v1\",\
         env_key=\"FLYBALL_MODEL_KEY\",wire_api=\"responses\",supports_websockets=false,\
         stream_idle_timeout_ms=300000}",
        "analytics.enabled=false",
        "check_for_update_on_startup=false",
        "history.persistence=\"none\"",
        "shell_environment_policy.exclude=[\"FLYBALL_MODEL_KEY\"]",
    ];
    for setting in settings {
        command.extend(["-c".to_owned(), setting.to_owned()]);
    }
    command.extend(words("-m {model} -"));
    AgentDefinition {
        prompt: PromptBy::Stdin,
        env: variables(&[
            ("CODEX_HOME", "{home}/.codex"),
            ("FLYBALL_MODEL_KEY", "{key}"),
            ("TRACEPARENT", "{traceparent}"),
        ]),
        // It does not make its home by itself.
        files: variables(&[(".codex/config.toml", "")]),
        probe: words("--version"),
        ..base(command, "codex", Protocol::Responses)
    }
}

/// mini-swe-agent. Its own limit of cost is off, as it knows no prices of ours; the gateway holds the budget. It
/// would repeat every failed call ten times, minutes long, also one that the budget refused; the gateway repeats
/// what may be repeated, so the second time is for a connection that broke.
fn mini_swe_agent() -> AgentDefinition {
    let mut command = words(
        "mini -m openai/{model} -y --exit-immediately -l 0 -o {home}/traj.json -c mini.yaml \
         -c model.model_kwargs.api_base={gateway}/v1 -c model.model_kwargs.custom_llm_provider=openai",
    );
    command.extend(["-t".to_owned(), "{prompt}".to_owned()]);
    AgentDefinition {
        env: variables(&[
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ("LITELLM_TELEMETRY", "False"),
            ("MSWEA_CONFIGURED", "true"),
            ("MSWEA_COST_TRACKING", "ignore_errors"),
            ("MSWEA_GLOBAL_CONFIG_DIR", "{home}/.mini"),
            ("MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT", "2"),
            ("MSWEA_SILENT_STARTUP", "1"),
            ("OPENAI_API_KEY", "{key}"),
            ("TRACEPARENT", "{traceparent}"),
        ]),
        ..base(command, "mini-swe-agent", Protocol::Chat)
    }
}

#[cfg(test)]
mod tests;
