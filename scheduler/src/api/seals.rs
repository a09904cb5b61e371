//! Journals that are still to be sealed, and the operator's way out: a duty that nobody can fulfil any
//! more is given up, with who and why on record. The leader acts on the record.

use std::sync::Arc;

use flyball_core::identity::Identity;
use flyball_core::ids::{LoopUid, Token};
use flyball_core::seal::{GivenUp, SealDuty};
use flyball_proto::v1::{
    AbandonSealRequest, ListSealsRequest, ListSealsResponse, SealInfo, UnsealedRun,
};
use flyball_store::{Change, StoreError, Stored, Update};
use tonic::{Code, Status};

use super::Api;
use super::error::{contended, invalid_field, of_store, status};
use crate::reactor::{DutyView, Event};

/// Tries against others who write the same record.
const TRIES_MAX: u32 = 8;

/// Longest reason, and longest name of who gives it: a line for people, kept in an event and shown in
/// tables.
const TEXT_BYTES_MAX: usize = 512;

impl Api {
    pub(super) async fn seals(
        &self,
        request: ListSealsRequest,
    ) -> Result<ListSealsResponse, Status> {
        let views = self.core.ask(move |reactor, _| reactor.duty_views(&request.namespace)).await?;
        Ok(ListSealsResponse { seals: views.into_iter().map(seal_info).collect() })
    }

    pub(super) async fn abandon_seal(
        &self,
        request: AbandonSealRequest,
        who: Option<Identity>,
    ) -> Result<SealInfo, Status> {
        let reason = text("reason", &request.reason)?;
        let by = match who {
            // Proven by the connection; what the request says is not.
            Some(who @ Identity::User(_)) => who.to_string(),
            _ => text("by", &request.by)?,
        };
        let uid = LoopUid(request.uid);
        let wanted = uid.clone();
        let views = self.core.ask(move |reactor, _| reactor.duty_views("")).await?;
        let Some(mut view) = views.into_iter().find(|view| view.uid == wanted) else {
            let message = format!("nothing is to be sealed of a loop with uid {uid:?}");
            return Err(status(Code::NotFound, "SEAL_NOT_FOUND", message));
        };
        let through = view.runs.iter().map(|run| run.token).max().unwrap_or(Token(0));
        let at = Some(self.about.ambient.now());
        let given_up = GivenUp { through, by, reason, at };
        self.record_given_up(&view, &given_up).await?;
        view.given_up = Some(given_up);
        Ok(seal_info(view))
    }

    async fn record_given_up(&self, view: &DutyView, given_up: &GivenUp) -> Result<(), Status> {
        let uid = &view.uid;
        for _ in 0..TRIES_MAX {
            let found = self.store.get_duty(uid).await.map_err(|error| of_store(&error))?;
            let revision = found.as_ref().map_or(0, |found| found.mod_revision);
            let created = found.as_ref().map_or(0, |found| found.create_revision);
            if found.is_none() && view.removed {
                // Sealed in the meantime.
                return Ok(());
            }
            let mut duty = found.map_or_else(
                || SealDuty {
                    loop_uid: uid.clone(),
                    loop_key: view.key.to_string(),
                    since: given_up.at,
                    ..SealDuty::default()
                },
                |found| SealDuty::clone(&found.value),
            );
            if duty.given_up.as_ref().is_some_and(|before| before.through >= given_up.through) {
                return Ok(());
            }
            duty.given_up = Some(given_up.clone());
            match self.store.put_duty(&duty, revision).await {
                Ok(Update::Done { revision }) => {
                    let create_revision = if created == 0 { revision } else { created };
                    let value = Arc::new(duty);
                    let stored =
                        Stored { value, mod_revision: revision, create_revision, lease: 0 };
                    let changes = vec![Change::Duty(uid.clone(), Some(stored))];
                    self.core.tell(Event::Written { revision, changes }).await?;
                    return Ok(());
                }
                Ok(Update::Conflict(_)) | Err(StoreError::Unknown { .. }) => {}
                Err(error) => return Err(of_store(&error)),
            }
        }
        Err(contended(&format!("the seal duty of {uid}")))
    }
}

fn text(field: &str, value: &str) -> Result<String, Status> {
    let value = value.trim();
    if value.is_empty() {
        return Err(invalid_field(field, "is missing: it is recorded with what is given up"));
    }
    if value.len() > TEXT_BYTES_MAX {
        let message =
            format!("is {} bytes long, at most {TEXT_BYTES_MAX} are allowed", value.len());
        return Err(invalid_field(field, message));
    }
    Ok(value.to_owned())
}

fn seal_info(view: DutyView) -> SealInfo {
    let runs = view.runs.into_iter().map(|run| UnsealedRun {
        token: run.token.0,
        repository: run.repository,
        resources: run.resources,
    });
    let given_up = view.given_up.unwrap_or_default();
    SealInfo {
        uid: view.uid.0,
        namespace: view.key.namespace,
        r#loop: view.key.name,
        removed: view.removed,
        runs: runs.collect(),
        since_unix_ms: view.since.map_or(0, |since| since.as_millisecond()),
        given_up_by: given_up.by,
        given_up_reason: given_up.reason,
    }
}
