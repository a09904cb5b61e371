//! Tools that the provider runs itself, and bills apart from tokens: searches of the web are counted and bounded, others
//! are refused, as nothing here knows what they would cost.

use std::ops::Range;

use flyball_core::model::Protocol;

use super::bad::BadCall;
use super::json::Value;

/// Searches that a request may make which bounds them nowhere: it is sent with this bound. No client that is in use
/// has a higher one of its own (Claude Code: 8).
const SEARCHES: u64 = 10;

/// Beginnings of the types of tools without a price here (OpenAI: containers by time and size, searches of files by
/// their number, pictures by tokens of another model; Anthropic: containers by time, another model's advice).
const UNPRICED: [&str; 5] =
    ["code_interpreter", "code_execution", "file_search", "image_generation", "advisor"];

/// How often a request lets the provider call tools, all together (Responses: `max_tool_calls`).
#[derive(Debug, Clone, Default)]
pub(super) struct ToolCalls {
    pub(super) most: Option<u64>,
    /// The member's value, if there is one.
    pub(super) value: Option<Range<usize>>,
}

/// Searches of the web that a request may make.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Searches {
    /// At most so many, each of which is billed.
    pub(super) most: u64,
    /// What is written where in the body so that the provider keeps to it.
    pub(super) bounds: Vec<(Range<usize>, String)>,
}

/// Most searches of the web that these tools allow. Only Responses has `calls` for all together; what a request says
/// there that its protocol does not know binds nobody. `start` is where members can be added to the request.
///
/// # Errors
/// [`BadCall::Unpriced`] for a tool that is billed apart, and is no search.
pub(super) fn searches(
    protocol: Protocol,
    tools: Value<'_>,
    calls: &ToolCalls,
    start: usize,
) -> Result<Searches, BadCall> {
    let mut found = Searches::default();
    let calls = Some(calls).filter(|_| protocol == Protocol::Responses);
    let of_all = calls.and_then(|calls| calls.most);
    for tool in tools.items() {
        let kind = tool.get("type").and_then(Value::string).unwrap_or_default();
        if UNPRICED.iter().any(|name| kind.starts_with(name)) || is_hosted_shell(&kind, tool) {
            return Err(BadCall::Unpriced { tool: kind.chars().take(40).collect() });
        }
        if !kind.starts_with("web_search") {
            continue;
        }
        let most = match protocol {
            Protocol::Anthropic => uses(tool, &mut found.bounds),
            // OpenAI itself has no such tools there; of others nothing is known that would bound them.
            Protocol::Chat => SEARCHES,
            Protocol::Responses => of_all.unwrap_or(SEARCHES),
        };
        found.most = found.most.saturating_add(most);
    }
    if let (Some(calls), true) = (calls, found.most > 0) {
        found.most = found.most.min(of_all.unwrap_or(SEARCHES));
        if of_all.is_none() {
            found.bounds.push(match &calls.value {
                Some(value) => (value.clone(), SEARCHES.to_string()),
                // There is always a member after it: the model.
                None => (start..start, format!("\"max_tool_calls\":{SEARCHES},")),
            });
        }
    }
    Ok(found)
}

/// How often Anthropic's tool may be used; one without a bound gets one.
fn uses(tool: Value<'_>, bounds: &mut Vec<(Range<usize>, String)>) -> u64 {
    let told = tool.members().filter(|(key, _)| key.is("max_uses")).map(|(_, value)| value);
    let mut most = None;
    // Of several, servers may take any.
    for value in told {
        let own = value.whole();
        if own.is_none() {
            bounds.push((value.span(), SEARCHES.to_string()));
        }
        most = most.max(own.or(Some(SEARCHES)));
    }
    most.unwrap_or_else(|| {
        // Behind the opening brace; its type follows.
        let inside = tool.span().start + 1;
        bounds.push((inside..inside, format!("\"max_uses\":{SEARCHES},")));
        SEARCHES
    })
}

/// OpenAI's shell runs with the client, or in a container of the provider's.
fn is_hosted_shell(kind: &str, tool: Value<'_>) -> bool {
    let place = tool.get("environment").and_then(|place| place.get("type"));
    kind == "shell" && place.and_then(Value::string).is_some_and(|at| at.starts_with("container"))
}
