//! `flyball delete`: deletes what was applied, by name or by manifest.

use std::path::PathBuf;

use clap::Args;
use flyball_core::model::{DefinitionKey, DefinitionKind};
use flyball_proto::v1::{DeleteLoopRequest, WatchLoopsRequest};
use tonic::Code;

use super::context::Context;
use super::target::{Noun, Target, names_of};
use super::{access, definitions};
use crate::client::Clients;
use crate::documents::{self, AccessKind};
use crate::follow::{LoopWatch, Seen};
use crate::output::Format;
use crate::{Exit, Failure, Outcome, retry};

type Key = (String, String);
type AccessKey = (AccessKind, Option<String>, String);

/// What is to be deleted.
#[derive(Default)]
struct Keys {
    loops: Vec<Key>,
    access: Vec<AccessKey>,
    definitions: Vec<DefinitionKey>,
}

/// Arguments of `delete`.
#[derive(Debug, Clone, Args)]
pub struct Delete {
    /// The loops, as `x y`, `loop x y` or `loop/x`; or a kind and names: `role x`, `rolebinding x`, `provider x`, `modelroute x`, `agent x`,
    /// `budget NAMESPACE`. A word alone is the name of a loop.
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
        let Keys { loops, access, mut definitions } = self.keys(context)?;
        let clients = context.clients().await?;
        // Bindings before the roles that they give.
        let (roles, bindings): (Vec<_>, Vec<_>) =
            access.into_iter().partition(|one| one.0 == AccessKind::Role);
        for (kind, namespace, name) in bindings.into_iter().chain(roles) {
            access::delete(context, &clients, (kind, namespace, name), self.ignore_not_found)
                .await?;
        }
        // What names others before those.
        definitions.sort_by_key(|key| std::cmp::Reverse(key.kind == DefinitionKind::ModelRoute));
        for key in &definitions {
            definitions::delete(context, &clients, key, self.ignore_not_found).await?;
        }
        for (namespace, name) in loops {
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

    fn keys(&self, context: &Context<'_>) -> Result<Keys, Failure> {
        if let Some((kind, names)) = self.definition_names()? {
            let definitions =
                names.into_iter().map(|name| DefinitionKey::new(kind, name)).collect();
            return Ok(Keys { definitions, ..Keys::default() });
        }
        if let Some((kind, names)) = self.access_names()? {
            let namespace = match kind {
                AccessKind::Role => None,
                AccessKind::Binding => (!self.all_namespaces).then(|| context.namespace()),
            };
            let keys = names.into_iter().map(|name| (kind, namespace.clone(), name));
            return Ok(Keys { access: keys.collect(), ..Keys::default() });
        }
        if self.all_namespaces {
            return Err(Failure::usage("-A is for role bindings of all namespaces only"));
        }
        if self.files.is_empty() {
            let loops =
                self.loop_names()?.into_iter().map(|name| (context.namespace(), name)).collect();
            return Ok(Keys { loops, ..Keys::default() });
        }
        let documents = documents::read(&self.files, context.global.namespace.as_deref())?;
        let metadata = documents.loops.into_iter().map(|document| document.manifest.metadata);
        let loops = metadata.map(|metadata| (metadata.namespace, metadata.name)).collect();
        let access = documents.access.into_iter();
        let access = access.map(|one| (one.kind, one.namespace, one.name)).collect();
        let definitions = documents.definitions.iter().map(|one| one.definition.key()).collect();
        Ok(Keys { loops, access, definitions })
    }

    /// The names in `x y`, `loop/x` or `loop x`.
    fn loop_names(&self) -> Result<Vec<String>, Failure> {
        let is_word = self.names.first().is_some_and(|first| !first.contains('/'));
        match self.noun().filter(|_| is_word) {
            None => names_of(Noun::Loops, &self.names),
            Some(Noun::Loops) => Ok(Target::parse(&self.names)?.names),
            Some(_) => Err(Failure::usage(format!("{} cannot be deleted", self.names[0]))
                .hint(format!("for the loop of that name write loop/{}", self.names[0]))),
        }
    }

    /// The names in `provider x` or `budget/x`; `None` where something else is meant.
    fn definition_names(&self) -> Result<Option<(DefinitionKind, Vec<String>)>, Failure> {
        match self.noun() {
            Some(Noun::Definitions(kind)) => Ok(Some((kind, Target::parse(&self.names)?.names))),
            _ => Ok(None),
        }
    }

    /// The names in `role x` or `rolebinding/x`; `None` where loops are meant.
    fn access_names(&self) -> Result<Option<(AccessKind, Vec<String>)>, Failure> {
        let kind = match self.noun() {
            Some(Noun::Roles) => AccessKind::Role,
            Some(Noun::RoleBindings) => AccessKind::Binding,
            _ => return Ok(None),
        };
        Ok(Some((kind, Target::parse(&self.names)?.names)))
    }

    /// The kind in `role x` or `role/x`; a word alone is the name of a loop.
    fn noun(&self) -> Option<Noun> {
        let first = self.names.first()?;
        match first.split_once('/') {
            Some((word, _)) => Noun::parse(word).ok(),
            None if self.names.len() < 2 => None,
            None => Noun::parse(first).ok(),
        }
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
