//! What the gateway reads of a request, and where it stands in the body.

use std::ops::Range;

use flyball_core::model::Protocol;

use super::bad::BadCall;
use super::hosted::{self, ToolCalls};
use super::json::{self, Kind, Value};

/// Longest name of a model, in bytes.
const MODEL_MAX: usize = 256;
/// Most answers that one request may ask for.
const CHOICES_MAX: u64 = 128;
/// Names of output limits, in every protocol. Servers of the OpenAI kind also honour those of others (llama.cpp
/// lets `n_predict` win over `max_tokens`), so all of them bind.
const LIMITS: [&str; 6] = [
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n_predict",
    "num_predict",
    "max_new_tokens",
];
/// Further members of a request that the gateway reads.
const READ: [&str; 21] = [
    "model",
    "stream",
    "stream_options",
    "n",
    "best_of",
    "tools",
    "functions",
    "thinking",
    "background",
    "service_tier",
    "speed",
    "previous_response_id",
    "conversation",
    "prompt",
    "web_search_options",
    "max_tool_calls",
    "prediction",
    "metadata",
    "prompt_cache_key",
    "messages",
    "input",
];

/// A request for an answer of a model, and what of it the gateway needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What it is written in.
    pub protocol: Protocol,
    /// The model that is asked for.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// Most output tokens of each answer, by the client: the largest of several limits. Absent when one that the
    /// protocol names is, or says 0, which servers read as no limit.
    pub max_output: Option<u64>,
    /// How many answers are asked for; each may be as long as the limit.
    pub choices: u64,
    /// Whether the model may use tools.
    pub tools: bool,
    /// Whether the client itself asks for usage in the stream (Chat only; the others always send it).
    pub asks_usage: bool,
    /// Whether it asks for thinking, of which the stream may show less than is billed.
    pub thinking: bool,
    /// The provider's class of service that is asked for, such as `priority`, which has prices of its own.
    pub service_tier: Option<String>,
    /// Whether it marks something for the cache of an hour.
    pub hour_cache: bool,
    /// What tells one session of the client from another, if the body says: for routes that stay.
    pub session: Option<String>,
    /// Most searches of the web that the provider may make for it, each of which is billed: what the request allows,
    /// else the bound with which it is sent.
    pub searches: u64,
    /// Whether it predicts its answer (Chat): what of that is not taken is billed, and not shown.
    pub prediction: bool,
    /// Whether a part of the input is kept by the provider, so that the body does not bound it.
    pub held_input: bool,
    pub(crate) spans: Spans,
}

/// Where things stand in the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Spans {
    /// Behind the opening brace.
    pub(crate) start: usize,
    pub(crate) model: Range<usize>,
    /// Names and values of output limits.
    pub(crate) limits: Vec<(&'static str, Range<usize>)>,
    pub(crate) stream_options: Option<Options>,
    /// Conversations: `messages` and `input`.
    pub(crate) talk: Vec<Range<usize>>,
    pub(crate) tools: Option<Range<usize>>,
    /// Bounds of searches, and where they belong.
    pub(crate) searches: Vec<(Range<usize>, String)>,
}

/// The member `stream_options`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Its value.
    pub(crate) value: Range<usize>,
    /// Whether that is an object, and one with members.
    pub(crate) is_object: bool,
    pub(crate) has_members: bool,
    /// The value of `include_usage` in it.
    pub(crate) include_usage: Option<Range<usize>>,
}

/// The name under which a protocol's clients limit the output.
pub(crate) fn own_limits(protocol: Protocol) -> &'static [&'static str] {
    match protocol {
        Protocol::Anthropic => &["max_tokens"],
        Protocol::Chat => &["max_completion_tokens", "max_tokens"],
        Protocol::Responses => &["max_output_tokens"],
    }
}

