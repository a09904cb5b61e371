//! `get nodes`.

use std::collections::BTreeMap;

use flyball_proto::v1::{ListNodesRequest, NodeObject};

use super::{Context, Get, Item, POLL, print_change, print_items, select};
use crate::client::Clients;
use crate::objects::{self, NodeDocument};
use crate::output::Format;
use crate::view::nodes::{row, table};
use crate::{Exit, Failure, Outcome};

pub(super) async fn run(get: &Get, names: Vec<String>, context: &mut Context<'_>) -> Outcome {
    let wide = context.format() == Format::Wide;
    let mut clients = context.clients().await?;
    if !get.watch {
        let items = select(items(context, &mut clients, wide).await?, &names, "node")?;
        print_items(context, table(wide), items, &names, "no node has ever registered")?;
        return Ok(Exit::Ok);
    }
    let mut table = table(wide);
    let mut shown = BTreeMap::new();
    loop {
        for item in select(items(context, &mut clients, wide).await?, &names, "node")? {
            // The seconds of a lease change all the time and say nothing.
            let mut comparable = item.document.clone();
            comparable["status"]["leaseTtl"] = serde_json::Value::Null;
            if shown.insert(item.key.clone(), comparable.clone()) != Some(comparable) {
                print_change(context, &mut table, item)?;
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn items(
    context: &Context<'_>,
    clients: &mut Clients,
    wide: bool,
) -> Result<Vec<Item>, Failure> {
    let nodes = clients.nodes.list(ListNodesRequest {}).await?.into_inner().nodes;
    nodes.iter().map(|object| item(context, object, wide)).collect()
}

fn item(context: &Context<'_>, object: &NodeObject, wide: bool) -> Result<Item, Failure> {
    let cells = match context.format().is_structured() {
        true => Vec::new(),
        false => row(&NodeDocument::read(object)?, wide, context.now()),
    };
    let document = objects::json(&object.object_json)?;
    Ok(Item { name: format!("node/{}", object.name), document, cells, key: object.name.clone() })
}
