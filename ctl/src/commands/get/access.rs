//! `get roles` and `get rolebindings`.

use flyball_proto::v1::{AccessObject, ListBindingsRequest, ListRolesRequest};
use serde_json::Value;

use super::{Context, Get, Item, print_items, select};
use crate::output::{Cell, Table};
use crate::{Exit, Failure, Outcome, objects};

pub(super) async fn roles(get: &Get, names: Vec<String>, context: &mut Context<'_>) -> Outcome {
    no_watch(get)?;
    let mut clients = context.clients().await?;
    let found = clients.access.list_roles(ListRolesRequest {}).await?.into_inner().roles;
    let row = |object: &AccessObject, document: &Value| -> Vec<Cell> {
        let built_in = document["status"]["builtIn"] == true;
        let made =
            if built_in { "built in".to_owned() } else { text(&document["status"]["changedBy"]) };
        vec![object.name.as_str().into(), made.into(), rules(&document["spec"]["rules"]).into()]
    };
    let items = items("role", &found, row)?;
    let table = Table::new(["NAME", "BY", "ALLOWS"]);
    print_items(context, table, select(items, &names, "role")?, &names, "no roles")?;
    Ok(Exit::Ok)
}

pub(super) async fn bindings(get: &Get, names: Vec<String>, context: &mut Context<'_>) -> Outcome {
    no_watch(get)?;
    let mut clients = context.clients().await?;
    let request = ListBindingsRequest { namespace: context.namespaces(get.all_namespaces) };
    let found = clients.access.list_bindings(request).await?.into_inner().bindings;
    let row = |object: &AccessObject, document: &Value| -> Vec<Cell> {
        let namespace = if object.namespace.is_empty() { "all" } else { &object.namespace };
        let subjects = document["spec"]["subjects"].as_array().cloned().unwrap_or_default();
        let subjects: Vec<_> = subjects.iter().map(text).collect();
        vec![
            object.name.as_str().into(),
            namespace.into(),
            text(&document["spec"]["role"]).into(),
            subjects.join(",").into(),
        ]
    };
    let items = items("rolebinding", &found, row)?;
    let table = Table::new(["NAME", "NAMESPACE", "ROLE", "SUBJECTS"]);
    let nothing = super::nothing(context, "rolebindings", get);
    print_items(context, table, select(items, &names, "rolebinding")?, &names, &nothing)?;
    Ok(Exit::Ok)
}

fn no_watch(get: &Get) -> Result<(), Failure> {
    match get.watch {
        true => Err(Failure::usage("-w watches loops, nodes, claims and iterations only")),
        false => Ok(()),
    }
}

fn items(
    kind: &str,
    objects: &[AccessObject],
    row: impl Fn(&AccessObject, &Value) -> Vec<Cell>,
) -> Result<Vec<Item>, Failure> {
    let item = |object: &AccessObject| {
        let document = objects::json(&object.object_json)?;
        let cells = row(object, &document);
        let name = format!("{kind}/{}", object.name);
        Ok(Item { name, document, cells, key: object.name.clone() })
    };
    objects.iter().map(item).collect()
}

/// `get,list loops; mark nodes`.
fn rules(rules: &Value) -> String {
    let words = |value: &Value| {
        let words = value.as_array().cloned().unwrap_or_default();
        words.iter().map(text).collect::<Vec<_>>().join(",")
    };
    let rules = rules.as_array().cloned().unwrap_or_default();
    let texts =
        rules.iter().map(|rule| format!("{} {}", words(&rule["verbs"]), words(&rule["kinds"])));
    texts.collect::<Vec<_>>().join("; ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
