//! `flyball delete`: deletes loops, by name or by manifest.

use std::path::PathBuf;

use clap::Args;
use flyball_proto::v1::{DeleteLoopRequest, WatchLoopsRequest};
use tonic::Code;

use super::context::Context;
use super::target::{Noun, names_of};
use crate::client::Clients;
use crate::documents;
use crate::follow::{LoopWatch, Seen};
use crate::output::Format;
use crate::{Exit, Failure, Outcome, retry};

/// Arguments of `delete`.
#[derive(Debug, Clone, Args)]
pub struct Delete {
    /// The loops.
    #[arg(value_name = "LOOP", required_unless_present = "files")]
    names: Vec<String>,
    /// The loops of this manifest file. May be repeated.
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "names")]
    files: Vec<PathBuf>,
    /// Wait until they are gone.
    #[arg(short, long)]
    wait: bool,
    /// A loop that does not exist is no error.
    #[arg(long)]
    ignore_not_found: bool,
}

impl Delete {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let keys = self.keys(context)?;
        let clients = context.clients().await?;
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

    fn keys(&self, context: &Context<'_>) -> Result<Vec<(String, String)>, Failure> {
        if self.files.is_empty() {
            let names = names_of(Noun::Loops, &self.names)?;
            return Ok(names.into_iter().map(|name| (context.namespace(), name)).collect());
        }
        let documents = documents::read(&self.files, context.global.namespace.as_deref())?;
        let metadata = documents.into_iter().map(|document| document.manifest.metadata);
        Ok(metadata.map(|metadata| (metadata.namespace, metadata.name)).collect())
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
