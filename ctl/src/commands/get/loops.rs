//! `get loops`.

use std::collections::{BTreeMap, HashMap};

use flyball_proto::v1::{GetLoopRequest, ListLoopsRequest, LoopObject, WatchLoopsRequest};
use jiff::Timestamp;

use super::{Context, Get, Item, nothing, print_change, print_items};
use crate::commands::target;
use crate::follow::{LoopWatch, Seen};
use crate::objects::{self, LoopDocument};
use crate::output::Format;
use crate::view::loops::{Columns, row, table, watched_table};
use crate::{Exit, Failure, Outcome};

pub(super) async fn run(get: &Get, names: Vec<String>, context: &mut Context<'_>) -> Outcome {
    let labels = target::labels(&get.selectors)?;
    if !names.is_empty() && get.all_namespaces {
        return Err(Failure::usage("a loop is named in one namespace: leave out -A or the name"));
    }
    let wide = context.format() == Format::Wide;
    let columns = Columns { wide, namespace: get.all_namespaces };
    let namespace = context.namespaces(get.all_namespaces);
    if !names.is_empty() && !labels.is_empty() {
        return Err(Failure::usage("a loop is named or selected by labels, not both"));
    }
    match get.watch {
        true => watch(context, namespace, names, labels, columns).await,
        false => list(get, context, namespace, names, labels, columns).await,
    }
}

async fn list(
    get: &Get,
    context: &mut Context<'_>,
    namespace: String,
    names: Vec<String>,
    labels: HashMap<String, String>,
    columns: Columns,
) -> Outcome {
    let mut clients = context.clients().await?;
    let mut objects = Vec::new();
    for name in &names {
        // By name they come from the store itself: what was just applied is there.
        let request = GetLoopRequest { namespace: namespace.clone(), name: name.clone() };
        objects.push(clients.loops.get(request).await?.into_inner());
    }
    if names.is_empty() {
        let request = ListLoopsRequest { namespace, labels };
        objects = clients.loops.list(request).await?.into_inner().loops;
    }
    let items = objects.iter().map(|object| item(context, object, columns));
    let items = items.collect::<Result<_, _>>()?;
    let nothing = nothing(context, "loops", get);
    print_items(context, table(columns), items, &names, &nothing)?;
    Ok(Exit::Ok)
}

async fn watch(
    context: &mut Context<'_>,
    namespace: String,
    names: Vec<String>,
    labels: HashMap<String, String>,
    columns: Columns,
) -> Outcome {
    let clients = context.clients().await?;
    let name = match names.as_slice() {
        [only] => only.clone(),
        _ => String::new(),
    };
    let mut watch = LoopWatch::new(&clients, WatchLoopsRequest { namespace, name, labels });
    let mut table = watched_table(columns);
    // The last row of each loop, as it would look at one and the same moment: what changed only in
    // fields that the table has no column for is no news in a table.
    let mut shown = BTreeMap::new();
    loop {
        match watch.next().await? {
            Seen::Object(object) if names.is_empty() || names.contains(&object.name) => {
                let item = item(context, &object, columns)?;
                let mut news = true;
                if !item.cells.is_empty() {
                    let cells = row(&LoopDocument::read(&object)?, columns, Timestamp::UNIX_EPOCH);
                    let key = (object.namespace.clone(), object.name.clone());
                    news = shown.insert(key, cells.clone()) != Some(cells);
                }
                if news {
                    print_change(context, &mut table, item)?;
                }
            }
            Seen::Deleted(object) if names.is_empty() || names.contains(&object.name) => {
                context.out.note(format!("loop/{} deleted", object.name));
                shown.remove(&(object.namespace, object.name));
            }
            Seen::Object(_) | Seen::Deleted(_) | Seen::Synced => {}
        }
    }
}

fn item(context: &Context<'_>, object: &LoopObject, columns: Columns) -> Result<Item, Failure> {
    let cells = match context.format().is_structured() {
        true => Vec::new(),
        false => row(&LoopDocument::read(object)?, columns, context.now()),
    };
    let document = objects::json(&object.object_json)?;
    Ok(Item { name: format!("loop/{}", object.name), document, cells, key: object.name.clone() })
}
