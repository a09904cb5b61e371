//! `flyball get`: shows loops, nodes, claims, iterations, roles, role bindings, and what model calls need.

mod access;
mod claims;
mod definitions;
mod iterations;
mod loops;
mod nodes;

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::target::{Noun, Target};
use crate::output::Format;
use crate::{Failure, Outcome};

/// Rhythm of looking again at what the API has no watch for.
const POLL: Duration = Duration::from_secs(1);

/// Arguments of `get`.
#[derive(Debug, Clone, Args)]
pub struct Get {
    /// What: loops, nodes, claims, iterations, roles, rolebindings, providers, modelroutes, agents or
    /// budgets, with names: `loops x y` or `loop/x`. Iterations need the name of a loop; a budget's name
    /// is its namespace.
    #[arg(value_name = "KIND [NAME]", required = true)]
    what: Vec<String>,
    /// Go on and show every change.
    #[arg(short, long)]
    watch: bool,
    /// Only loops that carry this label. May be repeated.
    #[arg(short = 'l', long = "selector", value_name = "KEY=VALUE")]
    selectors: Vec<String>,
    /// In all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl Get {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let target = Target::parse(&self.what)?;
        if !self.selectors.is_empty() && target.noun != Noun::Loops {
            return Err(Failure::usage("-l selects loops only"));
        }
        match target.noun {
            Noun::Loops => loops::run(&self, target.names, context).await,
            Noun::Nodes => nodes::run(&self, target.names, context).await,
            Noun::Claims => claims::run(&self, target.names, context).await,
            Noun::Iterations => iterations::run(&self, target.names, context).await,
            Noun::Roles => access::roles(&self, target.names, context).await,
            Noun::RoleBindings => access::bindings(&self, target.names, context).await,
            Noun::Definitions(kind) => definitions::run(&self, kind, target.names, context).await,
        }
    }
}

/// Prints documents: the one that was named by itself, else a list.
fn print_documents(
    context: &mut Context<'_>,
    mut documents: Vec<Value>,
    named_one: bool,
) -> Result<(), Failure> {
    match (named_one, documents.pop()) {
        (true, Some(only)) if documents.is_empty() => context.out.document(&only),
        (_, last) => {
            documents.extend(last);
            let api_version = flyball_core::spec::API_VERSION;
            context
                .out
                .document(&json!({ "apiVersion": api_version, "kind": "List", "items": documents }))
        }
    }
}

/// Something that can be shown in every format.
struct Item {
    /// What it is called with `-o name`, e.g. `node/a`.
    name: String,
    document: Value,
    cells: Vec<crate::output::Cell>,
    /// What the user named it, to find what is missing.
    key: String,
}

/// Says that there are no loops or claims, and where none were found.
fn nothing(context: &Context<'_>, kind: &str, get: &Get) -> String {
    let labels = match get.selectors.is_empty() {
        true => String::new(),
        false => format!(" with {}", get.selectors.join(",")),
    };
    match get.all_namespaces {
        true => format!("no {kind}{labels} in any namespace"),
        false => {
            let namespace = context.namespace();
            format!("no {kind}{labels} in namespace {namespace}; -A looks into all of them")
        }
    }
}

/// Shows items once, in the format that was asked for; `nothing` says that there are none.
fn print_items(
    context: &mut Context<'_>,
    mut table: crate::output::Table,
    items: Vec<Item>,
    names: &[String],
    nothing: &str,
) -> Result<(), Failure> {
    match context.format() {
        Format::Json | Format::Yaml => {
            let documents = items.into_iter().map(|item| item.document).collect();
            print_documents(context, documents, names.len() == 1)
        }
        Format::Name => items.iter().try_for_each(|item| context.out.line(&item.name)),
        Format::Table | Format::Wide if items.is_empty() => {
            context.out.note(nothing);
            Ok(())
        }
        Format::Table | Format::Wide => {
            items.into_iter().for_each(|item| table.row(item.cells));
            context.out.table(&mut table)
        }
    }
}

/// Shows one item of a watch.
fn print_change(
    context: &mut Context<'_>,
    table: &mut crate::output::Table,
    item: Item,
) -> Result<(), Failure> {
    match context.format() {
        Format::Json | Format::Yaml => context.out.stream_document(&item.document),
        Format::Name => context.out.line(&item.name),
        Format::Table | Format::Wide => {
            table.row(item.cells);
            context.out.table(table)
        }
    }
}

/// Keeps the items that were named; one that is missing is an error.
fn select(items: Vec<Item>, names: &[String], kind: &str) -> Result<Vec<Item>, Failure> {
    if names.is_empty() {
        return Ok(items);
    }
    let missing = names.iter().find(|name| !items.iter().any(|item| item.key == **name));
    if let Some(name) = missing {
        return Err(Failure::new("not-found", format!("there is no {kind} {name}")));
    }
    Ok(items.into_iter().filter(|item| names.contains(&item.key)).collect())
}
