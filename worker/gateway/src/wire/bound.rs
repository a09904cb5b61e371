//! How many input tokens a request can cost at most: one for each byte of text, and for media what the vendors'
//! published formulas give at most. The bound is what is reserved before the call; what it used is settled after.

use flyball_core::model::Protocol;

use super::call::Call;
use super::json::{Kind, Value};

/// What every request costs beside its text: roles, the beginning, a template's own words.
const BASE: u64 = 512;
/// The provider's instructions for the use of tools (Anthropic: up to 804 tokens; templates of open models less).
const TOOLS: u64 = 1024;
/// A tool that the provider describes itself: bash, an editor, a computer (Anthropic: up to 735 tokens).
const KNOWN_TOOL: u64 = 1024;
/// A tool that the provider runs: what one call of it may find. Such a tool may be called again and again within one
/// request, which nothing in the request bounds; then more is settled than was reserved.
const SERVER_TOOL: u64 = 30_000;
/// An image at Anthropic: 4,784 tokens in the highest resolution.
const IMAGE_ANTHROPIC: u64 = 5_000;
/// An image at OpenAI (10,000 patches, times at most 2.46) and at open models (Qwen-VL: 16,384).
const IMAGE_OPENAI: u64 = 25_000;
/// An image of the smallest gpt-4o: 2,833 and 5,667 for each of at most 8 tiles.
const IMAGE_4O_MINI: u64 = 50_000;
/// What no text bounds (documents with pages, files and conversations that the provider keeps) is bounded by the
/// largest context window that vendors of the three protocols sell, about 1.05 million tokens.
const WINDOW: u64 = 1_100_000;

/// Most input tokens that the provider can count for a request. `body` must be the one that `call` was read from.
pub fn input_bound(body: &[u8], call: &Call) -> u64 {
    let mut media = Media::new(call);
    for span in &call.spans.talk {
        let talk = Value::at(body, span);
        for message in talk.items() {
            media.message(message);
        }
    }
    let text = (body.len() as u64).saturating_sub(media.bytes);
    let held = if media.held { WINDOW } else { 0 };
    let tools = call.spans.tools.as_ref().map_or(0, |span| tools(Value::at(body, span)));
    let parts = [BASE, text, media.tokens, held, tools];
    parts.into_iter().fold(0, u64::saturating_add)
}

/// Media of a request.
struct Media {
    /// What an image costs at most.
    image: u64,
    /// Bytes that are no text.
    bytes: u64,
    /// Tokens in their place.
    tokens: u64,
    /// Whether something is not bounded by the body.
    held: bool,
}

impl Media {
    fn new(call: &Call) -> Self {
        let image = match call.protocol {
            Protocol::Anthropic => IMAGE_ANTHROPIC,
            _ if call.model.contains("4o-mini") => IMAGE_4O_MINI,
            _ => IMAGE_OPENAI,
        };
        Self { image, bytes: 0, tokens: 0, held: call.held_input }
    }

    /// A message, or an item of Responses' input.
    fn message(&mut self, message: Value<'_>) {
        let [kind, content, output, result] =
            message.fields(["type", "content", "output", "result"]);
        for content in [content, output].into_iter().flatten() {
            self.content(content, 0);
        }
        let Some(kind) = kind else { return };
        if kind.is("item_reference") {
            self.held = true;
        } else if kind.is("image_generation_call") {
            self.image(result);
        } else {
            // An item may be a part itself.
            self.part(message, 0);
        }
    }

    fn content(&mut self, content: Value<'_>, depth: u32) {
        match content.kind() {
            Kind::Array => content.items().for_each(|part| self.part(part, depth)),
            Kind::Object => self.part(content, depth),
            _ => {}
        }
    }

    /// A part of a message. Bytes are only taken off where a server takes them for media too: the same words in a
    /// tool's arguments are text.
    fn part(&mut self, part: Value<'_>, depth: u32) {
        let kind = part.get("type").and_then(Value::string).unwrap_or_default();
        match &*kind {
            "image" => self.image(part.get("source").and_then(|source| source.get("data"))),
            "image_url" => {
                let url = part.get("image_url");
                self.image(url.and_then(|url| url.get("url")).or(url));
            }
            "input_image" | "computer_screenshot" => self.image(part.get("image_url")),
            "document" => self.document(part, depth),
            "file" | "input_file" => {
                let inner = part.get("file").unwrap_or(part);
                self.take_off(inner.get("file_data"));
                self.held = true;
            }
            "video_url" | "audio_url" | "input_video" | "video" => self.held = true,
            // One level: results of tools hold parts, and those hold no further results.
            "tool_result" if depth == 0 => {
                if let Some(content) = part.get("content") {
                    self.content(content, 1);
                }
            }
            _ => {}
        }
    }

    fn document(&mut self, part: Value<'_>, depth: u32) {
        let Some(source) = part.get("source") else { return };
        let kind = source.get("type").and_then(Value::string).unwrap_or_default();
        match &*kind {
            "text" => {}
            "content" if depth < 2 => {
                if let Some(content) = source.get("content") {
                    self.content(content, depth + 1);
                }
            }
            _ => {
                self.take_off(source.get("data"));
                self.held = true;
            }
        }
    }

    fn image(&mut self, data: Option<Value<'_>>) {
        self.take_off(data);
        self.tokens = self.tokens.saturating_add(self.image);
    }

    fn take_off(&mut self, data: Option<Value<'_>>) {
        let length = data.and_then(Value::inner).map_or(0, <[u8]>::len);
        self.bytes = self.bytes.saturating_add(length as u64);
    }
}

/// What tools cost beside their text.
fn tools(tools: Value<'_>) -> u64 {
    let cost = |tool: Value<'_>| {
        let kind = tool.get("type").and_then(Value::string).unwrap_or_default();
        const SERVERS: [&str; 9] = [
            "web_search",
            "web_fetch",
            "code_execution",
            "code_interpreter",
            "file_search",
            "image_generation",
            "mcp",
            "tool_search",
            "advisor",
        ];
        match &*kind {
            "" | "function" | "custom" => 0,
            kind if SERVERS.iter().any(|server| kind.starts_with(server)) => SERVER_TOOL,
            _ => KNOWN_TOOL,
        }
    };
    let mut any = false;
    let sum = tools.items().inspect(|_| any = true).map(cost).fold(0, u64::saturating_add);
    if any { sum.saturating_add(TOOLS) } else { 0 }
}
