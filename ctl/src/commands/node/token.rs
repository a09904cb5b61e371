//! `flyball node token`: what a machine shows once to become a node.

use clap::{Args, Subcommand};
use flyball_core::ids::check_name;
use flyball_core::quantity::Span;
use flyball_pki::JOIN_TOKEN_SECONDS_MAX;
use flyball_proto::v1::{
    CreateTokenRequest, CreateTokenResponse, DeleteTokenRequest, ListTokensRequest, TokenInfo,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::context::Context;
use crate::output::{Format, Table};
use crate::{Exit, Failure, Outcome, retry};

/// Arguments of `node token`.
#[derive(Debug, Clone, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Make a token, which is shown once and counts once.
    #[command(
        after_help = "Examples:\n  flyball node token create --node n7\n  flyball node token create --ttl 2h -o json"
    )]
    Create {
        /// The one node that may join with it [default: any that does not exist yet]
        #[arg(long, value_name = "NAME")]
        node: Option<String>,
        /// How long it counts, at most 24h [default: 15m]
        #[arg(long, value_name = "DURATION")]
        ttl: Option<Span>,
    },
    /// Show the tokens that count; never their secrets.
    List,
    /// Delete tokens, so that nobody joins with them.
    Delete {
        /// Their ids
        #[arg(value_name = "ID", required = true)]
        ids: Vec<String>,
    },
}

impl Token {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.action {
            Action::Create { node, ttl } => create(context, node, ttl).await,
            Action::List => list(context).await,
            Action::Delete { ids } => delete(context, ids).await,
        }
    }
}

async fn create(context: &mut Context<'_>, node: Option<String>, ttl: Option<Span>) -> Outcome {
    let node = node.unwrap_or_default();
    if !node.is_empty() {
        check_name(&node).map_err(|invalid| Failure::usage(invalid.to_string()))?;
    }
    let ttl_seconds = match ttl.map(|span| span.0.as_secs()) {
        None => 0,
        Some(seconds @ 1..=JOIN_TOKEN_SECONDS_MAX) => u32::try_from(seconds).unwrap_or(u32::MAX),
        Some(seconds) => {
            let message = format!("--ttl {seconds}s: a join token counts for 1s to 24h");
            return Err(Failure::usage(message));
        }
    };
    let mut clients = context.clients().await?;
    // Not repeated: each answer would be another token.
    let request = CreateTokenRequest { node, ttl_seconds };
    let made = clients.certificates.create_token(request).await?.into_inner();
    let info = made.info.clone().unwrap_or_default();
    match context.format() {
        Format::Json | Format::Yaml => {
            let mut document = document(&info);
            document["token"] = json!(made.token);
            document["joinAt"] = json!(made.join_at);
            context.out.document(&document)?;
        }
        Format::Name | Format::Table | Format::Wide => context.out.line(&made.token)?,
    }
    context.out.note(format!(
        "for {}, once, until {}; it is not shown again",
        for_whom(&info),
        time(info.expires_unix_ms)
    ));
    context.out.note(format!("on that machine: {}", how(&made)));
    Ok(Exit::Ok)
}

fn how(made: &CreateTokenResponse) -> String {
    let address = made.join_at.first().map_or("https://SCHEDULER:PORT", String::as_str);
    format!("flyball node join --scheduler {address} --token - --dir DIR")
}

fn for_whom(info: &TokenInfo) -> String {
    match info.node.as_str() {
        "" => "any new node".to_owned(),
        name => format!("node {name}"),
    }
}

async fn list(context: &mut Context<'_>) -> Outcome {
    let mut clients = context.clients().await?;
    let tokens = clients.certificates.list_tokens(ListTokensRequest {}).await?.into_inner().tokens;
    match context.format() {
        Format::Json | Format::Yaml => {
            let items: Vec<Value> = tokens.iter().map(document).collect();
            context.out.document(&json!({ "kind": "List", "items": items }))?;
        }
        Format::Name => tokens.iter().try_for_each(|one| context.out.line(&one.id))?,
        Format::Table | Format::Wide if tokens.is_empty() => context.out.note("no join tokens"),
        Format::Table | Format::Wide => {
            let mut table = Table::new(["ID", "FOR", "MADE", "BY", "UNTIL"]);
            for one in &tokens {
                table.row([
                    one.id.as_str().into(),
                    for_whom(one).into(),
                    time(one.created_unix_ms).into(),
                    one.created_by.as_str().into(),
                    time(one.expires_unix_ms).into(),
                ]);
            }
            context.out.table(&mut table)?;
        }
    }
    Ok(Exit::Ok)
}

async fn delete(context: &mut Context<'_>, ids: Vec<String>) -> Outcome {
    let clients = context.clients().await?;
    for id in ids {
        let send = || {
            let (mut certificates, id) = (clients.certificates.clone(), id.clone());
            async move { certificates.delete_token(DeleteTokenRequest { id }).await }
        };
        let answered = retry::until_answered(send, |text| context.out.note(text)).await;
        // An earlier try may have done it.
        let gone = answered.answer.as_ref().is_err_and(|one| one.code() == tonic::Code::NotFound);
        if !(gone && answered.repeated) {
            answered.into_result()?;
        }
        match context.format() {
            Format::Json | Format::Yaml => {
                context.out.stream_document(&json!({ "id": id, "outcome": "deleted" }))?;
            }
            Format::Name => context.out.line(&id)?,
            Format::Table | Format::Wide => context.out.line(format!("join token {id} deleted"))?,
        }
    }
    Ok(Exit::Ok)
}

fn time(millis: i64) -> String {
    let at = Timestamp::from_millisecond(millis).ok();
    at.map_or_else(String::new, |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn document(info: &TokenInfo) -> Value {
    let node = (!info.node.is_empty()).then_some(&info.node);
    json!({
        "id": info.id,
        "node": node,
        "createdAt": time(info.created_unix_ms),
        "createdBy": info.created_by,
        "expiresAt": time(info.expires_unix_ms),
    })
}
