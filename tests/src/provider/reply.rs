//! What the scripted provider answers: blocks of content, a pace, faults.

use std::time::Duration;

use flyball_core::model::Usage;
use serde_json::Value;

use super::Asked;

/// One piece of an answer.
#[derive(Debug, Clone)]
pub enum Block {
    /// Text.
    Text(String),
    /// Reasoning; Chat Completions does not show it.
    Thinking(String),
    /// A tool to be called.
    Tool {
        /// Its name.
        name: String,
        /// Its arguments, an object.
        arguments: Value,
    },
    /// A tool with free text (Responses' custom tools); elsewhere a tool with the argument `input`.
    Custom {
        /// Its name.
        name: String,
        /// Its input.
        input: String,
    },
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// An error instead of an answer.
    Status {
        /// HTTP status.
        code: u16,
        /// Seconds for the header `retry-after`.
        retry_after: Option<u64>,
        /// The body; the protocol's usual one if absent.
        body: Option<String>,
    },
    /// The connection ends before a byte of the answer.
    HangUp,
    /// It ends after this many events of the stream, in the middle of the next.
    Cut(usize),
    /// Nothing more is said for this long after this many events, before the rest.
    Silence(usize, Duration),
    /// This many events are followed by one that is no JSON, and then by the rest.
    Malformed(usize),
    /// An error event comes after this many events, with status 200, and ends the stream.
    ErrorEvent(usize),
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Its content, in order.
    pub blocks: Vec<Block>,
    /// What it uses; counted from the bytes if absent.
    pub usage: Option<Usage>,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// Pause before each event of a stream, and before a plain answer.
    pub pace: Duration,
    /// Pings after the first event of an Anthropic stream.
    pub pings: usize,
    /// Characters of text in one delta.
    pub delta: usize,
    /// The stream is written in pieces of this many bytes, whatever the events; 0: one event at a time.
    pub split: usize,
    /// Further headers.
    pub headers: Vec<(String, String)>,
}

impl Reply {
    /// Answers with these blocks.
    pub fn new(blocks: Vec<Block>) -> Self {
        Self {
            blocks,
            usage: None,
            fault: None,
            pace: Duration::ZERO,
            pings: 1,
            delta: 12,
            split: 0,
            headers: Vec::new(),
        }
    }

    /// Answers with a text.
    pub fn text(text: &str) -> Self {
        Self::new(vec![Block::Text(text.to_owned())])
    }

    /// Asks for a tool.
    pub fn tool(name: &str, arguments: Value) -> Self {
        Self::new(vec![Block::Tool { name: name.to_owned(), arguments }])
    }

    /// Refuses with a status.
    pub fn status(code: u16, retry_after: Option<u64>) -> Self {
        Self::fault(Fault::Status { code, retry_after, body: None })
    }

    /// Answers with a text in which something goes wrong.
    pub fn fault(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::text("this answer does not arrive as it should") }
    }

    /// The same with this usage.
    #[must_use]
    pub fn using(self, usage: Usage) -> Self {
        Self { usage: Some(usage), ..self }
    }

    /// The same with a pause before each event.
    #[must_use]
    pub fn paced(self, pace: Duration) -> Self {
        Self { pace, ..self }
    }

    /// What the whole answer uses. Input: a token for each four bytes of the request, of which half come from the
    /// cache once the conversation has begun. Output: one for each four bytes of content and two for each block.
    pub fn usage_for(&self, asked: &Asked) -> Usage {
        self.usage.unwrap_or_else(|| {
            let input_total = (asked.raw.len() as u64).div_ceil(4);
            let cache_read = if asked.turn() > 0 { input_total / 2 } else { 0 };
            let (mut output_total, mut reasoning) = (0, 0);
            for block in &self.blocks {
                output_total += tokens(block);
                if matches!(block, Block::Thinking(_)) {
                    reasoning += tokens(block);
                }
            }
            Usage { input_total, cache_read, output_total, reasoning, ..Usage::default() }
        })
    }
}

fn tokens(block: &Block) -> u64 {
    let bytes = match block {
        Block::Text(text) | Block::Thinking(text) | Block::Custom { input: text, .. } => text.len(),
        Block::Tool { arguments, .. } => arguments.to_string().len(),
    };
    (bytes as u64).div_ceil(4) + 2
}

/// A text in pieces of at most `size` characters, none of which is empty.
pub(super) fn pieces(text: &str, size: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(size.max(1)).map(|piece| piece.iter().collect()).collect()
}
