//! `flyball audit`: who did what, and whether the trail is whole.

use std::time::Duration;

use clap::{Args, Subcommand};
use flyball_core::access::{AuditEntry, Kind, UnknownWord, Verb};
use flyball_core::quantity::Span;
use flyball_proto::v1::{ListAuditRequest, VerifyAuditRequest};
use serde_json::json;

use super::context::Context;
use crate::output::{Cell, Format, Table, Tint};
use crate::{Exit, Failure, Outcome};

/// Rhythm of looking for new entries.
const POLL: Duration = Duration::from_secs(1);
/// Entries asked for at a time while following: far more than come in one rhythm.
const FOLLOW_LIMIT: u32 = 10_000;

/// Arguments of `audit`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only calls of this caller: owner, user:NAME, node:NAME.
    #[arg(long, value_name = "WHO")]
    who: Option<String>,
    /// Only this verb, e.g. apply, cancel, drain.
    #[arg(long, value_name = "VERB")]
    verb: Option<String>,
    /// Only this kind, e.g. loops, rolebindings, secrets.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only calls of the last so long, e.g. 2h.
    #[arg(long, value_name = "DURATION")]
    since: Option<Span>,
    /// Only calls that ended so: ok, refused or failed.
    #[arg(long, value_name = "RESULT", value_parser = ["ok", "refused", "failed"])]
    result: Option<String>,
    /// The newest so many.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Go on and print every new entry.
    #[arg(short, long)]
    follow: bool,
}

/// What else can be done with the trail.
#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Check that no entry was changed, taken out or put in; exit code 1 if one was.
    Verify {
        /// Check too that this entry still has this hash, noted earlier: NUMBER:HASH.
        #[arg(long, value_name = "NUMBER:HASH")]
        expect: Option<String>,
    },
}

impl Audit {
    pub(super) async fn run(mut self, context: &mut Context<'_>) -> Outcome {
        if let Some(Action::Verify { expect }) = self.action.take() {
            return verify(context, expect.as_deref()).await;
        }
        let mut request = self.request(context)?;
        let mut clients = context.clients().await?;
        let mut table = table(self.follow);
        let mut any = false;
        loop {
            let answer = clients.audit.list(request.clone()).await?.into_inner();
            for json in &answer.entries_json {
                any = true;
                let entry: AuditEntry = serde_json::from_slice(json)
                    .map_err(|error| Failure::unreadable("audit entry", error))?;
                request.after = request.after.max(entry.number);
                show(context, &mut table, json, &entry)?;
            }
            context.out.table(&mut table)?;
            if !self.follow {
                break;
            }
            request.limit = FOLLOW_LIMIT;
            tokio::time::sleep(POLL).await;
        }
        if !any && !context.format().is_structured() {
            context.out.note("no entries");
        }
        Ok(Exit::Ok)
    }

    fn request(&self, context: &Context<'_>) -> Result<ListAuditRequest, Failure> {
        let unknown = |error: UnknownWord| Failure::usage(error.to_string());
        let verb = self.verb.as_deref().map(str::parse::<Verb>).transpose().map_err(unknown)?;
        let kind = self.kind.as_deref().map(str::parse::<Kind>).transpose().map_err(unknown)?;
        let since = self.since.map_or(0, |span| {
            let past = i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX);
            context.now().as_millisecond().saturating_sub(past)
        });
        Ok(ListAuditRequest {
            namespace: context.global.namespace.clone().unwrap_or_default(),
            who: self.who.clone().unwrap_or_default(),
            verb: verb.map(|verb| verb.to_string()).unwrap_or_default(),
            kind: kind.map(|kind| kind.to_string()).unwrap_or_default(),
            result: self.result.clone().unwrap_or_default(),
            since_unix_ms: since,
            after: 0,
            limit: self.limit,
        })
    }
}

fn table(follow: bool) -> Table {
    let table = Table::new(["NUMBER", "TIME", "WHO", "FROM", "VERB", "KIND", "OBJECT", "RESULT"]);
    if follow { table.at_least([6, 20, 12, 20, 8, 12, 20, 2]) } else { table }
}

fn show(
    context: &mut Context<'_>,
    table: &mut Table,
    json: &[u8],
    entry: &AuditEntry,
) -> Result<(), Failure> {
    match context.format() {
        Format::Json | Format::Yaml => {
            return context.out.stream_document(&crate::objects::json(json)?);
        }
        Format::Name => return context.out.line(format!("audit/{}", entry.number)),
        Format::Table | Format::Wide => {}
    }
    let object = match (entry.namespace.as_str(), entry.name.as_str()) {
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    let times = match entry.repeated {
        0 => String::new(),
        more => format!(" (and {more} times more)"),
    };
    let (text, tint) = match entry.result.as_str() {
        "Ok" => ("ok".to_owned(), Tint::Good),
        _ => (format!("{}: {}{times}", entry.result, entry.reason), Tint::Bad),
    };
    table.row([
        entry.number.to_string().into(),
        entry.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
        entry.who.as_str().into(),
        entry.from.as_str().into(),
        entry.verb.as_str().into(),
        entry.kind.as_str().into(),
        object.into(),
        Cell::tinted(text, tint),
    ]);
    Ok(())
}

async fn verify(context: &mut Context<'_>, expect: Option<&str>) -> Outcome {
    let expected = expect.map(noted).transpose()?;
    let entry = expected.map_or(0, |(number, _)| number);
    let mut clients = context.clients().await?;
    let found = clients.audit.verify(VerifyAuditRequest { entry }).await?.into_inner();
    let fault = match expected {
        _ if !found.holds => Some(found.fault.clone()),
        Some((number, _)) if found.entry_hash.is_empty() => Some(format!(
            "entry {number} is not kept; the trail has {} to {}",
            found.first, found.last
        )),
        Some((number, hash)) if found.entry_hash != hash => Some(format!(
            "entry {number} has another hash than the one noted: {}",
            found.entry_hash
        )),
        _ => None,
    };
    if context.format().is_structured() {
        let document = json!({
            "holds": fault.is_none(), "fault": fault, "entries": found.entries,
            "first": found.first, "last": found.last, "hash": found.hash,
        });
        context.out.document(&document)?;
        return Ok(if fault.is_none() { Exit::Ok } else { Exit::Error });
    }
    if let Some(fault) = fault {
        return Err(Failure::new("tampered", format!("the audit trail does not hold: {fault}"))
            .hint("somebody who writes to the store itself has changed it; look who may"));
    }
    context
        .out
        .line(format!("holds: {} entries, {} to {}", found.entries, found.first, found.last))?;
    let note = format!("{}:{}", found.last, found.hash);
    context.out.note(format!("to prove it later, keep this elsewhere: --expect {note}"));
    Ok(Exit::Ok)
}

fn noted(text: &str) -> Result<(u64, &str), Failure> {
    let read = text.split_once(':').and_then(|(number, hash)| Some((number.parse().ok()?, hash)));
    read.filter(|(number, hash)| *number > 0 && !hash.is_empty()).ok_or_else(|| {
        Failure::usage(format!("{text:?} is not NUMBER:HASH as `audit verify` says"))
    })
}
