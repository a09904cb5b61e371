//! Filling an agent's definition with the values of a run: one pass, so that no value is looked into.

use super::{AgentDefinition, PromptBy};
use crate::model::Protocol;

/// What may stand in braces in the command, environment and files of a definition.
pub const PLACEHOLDERS: [&str; 13] = [
    "gateway",
    "key",
    "protocol",
    "model",
    "small",
    "prompt",
    "promptFile",
    "session",
    "home",
    "report",
    "flyball",
    "traceparent",
    "attribution",
];

/// The model alias of an agent's own work; routes match it like any model's name.
pub const MODEL_LARGE: &str = "large";
/// The model alias of titles, summaries and other small things.
pub const MODEL_SMALL: &str = "small";

/// Most bytes of a prompt that goes into an argument: Linux takes 128 KiB for one (`MAX_ARG_STRLEN`), and all of
/// a step's order has to fit into a frame of 192 KiB.
pub const PROMPT_ARGUMENT_BYTES_MAX: usize = 96 * 1024;

/// The values of one attempt of an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentValues {
    /// `http://127.0.0.1:PORT`; empty if the agent calls no model.
    pub gateway: String,
    /// The run's key for the gateway.
    pub key: String,
    /// What to speak to the gateway, for an agent that speaks several; absent if it calls no model.
    pub protocol: Option<Protocol>,
    /// The model to ask for.
    pub model: String,
    /// What to do, as text.
    pub prompt: String,
    /// The file with the same text.
    pub prompt_file: String,
    /// A UUID of this attempt.
    pub session: String,
    /// The attempt's own empty home.
    pub home: String,
    /// Where a report may be left.
    pub report: String,
    /// The path of the program `flyball`.
    pub flyball: String,
    /// The W3C trace context of the attempt.
    pub traceparent: String,
    /// Whether some model of the agent's calls is not served by the vendor whose client it is.
    pub routed_elsewhere: bool,
}

/// A definition with its values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment, without the variables whose value came out empty.
    pub env: Vec<(String, String)>,
    /// Files by their path below the home, with their text.
    pub files: Vec<(String, String)>,
    /// What stands on its standard input; without it there is nothing.
    pub stdin: Option<String>,
}

impl AgentValues {
    fn get(&self, name: &str, prompt: &str) -> Option<String> {
        let value = match name {
            "gateway" => &self.gateway,
            "key" => &self.key,
            "protocol" => self.protocol.map_or("", protocol_name),
            "model" => &self.model,
            "small" => MODEL_SMALL,
            "prompt" => prompt,
            "promptFile" => &self.prompt_file,
            "session" => &self.session,
            "home" => &self.home,
            "report" => &self.report,
            "flyball" => &self.flyball,
            "traceparent" => &self.traceparent,
            // The variable is dropped where the header may stay.
            "attribution" if self.routed_elsewhere => "0",
            "attribution" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Anthropic => "anthropic",
        Protocol::Chat => "chat",
        Protocol::Responses => "responses",
    }
}

/// Fills every placeholder of a definition. What is no placeholder stays as it is, also `${…}` of a shell.
pub fn fill(definition: &AgentDefinition, values: &AgentValues) -> Filled {
    let short = cut_middle(&values.prompt, PROMPT_ARGUMENT_BYTES_MAX, &values.prompt_file);
    let text = |text: &String| replace(text, |name| values.get(name, &short));
    let env = definition.env.iter().map(|(name, value)| (name.clone(), text(value)));
    let files = definition.files.iter().map(|(path, value)| (path.clone(), text(value)));
    Filled {
        argv: definition.command.iter().map(text).collect(),
        env: env.filter(|(_, value)| !value.is_empty()).collect(),
        files: files.collect(),
        stdin: (definition.prompt == PromptBy::Stdin).then(|| values.prompt.clone()),
    }
}

/// What is wrong with the placeholders of a definition: the field and a sentence. Empty if nothing is.
pub fn placeholder_faults(definition: &AgentDefinition) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut look = |field: String, text: &str, hidden: bool| {
        replace(text, |name| {
            if name == "key" && !hidden {
                let why = "{key} in an argument can be read by every process; use env or files";
                faults.push((field.clone(), why.to_owned()));
            } else if !PLACEHOLDERS.contains(&name) {
                let known = PLACEHOLDERS.map(|known| format!("{{{known}}}")).join(", ");
                faults.push((field.clone(), format!("{{{name}}} is not one of {known}")));
            }
            None
        });
    };
    for (index, argument) in definition.command.iter().enumerate() {
        look(format!("command[{index}]"), argument, false);
    }
    for (name, value) in &definition.env {
        look(format!("env.{name}"), value, true);
    }
    for (path, value) in &definition.files {
        look(format!("files.{path}"), value, true);
    }
    faults
}

