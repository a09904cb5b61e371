//! `get iterations LOOP`.

use flyball_proto::v1::{GetLoopRequest, LoopObject, WatchLoopsRequest};
use serde_json::Value;

use super::{Context, Get, Item, print_change, print_items};
use crate::follow::{LoopWatch, Seen};
use crate::objects::{self, LoopDocument};
use crate::output::Format;
use crate::view::iterations::{row, table};
use crate::{Exit, Failure, Outcome};

pub(super) async fn run(get: &Get, names: Vec<String>, context: &mut Context<'_>) -> Outcome {
    let Ok([name]) = <[String; 1]>::try_from(names) else {
        return Err(Failure::usage("name one loop: flyball get iterations LOOP"));
    };
    let wide = context.format() == Format::Wide;
    let mut clients = context.clients().await?;
    let namespace = context.namespace();
    if !get.watch {
        let answer = clients.loops.get(GetLoopRequest { namespace, name }).await?;
        let items = items(context, &answer.into_inner(), wide)?;
        print_items(context, table(wide), items, &[], "no iteration has ended yet")?;
        return Ok(Exit::Ok);
    }
    let request = WatchLoopsRequest { namespace, name: name.clone(), labels: Default::default() };
    let mut watch = LoopWatch::new(&clients, request);
    let (mut table, mut last, mut found) = (table(wide), 0, false);
    loop {
        match watch.next().await? {
            Seen::Object(object) => {
                found = true;
                for item in items(context, &object, wide)? {
                    let number = item.document["number"].as_u64().unwrap_or(0);
                    if number > last {
                        last = number;
                        print_change(context, &mut table, item)?;
                    }
                }
                if LoopDocument::read(&object)?.status.phase.is_terminal() {
                    return Ok(Exit::Ok);
                }
            }
            Seen::Deleted(_) => return Ok(Exit::Ok),
            Seen::Synced if found || watch.exists(&name).await? => {}
            Seen::Synced => {
                return Err(Failure::new("not-found", format!("there is no loop {name}")));
            }
        }
    }
}

fn items(context: &Context<'_>, object: &LoopObject, wide: bool) -> Result<Vec<Item>, Failure> {
    let document = LoopDocument::read(object)?;
    let json = objects::json(&object.object_json)?;
    let recent = json.pointer("/status/progress/recent").and_then(Value::as_array);
    let recent = recent.into_iter().flatten();
    let pairs = document.status.progress.recent.iter().zip(recent);
    let items = pairs.map(|(iteration, json)| Item {
        name: format!("iteration/{}", iteration.number),
        document: json.clone(),
        cells: row(iteration, wide, context.now()),
        key: iteration.number.to_string(),
    });
    Ok(items.collect())
}
