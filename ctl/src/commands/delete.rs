//! `flyball delete`: deletes loops, roles and role bindings, by name or by manifest.

use std::path::PathBuf;

use clap::Args;
use flyball_proto::v1::{DeleteLoopRequest, WatchLoopsRequest};
use tonic::Code;

use super::access;
use super::context::Context;
use super::target::{Noun, Target, names_of};
use crate::client::Clients;
use crate::documents::{self, AccessKind};
use crate::follow::{LoopWatch, Seen};
use crate::output::Format;
use crate::{Exit, Failure, Outcome, retry};

type Key = (String, String);
type AccessKey = (AccessKind, Option<String>, String);

/// Arguments of `delete`.
#[derive(Debug, Clone, Args)]
pub struct Delete {
    /// The loops; or `role NAME`, `rolebinding NAME`.
    #[arg(value_name = "LOOP", required_unless_present = "files")]
    names: Vec<String>,
    /// What this manifest file declares. May be repeated.
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "names")]
    files: Vec<PathBuf>,
    /// The role binding is one of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Wait until they are gone.
    #[arg(short, long)]
    wait: bool,
    /// What does not exist is no error.
    #[arg(long)]
    ignore_not_found: bool,
}

impl Delete {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let (keys, access) = self.keys(context)?;
        let clients = context.clients().await?;
        // Bindings before the roles that they give.
        let (roles, bindings): (Vec<_>, Vec<_>) =
            access.into_iter().partition(|one| one.0 == AccessKind::Role);
        for (kind, namespace, name) in bindings.into_iter().chain(roles) {
            access::delete(context, &clients, (kind, namespace, name), self.ignore_not_found)
                .await?;
        }
        for (namespace, name) in keys {
            let request = DeleteLoopRequest { namespace: namespace.clone(), name: name.clone() };
            let send = || {
                let (mut loops, request) = (clients.loops.clone(), request.clone());
                async move { loops.delete(request).await }
            };
            let answered = retry::until_answered(send, |text| context.out.note(text)).await;
            let is_gone =
                answered.answer.as_ref().is_err_and(|status| status.code() == Code::NotFound);
            let pending = match is_gone {
                // An earlier try has done it.
                true if answered.repeated => false,
                true if self.ignore_not_found => continue,
                _ => answered.into_result()?.pending,
            };
            if pending && self.wait {
                gone(&clients, namespace, name.clone()).await?;
            }
            let word = match pending && !self.wait {
                true => "will be deleted when it has stopped",
                false => "deleted",
            };
            match context.format() {
                Format::Name => context.out.line(format!("loop/{name}"))?,
                Format::Json | Format::Yaml => {
                    let pending = pending && !self.wait;
                    let answer = serde_json::json!({ "name": name, "pending": pending });
                    context.out.stream_document(&answer)?;
                }
                Format::Table | Format::Wide => context.out.line(format!("loop/{name} {word}"))?,
            }
        }
        Ok(Exit::Ok)
    }

    fn keys(&self, context: &Context<'_>) -> Result<(Vec<Key>, Vec<AccessKey>), Failure> {
        if let Some((kind, names)) = self.access_names()? {
            let namespace = match kind {
                AccessKind::Role => None,
                AccessKind::Binding => (!self.all_namespaces).then(|| context.namespace()),
            };
            let keys = names.into_iter().map(|name| (kind, namespace.clone(), name));
            return Ok((Vec::new(), keys.collect()));
        }
        if self.all_namespaces {
            return Err(Failure::usage("-A is for role bindings of all namespaces only"));
        }
        if self.files.is_empty() {
            let names = names_of(Noun::Loops, &self.names)?;
            let keys = names.into_iter().map(|name| (context.namespace(), name)).collect();
            return Ok((keys, Vec::new()));
        }
        let documents = documents::read(&self.files, context.global.namespace.as_deref())?;
        let metadata = documents.loops.into_iter().map(|document| document.manifest.metadata);
        let keys = metadata.map(|metadata| (metadata.namespace, metadata.name)).collect();
        let access = documents.access.into_iter();
        Ok((keys, access.map(|one| (one.kind, one.namespace, one.name)).collect()))
    }

    /// The names in `role x` or `rolebinding/x`; `None` where loops are meant.
    fn access_names(&self) -> Result<Option<(AccessKind, Vec<String>)>, Failure> {
        let first = self.names.first().map(String::as_str).unwrap_or_default();
        let (word, single) = first.split_once('/').map_or((first, false), |(word, _)| (word, true));
        if !single && self.names.len() < 2 {
            return Ok(None);
        }
        let kind = match Noun::parse(word) {
            Ok(Noun::Roles) => AccessKind::Role,
            Ok(Noun::RoleBindings) => AccessKind::Binding,
            _ => return Ok(None),
        };
        Ok(Some((kind, Target::parse(&self.names)?.names)))
    }
}

async fn gone(clients: &Clients, namespace: String, name: String) -> Result<(), Failure> {
    let request = WatchLoopsRequest { namespace, name: name.clone(), labels: Default::default() };
    let mut watch = LoopWatch::new(clients, request);
    let mut found = false;
    loop {
        match watch.next().await? {
            Seen::Object(_) => found = true,
            Seen::Synced if found || watch.exists(&name).await? => {}
            Seen::Deleted(_) | Seen::Synced => return Ok(()),
        }
    }
}