/// Replaces `{word}` by what `with` says; where it says nothing, and behind `$`, the text stays.
fn replace(text: &str, mut with: impl FnMut(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let word = from[1..].find('}').map(|close| &from[1..=close]);
        let word = word.filter(|word| {
            let letters = word.bytes().all(|byte| byte.is_ascii_alphabetic());
            !word.is_empty() && letters && !out.ends_with('$')
        });
        match word.and_then(|word| with(word).map(|value| (word, value))) {
            Some((word, value)) => {
                out.push_str(&value);
                rest = &from[word.len() + 2..];
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Beginning and end of a text that is too long, with a word about where all of it is.
fn cut_middle(text: &str, bytes_max: usize, file: &str) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let note = format!("\n[flyball: cut; all of it is in {file}]\n");
    let keep = bytes_max.saturating_sub(note.len()) / 2;
    let head = text.floor_char_boundary(keep);
    let tail = text.ceil_char_boundary(text.len() - keep);
    format!("{}{note}{}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::super::preset;
    use super::*;

    fn values() -> AgentValues {
        AgentValues {
            gateway: "http://127.0.0.1:8117".to_owned(),
            key: "fk-1".to_owned(),
            model: "large".to_owned(),
            prompt: "fix {key} and {prompt}".to_owned(),
            session: "s-1".to_owned(),
            home: "/h".to_owned(),
            flyball: "/bin/flyball".to_owned(),
            ..AgentValues::default()
        }
    }

    fn plain(command: &[&str]) -> AgentDefinition {
        AgentDefinition::plain(command.iter().map(|part| (*part).to_owned()).collect())
    }

    #[test]
    fn values_are_put_in_once_and_not_looked_into() {
        let filled = fill(&plain(&["a", "-t", "{prompt}", "{home}/x{model}{session}"]), &values());
        assert_eq!(filled.argv, ["a", "-t", "fix {key} and {prompt}", "/h/xlarges-1"]);
        assert_eq!(filled.stdin, None);
    }

    #[test]
    fn what_is_no_placeholder_stays() {
        for text in ["{", "{}", "}{", "{gate way}", "${home}", "gw={a=1}", "{nosuch}", "ä{ö}{"] {
            assert_eq!(fill(&plain(&[text]), &values()).argv, [text]);
        }
        assert_eq!(fill(&plain(&["{x={home}}"]), &values()).argv, ["{x=/h}"]);
    }

    #[test]
    fn an_empty_variable_is_not_set() {
        let mut agent = plain(&["a"]);
        agent.env.insert("ATTRIBUTION".to_owned(), "{attribution}".to_owned());
        assert_eq!(fill(&agent, &values()).env, []);
        let elsewhere = AgentValues { routed_elsewhere: true, ..values() };
        assert_eq!(fill(&agent, &elsewhere).env, [("ATTRIBUTION".to_owned(), "0".to_owned())]);
    }

    #[test]
    fn a_prompt_that_no_argument_can_hold_is_cut_in_the_middle() {
        let prompt = format!("begin{}end", "ä".repeat(PROMPT_ARGUMENT_BYTES_MAX));
        let long = AgentValues { prompt: prompt.clone(), prompt_file: "/b.md".into(), ..values() };
        let filled = fill(&plain(&["{prompt}"]), &long);
        let text = &filled.argv[0];
        assert!(text.len() <= PROMPT_ARGUMENT_BYTES_MAX && text.contains("/b.md"));
        assert!(text.starts_with("begin") && text.ends_with("end"));
        let short = |bytes| {
            let values = AgentValues { prompt: "x".repeat(bytes), ..values() };
            fill(&plain(&["{prompt}"]), &values).argv[0] == values.prompt
        };
        assert!(short(96 << 10) && !short((96 << 10) + 1));
        let stdin = AgentDefinition { prompt: PromptBy::Stdin, ..plain(&["a"]) };
        assert_eq!(fill(&stdin, &long).stdin, Some(prompt));
    }

    #[test]
    fn faults_name_the_field() {
        let mut agent = plain(&["a", "{key}", "{nosuch}"]);
        agent.env.insert("K".to_owned(), "{key}{Gateway}".to_owned());
        let faults = placeholder_faults(&agent);
        let fields: Vec<&str> = faults.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["command[1]", "command[2]", "env.K"]);
        assert!(faults[2].1.contains("{Gateway} is not one of {gateway}"), "{faults:?}");
    }

    #[test]
    fn presets_have_no_fault_and_keep_the_key_out_of_their_arguments() {
        for name in super::super::BUILTIN_PRESETS {
            let agent = preset(name).unwrap();
            assert_eq!(placeholder_faults(&agent), [], "{name}");
            let filled = fill(&agent, &values());
            assert!(filled.argv.iter().all(|argument| !argument.contains("fk-1")), "{name}");
            assert!(filled.env.iter().any(|(_, value)| value == "fk-1"), "{name}");
        }
    }
}
