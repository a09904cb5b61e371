//! What the agents are that are there without any manifest.

use serde_json::Value;

use super::super::{BUILTIN_PRESETS, OUTPUTS};
use super::*;

/// Every field of a definition that is not empty.
fn told(name: &str) -> String {
    let agent = serde_json::to_value(preset(name).unwrap()).unwrap();
    let mut lines = Vec::new();
    for (field, value) in agent.as_object().unwrap() {
        let text = |value: &Value| value.as_str().unwrap_or("no text").to_owned();
        match value {
            Value::Array(parts) => {
                let parts: Vec<_> = parts.iter().map(text).collect();
                lines.push(format!("{field}: {}", parts.join(" ")));
            }
            Value::Object(pairs) => {
                lines.extend(
                    pairs.iter().map(|(key, value)| format!("{field} {key}={}", text(value))),
                );
            }
            value => lines.push(format!("{field}: {}", text(value))),
        }
    }
    lines.join("\n")
}

#[test]
fn what_builtin_holds() {
    insta::assert_snapshot!(told("builtin"), @"
    command: {flyball} agent builtin
    env FLYBALL_MODEL={model}
    env FLYBALL_MODEL_KEY={key}
    env FLYBALL_MODEL_PROTOCOL={protocol}
    env FLYBALL_MODEL_URL={gateway}
    grace: 30s
    model: large
    output: builtin
    probe: --version
    prompt: files
    protocol: anthropic
    stall: 15m
    timeout: 30m
    version: 1
    ");
}

#[test]
fn what_claude_code_holds() {
    insta::assert_snapshot!(told("claude-code"), @"
    command: claude -p --bare --output-format stream-json --verbose --permission-mode bypassPermissions --disallowedTools WebFetch,WebSearch --strict-mcp-config --no-session-persistence --model {model} --session-id {session}
    env ANTHROPIC_API_KEY={key}
    env ANTHROPIC_BASE_URL={gateway}
    env ANTHROPIC_DEFAULT_HAIKU_MODEL={small}
    env CLAUDE_CODE_ATTRIBUTION_HEADER={attribution}
    env CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1
    env CLAUDE_CODE_PROPAGATE_TRACEPARENT=1
    env CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST=1
    env CLAUDE_CONFIG_DIR={home}/.claude
    env DISABLE_AUTOUPDATER=1
    env DISABLE_ERROR_REPORTING=1
    env DISABLE_TELEMETRY=1
    env IS_SANDBOX=1
    env TRACEPARENT={traceparent}
    grace: 30s
    model: large
    output: claude-code
    probe: --version
    prompt: stdin
    protocol: anthropic
    stall: 15m
    timeout: 30m
    version: 1
    ");
}

#[test]
fn what_codex_holds() {
    insta::assert_snapshot!(told("codex"), @r#"
    command: codex exec --json --skip-git-repo-check --ephemeral --ignore-user-config --dangerously-bypass-approvals-and-sandbox -c model_provider="flyball" -c model_providers.flyball={name="flyball",base_url="{gateway}/v1",env_key="FLYBALL_MODEL_KEY",wire_api="responses",supports_websockets=false,stream_idle_timeout_ms=300000} -c analytics.enabled=false -c check_for_update_on_startup=false -c history.persistence="none" -c shell_environment_policy.exclude=["FLYBALL_MODEL_KEY"] -m {model} -
    env CODEX_HOME={home}/.codex
    env FLYBALL_MODEL_KEY={key}
    env TRACEPARENT={traceparent}
    files .codex/config.toml=
    grace: 30s
    model: large
    output: codex
    probe: --version
    prompt: stdin
    protocol: responses
    stall: 15m
    timeout: 30m
    version: 1
    "#);
}

#[test]
fn what_mini_swe_agent_holds() {
    insta::assert_snapshot!(told("mini-swe-agent"), @"
    command: mini -m openai/{model} -y --exit-immediately -l 0 -o {home}/traj.json -c mini.yaml -c model.model_kwargs.api_base={gateway}/v1 -c model.model_kwargs.custom_llm_provider=openai -t {prompt}
    env LITELLM_LOCAL_MODEL_COST_MAP=True
    env LITELLM_TELEMETRY=False
    env MSWEA_CONFIGURED=true
    env MSWEA_COST_TRACKING=ignore_errors
    env MSWEA_GLOBAL_CONFIG_DIR={home}/.mini
    env MSWEA_MODEL_RETRY_STOP_AFTER_ATTEMPT=2
    env MSWEA_SILENT_STARTUP=1
    env OPENAI_API_KEY={key}
    env TRACEPARENT={traceparent}
    grace: 30s
    model: large
    output: mini-swe-agent
    prompt: files
    protocol: chat
    stall: 15m
    timeout: 30m
    version: 1
    ");
}

#[test]
fn every_name_has_its_preset() {
    for name in BUILTIN_PRESETS {
        let agent = preset(name).unwrap();
        assert!(OUTPUTS.contains(&agent.output.as_str()), "{name}");
        assert_eq!(agent.model.as_deref(), Some("large"), "{name}");
        assert!(agent.stall.is_some() && agent.protocol.is_some(), "{name}");
    }
    assert_eq!(preset("other"), None);
}

#[test]
fn marks_of_an_agent_around_the_worker_are_cleared() {
    for name in ["CLAUDECODE", "CLAUDE_CODE_SSE_PORT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        assert!(is_cleared(name), "{name}");
    }
    for name in ["PATH", "HOME", "TRACEPARENT", "FLYBALL_LOOP", "CLAUDE"] {
        assert!(!is_cleared(name), "{name}");
    }
}
