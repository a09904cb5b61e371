//! `flyball quota`: what providers' accounts allow in a minute, who has it, and who waits.

use clap::{Args, Subcommand};
use flyball_core::model::QuotaReport;
use flyball_proto::v1::ListQuotasRequest;

use super::context::Context;
use crate::output::{Format, Table};
use crate::{Exit, Failure, Outcome, objects};

/// Arguments of `quota`.
#[derive(Debug, Clone, Args)]
pub struct Quota {
    #[command(subcommand)]
    action: Action,
}

/// What can be done with quotas.
#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Show each provider's pool, and the runs that wait for it.
    List,
}

impl Quota {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.action {
            Action::List => list(context).await,
        }
    }
}

async fn list(context: &mut Context<'_>) -> Outcome {
    let mut clients = context.clients().await?;
    let quotas = clients.quotas.list(ListQuotasRequest {}).await?.into_inner().quotas_json;
    let headers = ["PROVIDER", "REQUESTS/MIN", "TOKENS/MIN", "REFUSALS", "PAUSE", "WAITING"];
    let mut table = Table::new(headers);
    for json in &quotas {
        let one: QuotaReport =
            serde_json::from_slice(json).map_err(|error| Failure::unreadable("quota", error))?;
        match context.format() {
            Format::Json | Format::Yaml => context.out.stream_document(&objects::json(json)?)?,
            Format::Name => context.out.line(format!("provider/{}", one.provider))?,
            Format::Table | Format::Wide => table.row([
                one.provider.as_str().into(),
                of(one.requests_out, one.requests).into(),
                of(one.tokens_out, one.tokens).into(),
                one.refusals.to_string().into(),
                pause(one.pause_ms).into(),
                waiting(&one).into(),
            ]),
        }
    }
    if quotas.is_empty() && !context.format().is_structured() {
        context.out.note("no providers");
    }
    context.out.table(&mut table)?;
    Ok(Exit::Ok)
}

fn of(out: u64, most: Option<u64>) -> String {
    most.map_or_else(|| "not bounded".to_owned(), |most| format!("{out} of {most}"))
}

fn pause(millis: u64) -> String {
    if millis == 0 { String::new() } else { format!("{} s", millis.div_ceil(1000)) }
}

/// The first ones by name, and how many more.
fn waiting(one: &QuotaReport) -> String {
    const SHOWN: usize = 3;
    let mut names: Vec<&str> = one.waiting.iter().map(|one| one.of.as_str()).collect();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_say_what_bounds_them() {
        assert_eq!(of(3, Some(10)), "3 of 10");
        assert_eq!(of(3, None), "not bounded");
        assert_eq!(pause(0), "");
    }
}
