//! The rules of an agent's definition.

use super::super::error::{FieldError, child_path};
use super::super::rules::{ENTRIES_MAX, Errors, SPAN_MIN, TIMEOUT_MAX};
use crate::model::{AgentDefinition, AgentManifest, BUILTIN_PRESETS, OUTPUTS, placeholder_faults};
use crate::quantity::Span;

/// Longest version, in bytes: it stands in every iteration's record.
const VERSION_BYTES_MAX: usize = 64;
/// Longest grace after the last event: the iteration waits for it.
const GRACE_MAX: Span = Span::from_secs(3600);

impl Errors {
    pub(super) fn defined_agent(&mut self, manifest: &AgentManifest) {
        let (name, spec) = (&manifest.metadata.name, &manifest.spec);
        self.name("metadata.name", name);
        if BUILTIN_PRESETS.contains(&name.as_str()) {
            let rule =
                "is the name of a shipped agent, which cannot be changed; give yours another name";
            self.add("metadata.name", rule, name);
        }
        if spec.version.is_empty() || spec.version.len() > VERSION_BYTES_MAX {
            let rule = format!("must be 1 to {VERSION_BYTES_MAX} bytes");
            self.add("spec.version", rule, format!("{:?}", spec.version));
        }
        if spec.command.first().is_none_or(|program| program.trim().is_empty()) {
            self.0.push(FieldError::new("spec.command", "must name a program"));
        }
        self.args("spec.command", &spec.command);
        self.args("spec.probe", &spec.probe);
        if let Some(model) = &spec.model {
            self.model_name("spec.model", model);
        }
        self.environment("spec.env", &spec.env);
        self.files(spec);
        if !OUTPUTS.contains(&spec.output.as_str()) {
            let rule = format!("must be {}", OUTPUTS.join(" or "));
            self.add("spec.output", rule, format!("{:?}", spec.output));
        }
        self.span("spec.grace", spec.grace, Span::from_secs(0), GRACE_MAX);
        if let Some(stall) = spec.stall {
            self.span("spec.stall", stall, SPAN_MIN, TIMEOUT_MAX);
        }
        self.span("spec.timeout", spec.timeout, SPAN_MIN, TIMEOUT_MAX);
        self.placeholders(spec);
    }

    fn files(&mut self, spec: &AgentDefinition) {
        self.count("spec.files", spec.files.len(), ENTRIES_MAX);
        for path in spec.files.keys() {
            let plain = !path.split('/').any(|part| matches!(part, "" | "." | ".."));
            if !plain || path.len() > 1024 || path.contains(char::is_control) {
                let rule = "must be a path in the agent's home, without empty, '.' or '..' parts";
                self.add(child_path("spec.files", path), rule, format!("{path:?}"));
            }
        }
    }

    fn placeholders(&mut self, spec: &AgentDefinition) {
        for (field, fault) in placeholder_faults(spec) {
            let path = match field.split_once('.') {
                Some((map, key)) => child_path(&format!("spec.{map}"), key),
                None => format!("spec.{field}"),
            };
            self.0.push(FieldError::new(path, fault));
        }
        let texts = spec.command.iter().chain(spec.env.values()).chain(spec.files.values());
        let names = |word: &str| texts.clone().any(|text| text.contains(word));
        // Who is told the protocol speaks several.
        if names("{gateway}") && spec.protocol.is_none() && !names("{protocol}") {
            let rule = "must say what the agent speaks to the gateway, which its definition names";
            self.0.push(FieldError::new("spec.protocol", rule));
        }
    }
}
