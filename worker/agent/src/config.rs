//! The agent's settings, which are variables of its environment.

use std::path::PathBuf;
use std::time::Duration;

use flyball_core::model::Protocol;

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
    /// Most answers of the model.
    pub(crate) turns_max: u32,
    /// After this long it asks the model nothing more.
    pub(crate) time_max: Duration,
    /// Most tokens of one answer.
    pub(crate) output_tokens_max: u64,
    /// Most bytes of a request; results of tools that were long ago are left out beyond it.
    pub(crate) context_bytes_max: usize,
}

/// Answers of the model: enough for reading a few files, a change and some repairs.
const TURNS_DEFAULT: u32 = 60;
/// Below the 30 minutes that an agent has by default.
const TIME_DEFAULT: Duration = Duration::from_secs(25 * 60);
/// A file of some hundred lines in one answer.
const OUTPUT_TOKENS_DEFAULT: u64 = 8192;
/// About 100 000 tokens, which every large model takes.
const CONTEXT_BYTES_DEFAULT: usize = 400_000;

impl Config {
    /// Reads it; `Err` says what is missing or wrong.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let needed = |name: &str| given(name).ok_or_else(|| format!("{name} is not set"));
        let number = |name: &str, otherwise: u64| match given(name) {
            None => Ok(otherwise),
            Some(text) => match text.parse() {
                Ok(0) | Err(_) => Err(format!("{name}={text}: must be a whole number above 0")),
                Ok(number) => Ok(number),
            },
        };
        let protocol = match needed("FLYBALL_MODEL_PROTOCOL")?.as_str() {
            "anthropic" => Protocol::Anthropic,
            "chat" => Protocol::Chat,
            "responses" => Protocol::Responses,
            other => {
                let known = "anthropic, chat or responses";
                return Err(format!("FLYBALL_MODEL_PROTOCOL={other}: must be {known}"));
            }
        };
        let turns = number("FLYBALL_AGENT_TURNS", TURNS_DEFAULT.into())?;
        let context = number("FLYBALL_AGENT_CONTEXT_BYTES", CONTEXT_BYTES_DEFAULT as u64)?;
        Ok(Self {
            url: needed("FLYBALL_MODEL_URL")?,
            key: needed("FLYBALL_MODEL_KEY")?,
            model: needed("FLYBALL_MODEL")?,
            protocol,
            brief: needed("FLYBALL_BRIEF_TEXT")?.into(),
            report: given("FLYBALL_REPORT").map(PathBuf::from),
            turns_max: u32::try_from(turns).unwrap_or(u32::MAX),
            time_max: Duration::from_secs(number("FLYBALL_AGENT_SECONDS", TIME_DEFAULT.as_secs())?),
            output_tokens_max: number("FLYBALL_AGENT_OUTPUT_TOKENS", OUTPUT_TOKENS_DEFAULT)?,
            context_bytes_max: usize::try_from(context).unwrap_or(usize::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let pairs: Vec<(&str, &str)> =
            text.split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        Config::of(|name| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const NEEDED: &str = "FLYBALL_MODEL_URL=http://127.0.0.1:1 FLYBALL_MODEL_KEY=k FLYBALL_MODEL=m \
                          FLYBALL_MODEL_PROTOCOL=chat FLYBALL_BRIEF_TEXT=/b";

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let config = read(NEEDED).unwrap();
        assert_eq!((config.protocol, config.turns_max), (Protocol::Chat, 60));
        assert_eq!(read("").unwrap_err(), "FLYBALL_MODEL_PROTOCOL is not set");
        let more = |more: &str| read(&format!("{more} {NEEDED}")).unwrap_err();
        assert!(more("FLYBALL_AGENT_TURNS=0").contains("above 0"));
        assert!(more("FLYBALL_MODEL_PROTOCOL=x").contains("anthropic, chat or responses"));
    }
}
