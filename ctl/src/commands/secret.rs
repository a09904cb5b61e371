//! `flyball secret`: values for agents and checks. None is ever shown, and none is taken as an argument.

use std::io::Read;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use flyball_core::secret::{SECRET_BYTES_MAX, SecretValue};
use flyball_proto::v1::{DeleteSecretRequest, ListSecretsRequest, SetSecretRequest};
use serde_json::json;
use tonic::Code;

use super::context::Context;
use crate::output::{Format, Table};
use crate::{Exit, Failure, Outcome, retry};

/// Arguments of `secret`.
#[derive(Debug, Clone, Args)]
pub struct Secret {
    #[command(subcommand)]
    action: Action,
}

/// What can be done with secrets.
#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Store a value, or a new value, under a name.
    #[command(
        after_help = "Examples:\n  flyball secret set github-token --from-file token.txt\n  pass show github | flyball secret set github-token --from-file -"
    )]
    Set {
        /// Name, as loops reference it.
        name: String,
        /// File with the value; - is standard input. A line break at its end is left out.
        #[arg(long, value_name = "FILE")]
        from_file: PathBuf,
    },
    /// Show the names of secrets, and who set them when.
    List {
        /// Of all namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Delete secrets; runs that have a value keep it until they end.
    Delete {
        /// The secrets.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// What does not exist is no error.
        #[arg(long)]
        ignore_not_found: bool,
    },
}

impl Secret {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.action {
            Action::Set { name, from_file } => set(context, name, &from_file).await,
            Action::List { all_namespaces } => list(context, all_namespaces).await,
            Action::Delete { names, ignore_not_found } => {
                delete(context, names, ignore_not_found).await
            }
        }
    }
}

async fn set(context: &mut Context<'_>, name: String, file: &PathBuf) -> Outcome {
    flyball_core::ids::check_name(&name).map_err(|error| Failure::usage(error.to_string()))?;
    let value = read(file)?;
    let clients = context.clients().await?;
    let namespace = context.namespace();
    let send = || {
        let mut secrets = clients.secrets.clone();
        let (namespace, name) = (namespace.clone(), name.clone());
        let value = value.expose().to_vec().into();
        async move { secrets.set(SetSecretRequest { namespace, name, value }).await }
    };
    let answered = retry::until_answered(send, |text| context.out.note(text)).await;
    let answer = answered.into_result()?;
    done(context, &name, &answer.outcome)?;
    Ok(Exit::Ok)
}

/// Reads a value; errors never repeat any of it.
fn read(file: &PathBuf) -> Result<SecretValue, Failure> {
    let unreadable = |error: std::io::Error| {
        let message = format!("{} cannot be read: {error}", file.display());
        Failure::new("unreadable-file", message)
    };
    let reader: Box<dyn Read> = match file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(file).map_err(unreadable)?),
    };
    let mut bytes = Vec::new();
    // Room for the line break that is left out, and for one byte too many.
    let most = SECRET_BYTES_MAX as u64 + 3;
    reader.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
    SecretValue::new(bytes).map_err(|invalid| {
        Failure::new("invalid", format!("the value in {} {invalid}", file.display()))
    })
}

async fn list(context: &mut Context<'_>, all_namespaces: bool) -> Outcome {
    let mut clients = context.clients().await?;
    let namespace = context.namespaces(all_namespaces);
    let found = clients.secrets.list(ListSecretsRequest { namespace }).await?.into_inner().secrets;
    let mut table = Table::new(["NAMESPACE", "NAME", "VERSION", "CHANGED", "BY", "SEALED WITH"]);
    for one in &found {
        let changed = jiff::Timestamp::from_millisecond(one.changed_unix_ms).ok();
        let changed = changed.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        match context.format() {
            Format::Json | Format::Yaml => context.out.stream_document(&json!({
                "namespace": one.namespace, "name": one.name, "version": one.generation,
                "changedAt": changed, "changedBy": one.changed_by, "sealedWith": one.sealed_with,
            }))?,
            Format::Name => context.out.line(format!("secret/{}", one.name))?,
            Format::Table | Format::Wide => table.row([
                one.namespace.as_str().into(),
                one.name.as_str().into(),
                one.generation.to_string().into(),
                changed.unwrap_or_default().into(),
                one.changed_by.as_str().into(),
                one.sealed_with.as_str().into(),
            ]),
        }
    }
    if found.is_empty() && !context.format().is_structured() {
        context.out.note("no secrets");
    }
    context.out.table(&mut table)?;
    Ok(Exit::Ok)
}

async fn delete(context: &mut Context<'_>, names: Vec<String>, ignore_not_found: bool) -> Outcome {
    let clients = context.clients().await?;
    let namespace = context.namespace();
    for name in names {
        let send = || {
            let mut secrets = clients.secrets.clone();
            let (namespace, name) = (namespace.clone(), name.clone());
            async move { secrets.delete(DeleteSecretRequest { namespace, name }).await }
        };
        let answered = retry::until_answered(send, |text| context.out.note(text)).await;
        let gone = answered.answer.as_ref().is_err_and(|status| status.code() == Code::NotFound);
        if gone && ignore_not_found && !answered.repeated {
            continue;
        }
        // An earlier try has done it.
        if !(gone && answered.repeated) {
            answered.into_result()?;
        }
        done(context, &name, "deleted")?;
    }
    Ok(Exit::Ok)
}

fn done(context: &mut Context<'_>, name: &str, word: &str) -> Result<(), Failure> {
    match context.format() {
        Format::Name => context.out.line(format!("secret/{name}")),
        Format::Json | Format::Yaml => {
            context.out.stream_document(&json!({ "name": name, "outcome": word }))
        }
        Format::Table | Format::Wide => context.out.line(format!("secret/{name} {word}")),
    }
}
