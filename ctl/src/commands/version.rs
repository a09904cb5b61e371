//! `flyball version`: the versions of client and server.

use clap::Args;
use flyball_proto::v1::{InfoRequest, InfoResponse};
use serde_json::json;

use super::context::Context;
use crate::{Exit, Failure, Outcome};

/// Version of this binary.
const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// Arguments of `version`.
#[derive(Debug, Clone, Args)]
pub struct Version {
    /// Only the client's version; no scheduler is asked.
    #[arg(long)]
    client: bool,
}

impl Version {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        let server = match self.client {
            true => None,
            false => Some(ask(context).await),
        };
        let info = server.as_ref().and_then(|answer| answer.as_ref().ok());
        if context.format().is_structured() {
            let server = info.map(|info| {
                json!({
                    "version": info.version,
                    "installation": info.installation,
                    "store": info.store,
                    "leader": info.leader,
                    "leaderId": info.leader_id,
                })
            });
            context.out.document(&json!({ "client": CLIENT, "server": server }))?;
        } else {
            context.out.line(format!("client: {CLIENT}"))?;
            if let Some(info) = info {
                context.out.line(server_line(info))?;
            }
        }
        match server {
            Some(Err(failure)) => Err(failure),
            _ => Ok(Exit::Ok),
        }
    }
}

async fn ask(context: &Context<'_>) -> Result<InfoResponse, Failure> {
    let mut clients = context.clients().await?;
    Ok(clients.server.info(InfoRequest {}).await?.into_inner())
}

fn server_line(info: &InfoResponse) -> String {
    let role = match (info.leader, info.leader_id.as_str()) {
        (true, _) => "leader".to_owned(),
        (false, "") => "standby, no leader".to_owned(),
        (false, leader) => format!("standby, leader {leader}"),
    };
    format!(
        "server: {} ({role}, store {}, installation {})",
        info.version, info.store, info.installation
    )
}
