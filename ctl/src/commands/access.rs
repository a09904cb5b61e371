//! Applying and deleting roles and role bindings.

use flyball_proto::v1::{ApplyAccessRequest, DeleteBindingRequest, DeleteRoleRequest};
use serde_json::json;
use tonic::Code;

use super::context::Context;
use crate::client::Clients;
use crate::documents::{AccessDocument, AccessKind};
use crate::output::Format;
use crate::{Failure, objects, retry};

/// Applies one document and shows what became of it.
pub(super) async fn apply(
    context: &mut Context<'_>,
    clients: &Clients,
    document: &AccessDocument,
    dry_run: bool,
) -> Result<(), Failure> {
    let manifest_json = document.json.to_string().into();
    let request = ApplyAccessRequest { manifest_json, dry_run };
    let send = || {
        let (mut access, request) = (clients.access.clone(), request.clone());
        async move {
            match document.kind {
                AccessKind::Role => access.apply_role(request).await,
                AccessKind::Binding => access.apply_binding(request).await,
            }
        }
    };
    let answered = retry::until_answered(send, |text| context.out.note(text)).await;
    let what = format!("{}/{}", document.kind.word(), document.name);
    let answer = answered.into_result().map_err(|mut failure| {
        failure.message = format!("{what} ({}): {}", document.source, failure.message);
        failure
    })?;
    for warning in &answer.warnings {
        context.out.note(format!("warning: {warning}"));
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
    (kind, namespace, name): (AccessKind, Option<String>, String),
    ignore_not_found: bool,
) -> Result<(), Failure> {
    let send = || {
        let (mut access, name, namespace) =
            (clients.access.clone(), name.clone(), namespace.clone());
        async move {
            match kind {
                AccessKind::Role => access.delete_role(DeleteRoleRequest { name }).await,
                AccessKind::Binding => {
                    let all_namespaces = namespace.is_none();
                    let namespace = namespace.unwrap_or_default();
                    let request = DeleteBindingRequest { name, namespace, all_namespaces };
                    access.delete_binding(request).await
                }
            }
        }
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
    let what = format!("{}/{name}", kind.word());
    match context.format() {
        Format::Name => context.out.line(what),
        Format::Json | Format::Yaml => context.out.stream_document(&json!({ "name": name })),
        Format::Table | Format::Wide => context.out.line(format!("{what} deleted")),
    }
}
