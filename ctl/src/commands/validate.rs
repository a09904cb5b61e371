//! `flyball validate`: checks manifests without a scheduler.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::args::Global;
use crate::documents;
use crate::output::{Format, Out};
use crate::{Exit, Failure, Outcome};

/// Arguments of `validate`.
#[derive(Debug, Clone, Args)]
pub struct Validate {
    /// Manifest file, with one or several documents; - is standard input. May be repeated.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

impl Validate {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> Outcome {
        let documents = documents::read(&self.files, global.namespace.as_deref())?;
        for document in documents.access {
            let what = format!("{}/{}", document.kind.word(), document.name);
            match out.format() {
                Format::Json | Format::Yaml => out.document(&document.json)?,
                Format::Name => out.line(what)?,
                Format::Table | Format::Wide => {
                    out.line(format!("{}: {what} is valid", document.source))?;
                }
            }
        }
        for document in documents.definitions {
            document.warnings().iter().for_each(|warning| out.note(warning));
            let what = document.definition.key().to_string();
            match out.format() {
                Format::Json | Format::Yaml => {
                    let filled: Value = serde_json::to_value(&document.definition)
                        .map_err(|error| Failure::new("internal", error.to_string()))?;
                    out.document(&filled)?;
                }
                Format::Name => out.line(what)?,
                Format::Table | Format::Wide => {
                    out.line(format!("{}: {what} is valid", document.source))?;
                }
            }
        }
        for document in documents.loops {
            document.warnings().iter().for_each(|warning| out.note(warning));
            let name = &document.manifest.metadata.name;
            match out.format() {
                // The manifest with every default filled in.
                Format::Json | Format::Yaml => {
                    let filled: Value = serde_json::to_value(&document.manifest)
                        .map_err(|error| Failure::new("internal", error.to_string()))?;
                    out.document(&filled)?;
                }
                Format::Name => out.line(format!("loop/{name}"))?,
                Format::Table | Format::Wide => {
                    out.line(format!("{}: loop/{name} is valid", document.source))?;
                }
            }
        }
        Ok(Exit::Ok)
    }
}
