//! The service `Server`: who answers here, and how it is.

use std::time::Duration;

use flyball_core::diagnosis::{Area, Finding};
use flyball_proto::v1::server_server::Server;
use flyball_proto::v1::{DiagnoseRequest, DiagnoseResponse, InfoRequest, InfoResponse};
use jiff::Timestamp;
use tonic::{Request, Response, Status};

use super::Api;
use crate::diagnose::Itself;
use crate::diagnose::certificates::Certificates;
use crate::findings::{self, Severity};

/// Longest wait for the list of those that sign.
const SIGNERS_WAIT_MAX: Duration = Duration::from_secs(2);

#[tonic::async_trait]
impl Server for Api {
    async fn info(&self, _: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        let itself = self.itself().await?;
        let (leader_id, leader_address) = itself.leader;
        Ok(Response::new(InfoResponse {
            version: itself.version,
            installation: self.about.installation.to_string(),
            leader: itself.leads,
            store: self.about.store.clone(),
            leader_id,
            leader_address,
        }))
    }

    async fn diagnose(
        &self,
        request: Request<DiagnoseRequest>,
    ) -> Result<Response<DiagnoseResponse>, Status> {
        let itself = self.itself().await?;
        let nodes = self.core.ask(|reactor, _| reactor.node_statuses()).await?;
        let (measure, now) = (request.get_ref().measure, self.about.ambient.now());
        // On the heap: its questions to the store run at the same time.
        let mut diagnosis =
            Box::pin(self.doctor.diagnose(&self.store, &itself, &nodes, measure, now)).await;
        diagnosis.findings.extend(self.of_certificates(now).await);
        diagnosis.findings.extend(conditions(self.findings.list()));
        Ok(Response::new(DiagnoseResponse {
            // Plain data with text keys always serialises.
            diagnosis_json: serde_json::to_vec(&diagnosis).unwrap_or_default().into(),
            unix_ms: self.about.ambient.now().as_millisecond(),
        }))
    }
}

/// The named conditions that hold now; their section is the last one.
fn conditions((holding, left_out): (Vec<findings::Finding>, u64)) -> Vec<Finding> {
    let of = |one: findings::Finding| {
        let since = one.since.strftime("%Y-%m-%d %H:%M:%SZ");
        let message = format!("{} (since {since})", one.message);
        let finding = match one.severity {
            Severity::Warning => {
                Finding::warning(Area::Condition, one.name, message, &one.next_step)
            }
            Severity::Error => Finding::error(Area::Condition, one.name, message, &one.next_step),
        };
        finding.about(one.subject)
    };
    let mut told: Vec<Finding> = holding.into_iter().map(of).collect();
    if told.is_empty() {
        told.push(Finding::ok(Area::Condition, "Conditions", "none holds"));
    }
    if left_out > 0 {
        let message = format!("{left_out} more were raised than there was room for");
        let next = "look at this scheduler's log";
        told.push(Finding::warning(Area::Condition, "ConditionsLeftOut", message, next));
    }
    told
}

impl Api {
    async fn of_certificates(&self, now: Timestamp) -> Vec<Finding> {
        let asked = tokio::time::timeout(SIGNERS_WAIT_MAX, self.signers()).await;
        let signers = asked.ok().and_then(Result::ok);
        let certificates = Certificates {
            own: self.identity.as_deref(),
            peers: self.open.peers(),
            signers: signers.map(|all| all.into_iter().map(|one| one.address).collect()),
            revoked: &self.revoked.now(),
        };
        certificates.findings(now)
    }

    async fn itself(&self) -> Result<Itself, Status> {
        let (leads, acts, leader) = self
            .core
            .ask(|reactor, _| {
                (reactor.is_leading(), reactor.is_acting(), reactor.leader().cloned())
            })
            .await?;
        let leader = leader.map(|leader| (leader.id, leader.address)).unwrap_or_default();
        let id = self.about.id.clone();
        let leader = if leads { (id.clone(), leader.1) } else { leader };
        Ok(Itself { id, version: env!("CARGO_PKG_VERSION").to_owned(), leads, acts, leader })
    }
}
