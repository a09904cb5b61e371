//! Tools that the provider runs itself, and bills apart from tokens: searches of the web are counted, others are refused,
//! as nothing here knows what they would cost.

use super::bad::BadCall;
use super::json::Value;

/// Searches that are reserved for a request that does not bound them. If there are more, all are settled; no client
/// that is in use bounds them higher (Claude Code: 8).
const SEARCHES: u64 = 10;

/// Beginnings of the types of tools without a price here (OpenAI: containers by time and size, searches of files by
/// their number, pictures by tokens of another model; Anthropic: containers by time, another model's advice).
const UNPRICED: [&str; 5] =
    ["code_interpreter", "code_execution", "file_search", "image_generation", "advisor"];

/// Most searches of the web that these tools allow, all together at most `calls` where the request says so.
///
/// # Errors
/// [`BadCall::Unpriced`] for a tool that is billed apart, and is no search.
pub(super) fn searches(tools: Value<'_>, calls: Option<u64>) -> Result<u64, BadCall> {
    let mut searches: u64 = 0;
    for tool in tools.items() {
        let kind = tool.get("type").and_then(Value::string).unwrap_or_default();
        if UNPRICED.iter().any(|name| kind.starts_with(name)) || is_hosted_shell(&kind, tool) {
            return Err(BadCall::Unpriced { tool: kind.chars().take(40).collect() });
        }
        if kind.starts_with("web_search") {
            let uses = tool.get("max_uses").and_then(Value::whole);
            searches = searches.saturating_add(uses.or(calls).unwrap_or(SEARCHES));
        }
    }
    Ok(searches.min(calls.unwrap_or(u64::MAX)))
}

/// OpenAI's shell runs with the client, or in a container of the provider's.
fn is_hosted_shell(kind: &str, tool: Value<'_>) -> bool {
    let place = tool.get("environment").and_then(|place| place.get("type"));
    kind == "shell" && place.and_then(Value::string).is_some_and(|at| at.starts_with("container"))
}
