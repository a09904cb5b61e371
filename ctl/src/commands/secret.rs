//! `flyball secret`: values for agents and checks. None is ever shown, and none is taken as an argument.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use flyball_core::secret::{SECRET_BYTES_MAX, SecretValue};
use flyball_proto::v1::{
    DeleteSecretRequest, ListSecretsRequest, RotateSecretsKeyRequest, SecretInfo, SetSecretRequest,
};
use flyball_scheduler::SecretKeys;
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
    /// Make a new key and seal all secrets anew with it.
    ///
    /// Values, versions and who set them stay as they are, and runs go on. The scheduler puts the new key in front of
    /// its key file. Where several schedulers work on one etcd, each needs the new key first: make it with
    /// `flyball secret new-key`, copy the file to all of them, then use --reseal-only. A restored backup of the
    /// store needs the keys of its time: keep the old key file with it.
    #[command(
        after_help = "Examples:\n  flyball secret rotate-key              # a new key; the old ones stay in the file\n  flyball secret rotate-key --drop-old   # and go, as far as nothing is sealed with them"
    )]
    RotateKey {
        /// Make no key: seal anew with the first one in the scheduler's file.
        #[arg(long)]
        reseal_only: bool,
        /// Take the keys out of the scheduler's file that nothing is sealed with afterwards.
        #[arg(long)]
        drop_old: bool,
    },
    /// Put a new key in front of a key file on this machine; schedulers that use it need no restart.
    NewKey {
        /// The file, as in `flyball scheduler --secrets-key`; made if it does not exist.
        file: PathBuf,
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
            Action::RotateKey { reseal_only, drop_old } => {
                rotate_key(context, !reseal_only, drop_old).await
            }
            Action::NewKey { file } => new_key(context, &file),
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
                "keyState": one.key_state,
            }))?,
            Format::Name => context.out.line(format!("secret/{}", one.name))?,
            Format::Table | Format::Wide => table.row([
                one.namespace.as_str().into(),
                one.name.as_str().into(),
                one.generation.to_string().into(),
                changed.unwrap_or_default().into(),
                one.changed_by.as_str().into(),
                key_text(one).into(),
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

/// The key's id, and what is the matter with it.
fn key_text(secret: &SecretInfo) -> String {
    let id = &secret.sealed_with;
    match secret.key_state.as_str() {
        "old" => format!("{id} (old)"),
        "missing" => format!("{id} (missing)"),
        _ => id.clone(),
    }
}

async fn rotate_key(context: &mut Context<'_>, new_key: bool, drop_old: bool) -> Outcome {
    let mut clients = context.clients().await?;
    // Not repeated by itself: every try would make another key.
    let answer = clients.secrets.rotate_key(RotateSecretsKeyRequest { new_key, drop_old }).await;
    let answer = answer.map_err(Failure::from)?.into_inner();
    let unopened = answer.unopened.iter();
    if context.format().is_structured() {
        let unopened = unopened.map(|one| {
            json!({
                "namespace": one.namespace, "name": one.name, "sealedWith": one.sealed_with,
                "reason": one.reason,
            })
        });
        let old = answer.old.iter().map(|key| json!({ "id": key.id, "secrets": key.secrets }));
        context.out.document(&json!({
            "key": answer.key, "resealed": answer.resealed, "dropped": answer.dropped,
            "old": old.collect::<Vec<_>>(), "unopened": unopened.collect::<Vec<_>>(),
        }))?;
    } else {
        context
            .out
            .line(format!("key {} seals; secrets sealed anew: {}", answer.key, answer.resealed))?;
        for id in &answer.dropped {
            context.out.line(format!("key {id} was taken out of the key file"))?;
        }
        for key in &answer.old {
            let text = match key.secrets {
                0 => "nothing is sealed with it any more; --drop-old takes it out".to_owned(),
                count => format!("still seals {count}"),
            };
            context.out.line(format!("key {} is old: {text}", key.id))?;
        }
        for one in unopened {
            let (namespace, name, reason) = (&one.namespace, &one.name, &one.reason);
            context.out.note(format!("warning: secret {namespace}/{name} was left: {reason}"));
        }
    }
    Ok(if answer.unopened.is_empty() { Exit::Ok } else { Exit::Error })
}

fn new_key(context: &mut Context<'_>, file: &Path) -> Outcome {
    let id = SecretKeys::add_to(file)
        .map_err(|error| Failure::new("unusable-key-file", error.to_string()))?;
    match context.format() {
        Format::Json | Format::Yaml => {
            context.out.document(&json!({ "key": id, "file": file.display().to_string() }))?;
        }
        Format::Name => context.out.line(id)?,
        Format::Table | Format::Wide => {
            context.out.line(format!("key {id} is the first in {}", file.display()))?;
            context.out.note(
                "copy the file to every scheduler, then: flyball secret rotate-key --reseal-only",
            );
        }
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
