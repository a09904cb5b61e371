//! `flyball prices`: the table of what models cost, and the importer for the common public list.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use flyball_core::model::{ModelPrice, PriceTable, import_litellm};
use serde_json::Value;

use crate::args::Global;
use crate::output::{Format, Out, Table};
use crate::{Exit, Failure, Outcome};

/// Largest file that is read; the public list has some megabytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Arguments of `prices`.
#[derive(Debug, Clone, Args)]
pub struct Prices {
    #[command(subcommand)]
    action: Action,
}

/// What can be done with prices.
#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Make a price table of LiteLLM's model_prices_and_context_window.json.
    #[command(
        after_help = "Example:\n  flyball prices import model_prices_and_context_window.json --out prices.json"
    )]
    Import {
        /// The list.
        file: PathBuf,
        /// Where the table goes; standard output if absent.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Show what models cost, by the shipped table or another one.
    #[command(after_help = "Example:\n  flyball prices show claude-opus-4-5-20251101")]
    Show {
        /// Models, as requests name them.
        #[arg(value_name = "MODEL", required = true)]
        models: Vec<String>,
        /// A price table, JSON or YAML; its prices go before the shipped ones.
        #[arg(long, value_name = "FILE")]
        table: Option<PathBuf>,
    },
}

impl Prices {
    pub(super) fn run(self, global: &Global, out: &mut Out) -> Outcome {
        match self.action {
            Action::Import { file, out: to } => import(out, &file, to.as_deref()),
            Action::Show { models, table } => show(global.output, out, &models, table.as_deref()),
        }
    }
}

fn import(out: &mut Out, file: &Path, to: Option<&Path>) -> Outcome {
    let list = read(file)?;
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let source = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
    let imported = import_litellm(&list, &date, &source)
        .map_err(|error| Failure::new("invalid", format!("{}: {error}", file.display())))?;
    let (models, skipped) = (imported.table.models.len(), imported.skipped);
    let json = serde_json::to_string_pretty(&imported.table)
        .map_err(|error| Failure::new("internal", error.to_string()))?;
    match to {
        None => out.line(json)?,
        Some(path) => std::fs::write(path, format!("{json}\n")).map_err(|error| {
            Failure::new(
                "unwritable-file",
                format!("{} cannot be written: {error}", path.display()),
            )
        })?,
    }
    out.note(format!("{models} models; {skipped} others are not priced per token"));
    Ok(Exit::Ok)
}

fn show(format: Format, out: &mut Out, models: &[String], file: Option<&Path>) -> Outcome {
    let mut prices = PriceTable::built_in().clone();
    if let Some(file) = file {
        let table = PriceTable::from_json(read(file)?)
            .map_err(|error| Failure::new("invalid", format!("{}: {error}", file.display())))?;
        prices.extend(table);
    }
    let headers =
        ["MODEL", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "1H", "WEB SEARCH", "LONG"];
    let mut table = Table::new(headers);
    let mut unknown = Vec::new();
    for model in models {
        let priced = prices.price_of(model);
        if !priced.known {
            unknown.push(model.as_str());
        }
        match format {
            Format::Json | Format::Yaml => out.stream_document(&serde_json::json!({
                "model": model, "known": priced.known, "price": priced.price,
                "date": prices.date, "source": prices.source,
            }))?,
            Format::Name => out.line(format!("model/{model}"))?,
            Format::Table | Format::Wide => row(&mut table, model, &priced.price),
        }
    }
    out.table(&mut table)?;
    if !format.is_structured() {
        out.note(format!("per million tokens, as of {} ({})", prices.date, prices.source));
    }
    if !unknown.is_empty() {
        let models = unknown.join(", ");
        out.note(format!("not in the table, so they cost the default: {models}"));
    }
    Ok(Exit::Ok)
}

fn row(table: &mut Table, model: &str, price: &ModelPrice) {
    let optional = |price: Option<flyball_core::model::Money>| {
        price.map(|price| price.to_string()).unwrap_or_default()
    };
    let long =
        price.long.map(|long| format!("above {}: {} / {}", long.above, long.input, long.output));
    table.row([
        model.into(),
        price.input.to_string().into(),
        price.output.to_string().into(),
        optional(price.cache_read).into(),
        optional(price.cache_write).into(),
        optional(price.cache_write_1h).into(),
        optional(price.web_search).into(),
        long.unwrap_or_default().into(),
    ]);
}

/// A document in JSON or YAML.
fn read(file: &Path) -> Result<Value, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::new("unreadable-file", format!("{} cannot be read: {error}", file.display()))
    };
    let size = std::fs::metadata(file).map_err(|error| unreadable(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(&format!("{size} bytes are more than {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(&error))?;
    // JSON first: it is the common form, and errors of a large list are found faster.
    if let Ok(json) = serde_json::from_str(&text) {
        return Ok(json);
    }
    serde_saphyr::from_str(&text).map_err(|error| unreadable(&error))
}
