//! Which paths the gateway answers, and who asks.

use flyball_core::model::Protocol;
use http::{HeaderMap, Method};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An answer of a model.
    Call(Protocol),
    /// Anthropic's count of a request's tokens, which is free.
    CountTokens,
    /// The list of models.
    ListModels,
    /// One model.
    GetModel(String),
    /// Whether anybody is there.
    Hello,
}

/// A program whose dialect of "stop" is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Claude Code.
    ClaudeCode,
    /// Codex.
    Codex,
    /// Anything else: mostly a vendor's SDK.
    Other,
}

/// What a request asks for, by its method and path; `None` if the gateway has nothing there. Base URLs of Anthropic's
/// clients end before `/v1`, those of OpenAI's behind it; either is taken, with and without.
pub fn endpoint(method: &Method, path: &str) -> Option<Endpoint> {
    let path = path.split('?').next().unwrap_or_default();
    let path = path.strip_prefix("/v1").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    match (method.as_str(), path) {
        ("POST", "/messages") => Some(Endpoint::Call(Protocol::Anthropic)),
        ("POST", "/messages/count_tokens") => Some(Endpoint::CountTokens),
        ("POST", "/chat/completions") => Some(Endpoint::Call(Protocol::Chat)),
        ("POST", "/responses") => Some(Endpoint::Call(Protocol::Responses)),
        ("GET", "/models") => Some(Endpoint::ListModels),
        ("HEAD" | "GET", "/" | "/api/hello") => Some(Endpoint::Hello),
        ("GET", path) => {
            let name = path.strip_prefix("/models/").filter(|name| !name.is_empty())?;
            Some(Endpoint::GetModel(unescaped(name)?))
        }
        _ => None,
    }
}

/// Who asks, by what it says of itself. It only chooses words, so a lie costs the liar.
pub fn client(headers: &HeaderMap) -> Client {
    let agent = headers.get("user-agent").and_then(|value| value.to_str().ok());
    let agent = agent.unwrap_or_default();
    if agent.starts_with("claude-cli") || headers.contains_key("x-claude-code-session-id") {
        Client::ClaudeCode
    } else if agent.starts_with("codex") || headers.get("originator").is_some_and(is_codex) {
        Client::Codex
    } else {
        Client::Other
    }
}

fn is_codex(value: &http::HeaderValue) -> bool {
    value.as_bytes().starts_with(b"codex")
}

/// A path's piece without its percent signs; names of models may hold slashes and colons.
fn unescaped(piece: &str) -> Option<String> {
    let mut out = Vec::with_capacity(piece.len());
    let mut rest = piece.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
        out.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(out).ok()
}
