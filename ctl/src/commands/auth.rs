//! `flyball auth`: who the scheduler takes you for, and what you may do.

use clap::{Args, Subcommand};
use flyball_proto::v1::{CanIRequest, WhoAmIRequest};
use serde_json::json;

use super::context::Context;
use crate::output::{Format, Table};
use crate::{Exit, Outcome};

/// Arguments of `auth`.
#[derive(Debug, Clone, Args)]
pub struct Auth {
    #[command(subcommand)]
    question: Question,
}

/// What can be asked.
#[derive(Debug, Clone, Subcommand)]
enum Question {
    /// Say who the scheduler takes you for, and which roles you have.
    #[command(name = "whoami")]
    WhoAmI,
    /// Say whether you may do something, and why; exit code 1 if not.
    #[command(
        after_help = "Examples:\n  flyball auth can-i create loops -n team\n  flyball auth can-i drain nodes"
    )]
    CanI {
        /// E.g. get, list, watch, create, delete, cancel, drain, diagnose.
        verb: String,
        /// E.g. loops, nodes, events, logs, secrets, roles, rolebindings, audit.
        kind: String,
        /// In all namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
}

impl Auth {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.question {
            Question::WhoAmI => who_am_i(context).await,
            Question::CanI { verb, kind, all_namespaces } => {
                let namespace = context.namespaces(all_namespaces);
                can_i(context, CanIRequest { verb, kind, namespace }).await
            }
        }
    }
}

async fn who_am_i(context: &mut Context<'_>) -> Outcome {
    let mut clients = context.clients().await?;
    let me = clients.access.who_am_i(WhoAmIRequest {}).await?.into_inner();
    let place = |namespace: &str| match namespace {
        "" => "all".to_owned(),
        namespace => namespace.to_owned(),
    };
    match context.format() {
        Format::Json | Format::Yaml => {
            let roles = me.roles.iter().map(|one| {
                json!({ "role": one.role, "binding": one.binding, "namespace": place(&one.namespace) })
            });
            let roles: Vec<_> = roles.collect();
            context
                .out
                .document(&json!({ "identity": me.identity, "from": me.from, "roles": roles }))?;
        }
        Format::Name => context.out.line(me.identity)?,
        Format::Table | Format::Wide => {
            context.out.line(format!("{} ({})", me.identity, me.from))?;
            if me.identity == "owner" {
                context.out.line("may do everything: the owner of this installation")?;
            }
            let mut table = Table::new(["ROLE", "NAMESPACE", "BINDING"]);
            for one in &me.roles {
                let namespace = place(&one.namespace);
                table.row([
                    one.role.as_str().into(),
                    namespace.into(),
                    one.binding.as_str().into(),
                ]);
            }
            context.out.table(&mut table)?;
        }
    }
    Ok(Exit::Ok)
}

async fn can_i(context: &mut Context<'_>, request: CanIRequest) -> Outcome {
    let mut clients = context.clients().await?;
    let answer = clients.access.can_i(request).await?.into_inner();
    let word = if answer.allowed { "yes" } else { "no" };
    match context.format() {
        Format::Json | Format::Yaml => {
            let document = json!({ "allowed": answer.allowed, "reason": answer.reason });
            context.out.document(&document)?;
        }
        Format::Name => context.out.line(word)?,
        Format::Table | Format::Wide => {
            context.out.line(word)?;
            context.out.note(&answer.reason);
        }
    }
    Ok(if answer.allowed { Exit::Ok } else { Exit::Error })
}
