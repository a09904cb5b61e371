//! `get claims`.

use std::collections::BTreeMap;

use flyball_proto::v1::ListClaimsRequest;

use super::{Context, Get, Item, POLL, nothing, print_change, print_items, select};
use crate::client::Clients;
use crate::output::Format;
use crate::view::claims::{document, row, table};
use crate::{Exit, Failure, Outcome};

pub(super) async fn run(get: &Get, names: Vec<String>, context: &mut Context<'_>) -> Outcome {
    let (wide, all) = (context.format() == Format::Wide, get.all_namespaces);
    let mut clients = context.clients().await?;
    if !get.watch {
        let items =
            select(items(context, &mut clients, wide, all).await?, &names, "claim of loop")?;
        let nothing = nothing(context, "claims", get);
        print_items(context, table(wide, all), items, &names, &nothing)?;
        return Ok(Exit::Ok);
    }
    let mut table = table(wide, all);
    let mut shown = BTreeMap::new();
    loop {
        let mut now = BTreeMap::new();
        for item in items(context, &mut clients, wide, all).await? {
            let token = item.document["claim"]["token"].clone();
            let new = shown.get(&item.document["metadata"].to_string()) != Some(&token);
            now.insert(item.document["metadata"].to_string(), token);
            if new && (names.is_empty() || names.contains(&item.key)) {
                print_change(context, &mut table, item)?;
            }
        }
        shown = now;
        tokio::time::sleep(POLL).await;
    }
}

async fn items(
    context: &Context<'_>,
    clients: &mut Clients,
    wide: bool,
    all: bool,
) -> Result<Vec<Item>, Failure> {
    let request = ListClaimsRequest { namespace: context.namespaces(all) };
    let claims = clients.loops.list_claims(request).await?.into_inner().claims;
    let item = |claim: &flyball_proto::v1::ClaimInfo| Item {
        name: format!("claim/{}", claim.r#loop),
        document: document(claim),
        cells: row(claim, wide, all, context.now()),
        key: claim.r#loop.clone(),
    };
    Ok(claims.iter().map(item).collect())
}
