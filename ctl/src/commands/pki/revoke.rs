//! `flyball pki revoke` and `revoked`.

use std::path::Path;

use clap::Args;
use flyball_core::identity::Identity;
use flyball_core::revocation::Revoked;
use flyball_pki::{CERTIFICATE, Facts, facts_of_pem};
use flyball_proto::v1::{ListRevokedRequest, RevokeRequest, RevokedInfo};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::context::Context;
use super::failed;
use crate::output::{Format, Table};
use crate::{Exit, Failure, Outcome, retry};

/// Arguments of `pki revoke`.
#[derive(Debug, Clone, Args)]
pub(super) struct Revoke {
    /// A certificate, by its serial number, its file or the directory of the identity; or user:NAME, node:NAME or
    /// scheduler:NAME for all that it has got until now
    #[arg(value_name = "SERIAL|PATH|WHO")]
    what: String,
    /// Why; recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Arguments of `pki revoked`.
#[derive(Debug, Clone, Args)]
pub(super) struct List {}

impl Revoke {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let request = self.request()?;
        let clients = context.clients().await?;
        let send = || {
            let (mut certificates, request) = (clients.certificates.clone(), request.clone());
            async move { certificates.revoke(request).await }
        };
        let answered = retry::until_answered(send, |text| context.out.note(text)).await;
        let answer = answered.into_result()?;
        let info = answer.revoked.unwrap_or_default();
        match context.format() {
            Format::Json | Format::Yaml => context.out.document(&document(&info))?,
            Format::Name => context.out.line(name(&info))?,
            Format::Table | Format::Wide => {
                context.out.line(format!("{} {}", name(&info), answer.outcome))?;
            }
        }
        notes(&info).into_iter().for_each(|note| context.out.note(note));
        Ok(Exit::Ok)
    }

    fn request(&self) -> Result<RevokeRequest, Failure> {
        let (what, reason) = (self.what.as_str(), self.reason.clone());
        let mut request = RevokeRequest::default();
        if let Ok(identity) = what.parse::<Identity>() {
            let revoked = Revoked::identity(identity);
            let revoked = revoked.map_err(|error| Failure::usage(error.to_string()))?;
            request.identity = revoked.to_string();
        } else if let Some(facts) = on_disk(Path::new(what))? {
            request.not_after_unix_ms = facts.not_after.as_millisecond();
            request.whose = facts.identity.as_ref().map_or(facts.name, Identity::to_string);
            request.serial = facts.serial;
        } else {
            let revoked = Revoked::serial(what).map_err(|error| {
                Failure::usage(error.to_string())
                    .hint("or name a file or directory that exists, or user:NAME, node:NAME, scheduler:NAME")
            })?;
            request.serial = revoked.to_string().trim_start_matches("serial:").to_owned();
        }
        Ok(RevokeRequest { reason, ..request })
    }
}

/// What the certificate of a path says; `None` if there is nothing there.
fn on_disk(path: &Path) -> Result<Option<Facts>, Failure> {
    let file = if path.is_dir() { path.join(CERTIFICATE) } else { path.to_owned() };
    if !file.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&file).map_err(|error| {
        Failure::new("pki", format!("{} cannot be read: {error}", file.display()))
    })?;
    let facts = facts_of_pem(&text).map_err(failed)?.into_iter().next();
    match facts {
        Some(facts) if facts.is_authority => {
            let why = format!(
                "{} is an authority's certificate, which nobody can revoke",
                file.display()
            );
            Err(Failure::new("pki", why).hint("replace the authority: flyball pki rotate"))
        }
        facts => Ok(facts),
    }
}

/// What whoever revokes may not know.
fn notes(info: &RevokedInfo) -> Vec<String> {
    let mut notes = Vec::new();
    if info.serial.is_empty() {
        notes.push(format!(
            "to let {} in again give it a new certificate; one that is issued by hand within the next minute \
             is refused too, because certificates are dated back by that much",
            info.identity
        ));
    } else {
        notes.push(
            "certificates that were renewed have other numbers: if its key may be known to others, revoke all \
             of its holder (user:NAME, node:NAME)"
                .to_owned(),
        );
    }
    let whose = if info.serial.is_empty() { &info.identity } else { &info.whose };
    if whose.starts_with("scheduler:") {
        notes.push(
            "schedulers refuse it, but workers and clients do not know the list: if its key may be known to \
             others, replace the authority too (flyball pki rotate)"
                .to_owned(),
        );
    }
    notes
}

impl List {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let mut clients = context.clients().await?;
        let revoked = clients.certificates.list_revoked(ListRevokedRequest {}).await?;
        let revoked = revoked.into_inner().revoked;
        match context.format() {
            Format::Json | Format::Yaml => {
                let items: Vec<Value> = revoked.iter().map(document).collect();
                context.out.document(&json!({ "kind": "List", "items": items }))?;
            }
            Format::Name => {
                revoked.iter().try_for_each(|info| context.out.line(name(info)))?;
            }
            Format::Table | Format::Wide if revoked.is_empty() => {
                context.out.note("no certificate is revoked");
            }
            Format::Table | Format::Wide => {
                let mut table = Table::new(["REVOKED", "WHOSE", "AT", "BY", "UNTIL", "REASON"]);
                for info in &revoked {
                    let reason = match info.readable {
                        true => info.reason.as_str(),
                        false => "(the record cannot be read: nothing of this name is taken)",
                    };
                    table.row([
                        name(info).into(),
                        info.whose.as_str().into(),
                        time(info.at_unix_ms).into(),
                        info.by.as_str().into(),
                        time(info.until_unix_ms).into(),
                        reason.into(),
                    ]);
                }
                context.out.table(&mut table)?;
            }
        }
        Ok(Exit::Ok)
    }
}

fn name(info: &RevokedInfo) -> String {
    if info.serial.is_empty() { info.identity.clone() } else { format!("serial:{}", info.serial) }
}

/// Empty for none.
fn time(millis: i64) -> String {
    let at = Timestamp::from_millisecond(millis).ok().filter(|_| millis > 0);
    at.map_or_else(String::new, |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn document(info: &RevokedInfo) -> Value {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "serial": given(&info.serial),
        "identity": given(&info.identity),
        "whose": given(&info.whose),
        "reason": info.reason,
        "by": info.by,
        "at": given(&time(info.at_unix_ms)),
        "until": given(&time(info.until_unix_ms)),
        "readable": info.readable,
    })
}
