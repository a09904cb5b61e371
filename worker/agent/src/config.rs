//! The agent's settings, which are variables of its environment.

use std::path::PathBuf;

use flyball_core::model::Protocol;

/// The bounds of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most answers of the model.
    pub turns: u32,
    /// After so many seconds the model is asked nothing more.
    pub seconds: u64,
    /// Most tokens of one answer.
    pub output_tokens: u64,
    /// Most bytes of a request; results of tools that were long ago are left out beyond it.
    pub context_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            // Enough for reading a few files, a change and some repairs.
            turns: 60,
            // Below the 30 minutes that an agent has by default.
            seconds: 25 * 60,
            // A file of some hundred lines in one answer.
            output_tokens: 8192,
            // About 100 000 tokens, which every large model takes.
            context_bytes: 400_000,
        }
    }
}

/// What it is told.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// `http://HOST:PORT` of the gateway.
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) model: String,
    pub(crate) protocol: Protocol,
    /// File with what to do.
    pub(crate) brief: PathBuf,
    /// Where the report goes.
    pub(crate) report: Option<PathBuf>,
    pub(crate) bounds: Bounds,
}

impl Config {
    /// Reads it; `Err` says what is missing or wrong.
    pub(crate) fn of(
        bounds: Bounds,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &str| given(name).ok_or_else(|| format!("{name} is not set"));
        let protocol = match needed("FLYBALL_MODEL_PROTOCOL")?.as_str() {
            "anthropic" => Protocol::Anthropic,
            "chat" => Protocol::Chat,
            "responses" => Protocol::Responses,
            other => {
                let known = "anthropic, chat or responses";
                return Err(format!("FLYBALL_MODEL_PROTOCOL={other}: must be {known}"));
            }
        };
        Ok(Self {
            url: needed("FLYBALL_MODEL_URL")?,
            key: needed("FLYBALL_MODEL_KEY")?,
            model: needed("FLYBALL_MODEL")?,
            protocol,
            brief: needed("FLYBALL_BRIEF_TEXT")?.into(),
            report: given("FLYBALL_REPORT").map(PathBuf::from),
            bounds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let pairs: Vec<(&str, &str)> =
            text.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        Config::of(Bounds::default(), |name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const NEEDED: &str = "FLYBALL_MODEL_URL=http://127.0.0.1:1 FLYBALL_MODEL_KEY=k FLYBALL_MODEL=m \
                          FLYBALL_MODEL_PROTOCOL=chat FLYBALL_BRIEF_TEXT=/b";

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let config = read(NEEDED).unwrap();
        assert_eq!((config.protocol, config.bounds.turns), (Protocol::Chat, 60));
        assert_eq!(read("").unwrap_err(), "FLYBALL_MODEL_PROTOCOL is not set");
        let more = |more: &str| read(&format!("{more} {NEEDED}")).unwrap_err();
        assert!(more("FLYBALL_MODEL_PROTOCOL=x").contains("anthropic, chat or responses"));
    }
}
