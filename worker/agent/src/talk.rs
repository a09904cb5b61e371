//! One question to the model and its answer, with the few repeats that are an agent's own business: the gateway
//! repeats calls that failed before a word of the answer; what broke off behind it, only the client can.

use std::io;
use std::time::Duration;

use crate::config::Config;
use crate::events::Events;
use crate::http::{self, Answer};
use crate::speak::{self, Question, Turn};
use crate::sse;

/// Pauses before a repeat.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Most bytes read of an error's body.
const ERROR_BYTES_MAX: u64 = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TalkError {
    /// It was refused; asking again changes nothing.
    #[error("the model's gateway answered {status}: {message}")]
    Refused {
        /// The status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It broke off.
    #[error("{0}")]
    Broke(#[from] io::Error),
}

impl TalkError {
    fn is_retryable(&self) -> bool {
        match self {
            // What the gateway has given up on; too many requests it has waited for already.
            Self::Refused { status, .. } => *status >= 500,
            Self::Broke(error) => error.kind() != io::ErrorKind::InvalidInput,
        }
    }
}

/// Asks, and repeats what broke off.
pub(crate) fn ask(
    config: &Config,
    question: &Question<'_>,
    events: &mut Events<'_>,
) -> Result<Turn, TalkError> {
    for pause in PAUSES {
        match once(config, question) {
            Err(error) if error.is_retryable() => {
                events.retry(&error.to_string());
                std::thread::sleep(pause);
            }
            other => return other,
        }
    }
    once(config, question)
}

fn once(config: &Config, question: &Question<'_>) -> Result<Turn, TalkError> {
    let protocol = config.protocol;
    let headers = speak::headers(protocol, &config.key);
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = speak::body(protocol, question).to_string();
    let answer = http::post(&config.url, speak::path(protocol), &headers, body.as_bytes())?;
    if answer.status != 200 {
        return Err(refused(answer));
    }
    let mut fold = speak::fold(protocol);
    sse::each(answer, |event| fold.feed(event))?;
    let broke = || io::Error::new(io::ErrorKind::UnexpectedEof, "the model's answer broke off");
    fold.finish().ok_or_else(|| broke().into())
}

fn refused(answer: Answer) -> TalkError {
    let status = answer.status;
    let text = answer.text(ERROR_BYTES_MAX).unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let message = value.pointer("/error/message").and_then(serde_json::Value::as_str);
    let message = message.map_or_else(|| text.trim().to_owned(), str::to_owned);
    TalkError::Refused { status, message }
}
