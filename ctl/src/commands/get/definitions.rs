//! `get providers`, `get modelroutes`, `get agents` and `get budgets`.

use flyball_core::model::{BUILTIN_PRESETS, Definition, DefinitionKind};
use flyball_proto::v1::ListDefinitionsRequest;
use serde_json::Value;

use super::{Context, Get, Item, print_items, select};
use crate::output::Format;
use crate::view::definitions::{row, shipped, table};
use crate::{Exit, Failure, Outcome, objects};

pub(super) async fn run(
    get: &Get,
    kind: DefinitionKind,
    names: Vec<String>,
    context: &mut Context<'_>,
) -> Outcome {
    if get.watch {
        return Err(Failure::usage("-w watches loops, nodes, claims and iterations only"));
    }
    let wide = context.format() == Format::Wide;
    let mut clients = context.clients().await?;
    // A budget's name is its namespace, so that naming some means to look at all.
    let namespace = match kind.is_namespaced() && names.is_empty() {
        true => context.namespaces(get.all_namespaces),
        false => String::new(),
    };
    let request = match (kind.is_namespaced(), names.as_slice()) {
        (true, [only]) => {
            ListDefinitionsRequest { kind: kind.word().into(), namespace: only.clone() }
        }
        _ => ListDefinitionsRequest { kind: kind.word().to_owned(), namespace },
    };
    let found = clients.definitions.list(request).await?.into_inner().definitions;
    let mut items = Vec::new();
    for name in BUILTIN_PRESETS {
        if let Some(document) = shipped(kind, name) {
            items.push(item(kind, name.to_owned(), document, wide)?);
        }
    }
    for object in found {
        items.push(item(kind, object.name, objects::json(&object.object_json)?, wide)?);
    }
    let nothing = match kind {
        DefinitionKind::Budget => super::nothing(context, "budgets", get),
        _ => format!("no {}", kind.plural()),
    };
    let items = select(items, &names, kind.word())?;
    print_items(context, table(kind, wide), items, &names, &nothing)?;
    Ok(Exit::Ok)
}

fn item(kind: DefinitionKind, name: String, document: Value, wide: bool) -> Result<Item, Failure> {
    let definition: Definition = serde_json::from_value(document.clone())
        .map_err(|error| Failure::unreadable(kind.word(), error))?;
    let cells = row(&definition, &document, wide);
    Ok(Item { name: format!("{kind}/{name}"), document, cells, key: name })
}
