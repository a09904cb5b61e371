//! What would become of a model call: the decision that gateways make, over the definitions that are stored.

use flyball_core::governor::Governor;
use flyball_core::ids::LoopKey;
use flyball_core::model::{
    Asked, Definition, DefinitionKind, Features, Protocol, Refused, Routing, Situation,
    SubtaskClass, all_well, choose, classify, preset,
};
use flyball_core::status::Progress;
use flyball_proto::v1::{ExplainRouteRequest, ExplainRouteResponse};
use flyball_store::LoopRecord;
use serde_json::{Value, json};
use tonic::Status;

use super::Api;
use super::apply::key_of;
use super::error::{invalid_field, no_loop, of_store};

/// Names a session where the question names none.
const ANY_SESSION: &str = "explain";

impl Api {
    pub(super) async fn explain_call(
        &self,
        request: ExplainRouteRequest,
    ) -> Result<ExplainRouteResponse, Status> {
        if request.model.is_empty() {
            return Err(invalid_field("model", "must name the model that is asked for"));
        }
        let header = match request.subtask.as_str() {
            "" => None,
            word => Some(class(word)?),
        };
        let (key, found) = self.loop_of(&request).await?;
        let mut situation = found.as_ref().map_or_else(
            || Situation { namespace: key.namespace.clone(), ..Situation::default() },
            |(record, progress)| situation(record, progress),
        );
        situation.stall = request.stall.unwrap_or(situation.stall);
        let protocol = match request.protocol.as_str() {
            "" => self.spoken(found.as_ref().map(|(record, _)| record)).await?,
            word => protocol(word)?,
        };
        // Agents bring tools; what needs none is told by the model's name or --subtask.
        let features = Features { tools: true, max_output: None };
        let subtask = classify(header.map(SubtaskClass::as_str), &request.model, features);
        let session = if request.session.is_empty() { ANY_SESSION } else { &request.session };
        let asked = Asked {
            model: &request.model,
            protocol,
            subtask: &subtask,
            situation: &situation,
            sticky: session,
        };
        let answer = choose(&self.routing().await?, &asked, &all_well);
        let asked = json!({
            "model": request.model, "protocol": protocol, "namespace": situation.namespace,
            "loop": request.r#loop, "labels": situation.labels, "distance": situation.distance,
            "stall": situation.stall, "subtask": subtask.class, "subtaskWhy": subtask.why,
            "session": session,
        });
        let document = match &answer {
            Ok(plan) => json!({ "served": true, "asked": asked, "plan": plan }),
            Err(refused) => json!({ "served": false, "asked": asked, "refused": refusal(refused) }),
        };
        let answer_json = serde_json::to_vec(&document).unwrap_or_default().into();
        Ok(ExplainRouteResponse { served: answer.is_ok(), answer_json })
    }

    /// All routes, and what the providers speak.
    async fn routing(&self) -> Result<Routing, Status> {
        let providers = self.definitions(DefinitionKind::Provider).await?;
        let spoken = providers.iter().filter_map(|record| match &record.manifest {
            Definition::Provider(one) => {
                Some((one.metadata.name.clone(), one.spec.protocols.clone()))
            }
            _ => None,
        });
        Ok(Routing::new(self.model_routes().await?, spoken))
    }

    async fn loop_of(
        &self,
        request: &ExplainRouteRequest,
    ) -> Result<(LoopKey, Option<(LoopRecord, Progress)>), Status> {
        // Checks the namespace also where no loop is named.
        let name = if request.r#loop.is_empty() { "any" } else { &request.r#loop };
        let key = key_of(&request.namespace, name)?;
        if request.r#loop.is_empty() {
            return Ok((key, None));
        }
        let found = self.store.get_loop(&key).await.map_err(|error| of_store(&error))?;
        let (record, status) = found.ok_or_else(|| no_loop(&key))?;
        let progress = status.map(|status| status.value.progress.clone()).unwrap_or_default();
        Ok((key, Some((LoopRecord::clone(&record.value), progress))))
    }

    /// What a loop's agent speaks; where that is not known, what Anthropic's clients do.
    async fn spoken(&self, record: Option<&LoopRecord>) -> Result<Protocol, Status> {
        let Some(agent) = record.and_then(|record| record.spec.agent.as_ref()) else {
            return Ok(Protocol::Anthropic);
        };
        let shipped = agent.uses.as_deref().and_then(preset);
        let agent = match shipped {
            Some(shipped) => Some(shipped),
            None => self.defined_agent(agent).await?,
        };
        Ok(agent.and_then(|agent| agent.protocol).unwrap_or(Protocol::Anthropic))
    }
}

fn situation(record: &LoopRecord, progress: &Progress) -> Situation {
    let governor = Governor::restore(&record.spec.governor, &progress.governor);
    Situation {
        namespace: record.key.namespace.clone(),
        labels: record.labels.clone(),
        distance: progress.best_distance,
        stall: governor.stalled(),
    }
}

fn refusal(refused: &Refused) -> Value {
    let mut document = json!(refused);
    document["message"] = json!(refused.to_string());
    document["reasons"] = json!(refused.reasons());
    document
}

fn class(word: &str) -> Result<SubtaskClass, Status> {
    let words = SubtaskClass::ALL.map(SubtaskClass::as_str).join(", ");
    SubtaskClass::of(word)
        .ok_or_else(|| invalid_field("subtask", format!("must be one of {words}; found {word:?}")))
}

fn protocol(word: &str) -> Result<Protocol, Status> {
    let words = Protocol::ALL.map(Protocol::as_str).join(", ");
    let found = Protocol::ALL.into_iter().find(|one| one.as_str() == word);
    found
        .ok_or_else(|| invalid_field("protocol", format!("must be one of {words}; found {word:?}")))
}