/// Reads a request.
///
/// # Errors
///
/// If the body is not one strict JSON object, names no model, has a member twice that the gateway relies on, or a
/// value in one that servers could read differently, or asks for an answer that would escape the meter.
pub fn parse(protocol: Protocol, body: &[u8]) -> Result<Call, BadCall> {
    let document = json::document(body)?;
    if document.kind() != Kind::Object {
        return Err(BadCall::NotObject);
    }
    let mut reading = Reading {
        call: empty(protocol),
        seen: Vec::new(),
        limitless: false,
        tool_calls: ToolCalls::default(),
    };
    reading.call.spans.start = document.span().start + 1;
    for (key, value) in document.members() {
        if let Some(name) = reading.name(key)? {
            reading.member(name, value)?;
        }
    }
    reading.finish(body)
}

fn empty(protocol: Protocol) -> Call {
    Call {
        protocol,
        model: String::new(),
        stream: false,
        max_output: None,
        choices: 1,
        tools: false,
        asks_usage: false,
        thinking: false,
        service_tier: None,
        hour_cache: false,
        session: None,
        searches: 0,
        prediction: false,
        held_input: false,
        spans: Spans::default(),
    }
}

/// A request that is being read.
struct Reading {
    call: Call,
    /// Names that have come.
    seen: Vec<&'static str>,
    /// Whether a limit said 0 or nothing.
    limitless: bool,
    /// Most calls of tools that the provider runs, where the request says.
    tool_calls: ToolCalls,
}

