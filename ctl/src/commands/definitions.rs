//! Applying, describing and deleting providers, model routes, agents and budgets.

use flyball_core::model::{Definition, DefinitionKey, DefinitionKind};
use flyball_proto::v1::{ApplyDefinitionRequest, DeleteDefinitionRequest, GetDefinitionRequest};
use serde_json::{Value, json};
use tonic::Code;

use super::context::Context;
use crate::client::Clients;
use crate::documents::DefinitionDocument;
use crate::output::Format;
use crate::{Exit, Failure, Outcome, objects, retry, view};

/// Applies one document and shows what became of it.
pub(super) async fn apply(
    context: &mut Context<'_>,
    clients: &Clients,
    document: &DefinitionDocument,
    dry_run: bool,
) -> Result<(), Failure> {
    let manifest_json = document.json.to_string().into();
    let request = ApplyDefinitionRequest { manifest_json, dry_run };
    let send = || {
        let (mut definitions, request) = (clients.definitions.clone(), request.clone());
        async move { definitions.apply(request).await }
    };
    let answered = retry::until_answered(send, |text| context.out.note(text)).await;
    let what = document.definition.key().to_string();
    let answer = answered.into_result().map_err(|mut failure| {
        failure.message = format!("{what} ({}): {}", document.source, failure.message);
        failure
    })?;
    for warning in &answer.warnings {
        context.out.note(format!("warning: {}: {warning}", document.source));
    }
    match context.format() {
        Format::Json | Format::Yaml => match &answer.object {
            Some(object) => context.out.document(&objects::json(&object.object_json)?),
            None => Ok(()),
        },
        Format::Name => context.out.line(what),
        Format::Table | Format::Wide => {
            let dry_run = if dry_run { " (dry run)" } else { "" };
            context.out.line(format!("{what} {}{dry_run}", answer.outcome))
        }
    }
}

/// Deletes one of them and says so.
pub(super) async fn delete(
    context: &mut Context<'_>,
    clients: &Clients,
    key: &DefinitionKey,
    ignore_not_found: bool,
) -> Result<(), Failure> {
    let (kind, name) = (key.kind.word().to_owned(), key.name.clone());
    let request = DeleteDefinitionRequest { kind, name };
    let send = || {
        let (mut definitions, request) = (clients.definitions.clone(), request.clone());
        async move { definitions.delete(request).await }
    };
    let answered = retry::until_answered(send, |text| context.out.note(text)).await;
    let gone = answered.answer.as_ref().is_err_and(|status| status.code() == Code::NotFound);
    if gone && ignore_not_found && !answered.repeated {
        return Ok(());
    }
    // An earlier try has done it.
    if !(gone && answered.repeated) {
        answered.into_result()?;
    }
    match context.format() {
        Format::Name => context.out.line(key.to_string()),
        Format::Json | Format::Yaml => context.out.stream_document(&json!({ "name": key.name })),
        Format::Table | Format::Wide => context.out.line(format!("{key} deleted")),
    }
}

/// Shows everything about one of them.
pub(super) async fn describe(
    context: &mut Context<'_>,
    kind: DefinitionKind,
    name: String,
) -> Outcome {
    let document = match view::definitions::shipped(kind, &name) {
        Some(shipped) => shipped,
        None => fetch(context, kind, name).await?,
    };
    if context.format().is_structured() {
        context.out.document(&document)?;
        return Ok(Exit::Ok);
    }
    let definition: Definition = serde_json::from_value(document.clone())
        .map_err(|error| Failure::unreadable("definition", error))?;
    let page = view::definitions::page(&definition, &document, context.now());
    context.out.raw(page.as_bytes())?;
    Ok(Exit::Ok)
}

async fn fetch(
    context: &mut Context<'_>,
    kind: DefinitionKind,
    name: String,
) -> Result<Value, Failure> {
    let mut clients = context.clients().await?;
    let request = GetDefinitionRequest { kind: kind.word().to_owned(), name };
    let object = clients.definitions.get(request).await?.into_inner();
    objects::json(&object.object_json)
}
