//! `flyball schema`: explains the fields of a manifest, or prints its JSON Schema.

use clap::Args;
use flyball_core::manifest;
use serde_json::Value;

use crate::output::{Format, Out};
use crate::{Exit, Failure, Outcome, view};

/// Arguments of `schema`.
#[derive(Debug, Clone, Args)]
pub struct Schema {
    /// Path of a field, e.g. loop.spec.checks, role.spec or provider.spec.auth; its first word is a kind: loop, role,
    /// rolebinding, provider, modelroute, agent or budget [default: loop].
    #[arg(value_name = "FIELD")]
    path: Option<String>,
}

impl Schema {
    pub(super) fn run(self, out: &mut Out) -> Outcome {
        let structured = out.format().is_structured();
        // A kind alone is its whole schema for programs, and its fields for people.
        if let Some(whole) =
            self.path.as_deref().filter(|_| structured).and_then(manifest::schema_of)
        {
            out.document(&whole)?;
            return Ok(Exit::Ok);
        }
        let Some(path) = self.path.as_deref().or_else(|| (!structured).then_some("loop")) else {
            out.document(&manifest::schema())?;
            return Ok(Exit::Ok);
        };
        let field = manifest::explain_field(path).map_err(|unknown| {
            let suggestion = unknown.suggestion.as_ref();
            let hint = suggestion.map(|name| format!("flyball schema {}.{name}", unknown.parent));
            let failure = Failure::new("not-found", unknown.to_string());
            match hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        match out.format() {
            Format::Json | Format::Yaml => {
                let document: Value = serde_json::to_value(&field)
                    .map_err(|error| Failure::new("internal", error.to_string()))?;
                out.document(&document)?;
            }
            Format::Name => out.line(&field.path)?,
            Format::Table | Format::Wide => {
                let text = view::fields::text(&field, out.has_color());
                out.raw(text.as_bytes())?;
            }
        }
        Ok(Exit::Ok)
    }
}