impl Reading {
    /// The name of a member that the gateway reads; `None` of others.
    fn name(&mut self, key: Value<'_>) -> Result<Option<&'static str>, BadCall> {
        let known = || LIMITS.iter().chain(&READ).copied();
        let plain = key.inner().filter(|inner| inner.is_ascii() && !inner.contains(&b'\\'));
        let found = match plain {
            Some(inner) => known().find(|name| inner.eq_ignore_ascii_case(name.as_bytes())),
            None => {
                let folded = folded(&key.string().unwrap_or_default());
                known().find(|name| folded == *name)
            }
        };
        let Some(name) = found else { return Ok(None) };
        // Servers in Go take members whatever the case of their names.
        if !key.is(name) {
            return Err(BadCall::Alike { field: name, found: shortened(key) });
        }
        if self.seen.contains(&name) {
            return Err(BadCall::Twice(name));
        }
        self.seen.push(name);
        Ok(Some(name))
    }

    fn member(&mut self, name: &'static str, value: Value<'_>) -> Result<(), BadCall> {
        if LIMITS.contains(&name) {
            return self.limit(name, value);
        }
        let given = value.kind() != Kind::Null;
        match name {
            "model" => self.model(value)?,
            "stream" => self.call.stream = truth(name, value)?,
            "stream_options" => self.stream_options(value)?,
            "n" | "best_of" => {
                self.call.choices = self.call.choices.max(choices(name, value)?);
            }
            "tools" | "functions" => {
                self.call.tools |= value.items().next().is_some();
                if name == "tools" {
                    self.call.spans.tools = Some(value.span());
                }
            }
            "messages" | "input" => self.call.spans.talk.push(value.span()),
            "previous_response_id" | "conversation" | "prompt" => self.call.held_input |= given,
            "thinking" => {
                let off = value.get("type").is_some_and(|kind| kind.is("disabled"));
                self.call.thinking = given && !off;
            }
            "background" if truth(name, value)? => {
                let why = "the usage of an answer that is fetched later cannot be metered";
                return Err(BadCall::Unmetered { field: name, why });
            }
            "service_tier" => self.call.service_tier = text(value),
            "speed" if given => self.call.service_tier = text(value),
            // Billed once for each request, however often it searches.
            "web_search_options" => self.call.searches = self.call.searches.max(u64::from(given)),
            "max_tool_calls" => {
                let (most, value) = (value.whole(), Some(value.span()));
                self.tool_calls = ToolCalls { most, value };
            }
            "prediction" => self.call.prediction = given,
            "metadata" => {
                let user = value.get("user_id").and_then(text);
                self.call.session = self.call.session.take().or(user);
            }
            "prompt_cache_key" if given => self.call.session = text(value),
            _ => {}
        }
        Ok(())
    }

    fn model(&mut self, value: Value<'_>) -> Result<(), BadCall> {
        let model = value.string().unwrap_or_default();
        if model.is_empty() || model.len() > MODEL_MAX {
            let allowed = "a name of 1 to 256 bytes";
            return Err(BadCall::Wrong { field: "model", found: shortened(value), allowed });
        }
        self.call.model = model.into_owned();
        self.call.spans.model = value.span();
        Ok(())
    }

    fn limit(&mut self, name: &'static str, value: Value<'_>) -> Result<(), BadCall> {
        self.call.spans.limits.push((name, value.span()));
        if value.kind() == Kind::Null {
            self.limitless = true;
            return Ok(());
        }
        let Some(limit) = value.whole() else {
            // Less than 0 is no limit to some servers, and others read numbers from strings.
            let allowed = "a whole number from 0";
            return Err(BadCall::Wrong { field: name, found: shortened(value), allowed });
        };
        // Anthropic's 0 asks for no output at all; others mean by it what they like.
        self.limitless |= limit == 0 && self.call.protocol != Protocol::Anthropic;
        self.call.max_output = self.call.max_output.max(Some(limit));
        Ok(())
    }

    fn stream_options(&mut self, value: Value<'_>) -> Result<(), BadCall> {
        let is_object = value.kind() == Kind::Object;
        if !is_object && value.kind() != Kind::Null {
            let (found, allowed) = (shortened(value), "an object");
            return Err(BadCall::Wrong { field: "stream_options", found, allowed });
        }
        let mut options = Options {
            value: value.span(),
            is_object,
            has_members: value.members().next().is_some(),
            include_usage: None,
        };
        for (key, wanted) in value.members() {
            if !folded(&key.string().unwrap_or_default()).eq("include_usage") {
                continue;
            }
            if options.include_usage.is_some() {
                return Err(BadCall::Twice("stream_options.include_usage"));
            }
            if !key.is("include_usage") {
                let field = "stream_options.include_usage";
                return Err(BadCall::Alike { field, found: shortened(key) });
            }
            self.call.asks_usage = truth("stream_options.include_usage", wanted)?;
            options.include_usage = Some(wanted.span());
        }
        self.call.spans.stream_options = Some(options);
        Ok(())
    }

    fn finish(mut self, body: &[u8]) -> Result<Call, BadCall> {
        if self.call.model.is_empty() {
            return Err(BadCall::Missing("model"));
        }
        let own = own_limits(self.call.protocol);
        let has_own = self.call.spans.limits.iter().any(|(name, _)| own.contains(name));
        if self.limitless || !has_own {
            self.call.max_output = None;
        }
        if let Some(tools) = self.call.spans.tools.as_ref().map(|span| Value::at(body, span)) {
            let (protocol, start) = (self.call.protocol, self.call.spans.start);
            let found = hosted::searches(protocol, tools, &self.tool_calls, start)?;
            self.call.searches = self.call.searches.max(found.most);
            self.call.spans.searches = found.bounds;
        }
        self.call.hour_cache = self.call.protocol == Protocol::Anthropic
            && memchr::memmem::find(body, br#""1h""#).is_some();
        Ok(self.call)
    }
}

/// As servers compare names that do not mind the case: Unicode has two more letters that fold to ASCII ones.
fn folded(name: &str) -> String {
    let plain = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(plain).collect()
}

fn truth(field: &'static str, value: Value<'_>) -> Result<bool, BadCall> {
    if value.kind() == Kind::Null {
        return Ok(false);
    }
    let wrong = || BadCall::Wrong { field, found: shortened(value), allowed: "true or false" };
    value.truth().ok_or_else(wrong)
}

fn choices(field: &'static str, value: Value<'_>) -> Result<u64, BadCall> {
    if value.kind() == Kind::Null {
        return Ok(1);
    }
    let wrong = || BadCall::Wrong { field, found: shortened(value), allowed: "1 to 128" };
    value.whole().filter(|count| (1..=CHOICES_MAX).contains(count)).ok_or_else(wrong)
}

fn text(value: Value<'_>) -> Option<String> {
    value.string().map(std::borrow::Cow::into_owned)
}

/// The beginning of a value, for messages.
fn shortened(value: Value<'_>) -> String {
    let text = String::from_utf8_lossy(value.raw());
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
