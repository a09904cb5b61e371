//! `flyball pki renew`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use flyball_pki::LiveIdentity;
use flyball_proto::renewal;
use flyball_proto::transport::Address;
use serde_json::json;

use super::super::context::Context;
use super::failed;
use crate::output::Format;
use crate::{Exit, Failure, Outcome};

/// Arguments of `pki renew`.
#[derive(Debug, Clone, Args)]
pub(super) struct Renew {
    /// Directory of the identity [default: that of --identity]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Renew {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let dir = self.dir.clone().or_else(|| context.global.identity.clone());
        let none = || Failure::usage("no identity is given: name its directory, or --identity DIR");
        let dir = dir.ok_or_else(none)?;
        let identity = Arc::new(LiveIdentity::open(&dir).map_err(failed)?);
        let address = context.address()?;
        if !matches!(address, Address::Https(_)) {
            let message = format!("{address} is not https://: only there a certificate is shown");
            return Err(Failure::usage(message).hint("name a scheduler: --addr https://host:port"));
        }
        let renewed = renewal::renew(&[address], &identity).await;
        let facts = renewed.map_err(|error| Failure::new("pki", error.to_string()))?;
        let dir = dir.display();
        match context.format() {
            Format::Json | Format::Yaml => context.out.document(&json!({
                "identity": facts.name, "dir": dir.to_string(), "serial": facts.serial,
                "notAfter": facts.not_after.to_string(), "renewalDue": facts.renewal_due().to_string(),
            }))?,
            Format::Name => context.out.line(&facts.name)?,
            Format::Table | Format::Wide => {
                context.out.line(format!("{}: {dir}, until {}", facts.name, facts.not_after))?;
            }
        }
        Ok(Exit::Ok)
    }
}
