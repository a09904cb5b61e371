//! The service `Budgets`: slices for workers, numbers and extensions for people. What is decided is decided by the
//! store's transactions.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use flyball_core::ids::{LoopKey, Token};
use flyball_core::manifest::FieldError;
use flyball_core::model::{AMOUNT_MAX, Amount, BudgetReport, DrawSlice, Extension, Limits, Money};
use flyball_proto::v1::budgets_server::Budgets;
use flyball_proto::v1::draw_budget_response::Answer;
use flyball_proto::v1::{
    BudgetObject, DrawBudgetRequest, DrawBudgetResponse, ExtendBudgetRequest,
    ExtendNamespaceBudgetRequest, GetBudgetRequest, GetNamespaceBudgetRequest, ListBudgetsRequest,
    ListBudgetsResponse, ListNamespaceBudgetsRequest, SettleBudgetRequest, SettleBudgetResponse,
    SpendAmount,
};
use flyball_store::{DrewSlice, Extended, RunProof, SettledSlice};
use tokio::sync::{Mutex, MutexGuard};
use tonic::{Code, Request, Response, Status};

use super::Api;
use super::access::caller;
use super::apply::key_of;
use super::error::{invalid, invalid_field, no_loop, of_store, status};

/// Longest name of a slice or a request, in bytes: they are kept, some of each loop.
const ID_BYTES_MAX: usize = 128;

/// How many requests about budgets this process lets write at the same time.
const TURNS: usize = 32;

/// One request about a namespace's budgets at a time, so that those of one process do not refuse each other's
/// transactions all the time. Nothing depends on it: other schedulers write too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<[Mutex<()>; TURNS]>);

impl Turns {
    pub(super) async fn take(&self, of: &str) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        of.hash(&mut hasher);
        #[expect(clippy::cast_possible_truncation, reason = "any of them will do")]
        let at = hasher.finish() as usize % TURNS;
        self.0[at].lock().await
    }
}

#[tonic::async_trait]
impl Budgets for Api {
    async fn draw(
        &self,
        request: Request<DrawBudgetRequest>,
    ) -> Result<Response<DrawBudgetResponse>, Status> {
        let DrawBudgetRequest { run, slice, least, want } = request.into_inner();
        let run = run_of(run)?;
        let wish = DrawSlice {
            uid: run.uid.clone(),
            token: run.token,
            id: id_of("slice", slice)?,
            least: amount_of("least", least.as_ref())?,
            want: amount(want.as_ref()),
        };
        let turn = self.about.turns.take(&run.key.namespace).await;
        let drew = self.store.draw_slice(&run, &wish).await.map_err(|error| of_store(&error))?;
        drop(turn);
        let answer = match drew {
            DrewSlice::Granted(granted) => Answer::Granted(wire(granted)),
            DrewSlice::Ended(ended) => {
                tracing::info!(r#loop = %run.key, scope = %ended.scope, used = %ended.used, "a budget has ended");
                Answer::EndedJson(serde_json::to_vec(&ended).unwrap_or_default().into())
            }
            DrewSlice::Closed => {
                let message = format!("slice {} was closed before", wish.id);
                return Err(status(Code::FailedPrecondition, "SLICE_CLOSED", message));
            }
            DrewSlice::NotItsRun => return Err(not_its_run(&run)),
        };
        Ok(Response::new(DrawBudgetResponse { answer: Some(answer) }))
    }

    async fn settle(
        &self,
        request: Request<SettleBudgetRequest>,
    ) -> Result<Response<SettleBudgetResponse>, Status> {
        let SettleBudgetRequest { run, slice, used } = request.into_inner();
        let (run, slice) = (run_of(run)?, id_of("slice", slice)?);
        let turn = self.about.turns.take(&run.key.namespace).await;
        let settled = self.store.settle_slice(&run, &slice, amount(used.as_ref())).await;
        drop(turn);
        match settled.map_err(|error| of_store(&error))? {
            SettledSlice::Done => Ok(Response::new(SettleBudgetResponse {})),
            SettledSlice::NotItsRun => Err(not_its_run(&run)),
        }
    }

    async fn get(
        &self,
        request: Request<GetBudgetRequest>,
    ) -> Result<Response<BudgetObject>, Status> {
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.r#loop)?;
        self.budget_object(&key).await.map(Response::new)
    }

    async fn list(
        &self,
        request: Request<ListBudgetsRequest>,
    ) -> Result<Response<ListBudgetsResponse>, Status> {
        let namespace = request.into_inner().namespace;
        let accounts = self.store.list_loop_accounts(&namespace).await;
        let accounts = accounts.map_err(|error| of_store(&error))?;
        let views = self.core.ask(move |reactor, _| {
            reactor.loop_views(&namespace).map(|view| view.record).collect::<Vec<_>>()
        });
        let mut budgets = Vec::new();
        for record in views.await? {
            let account =
                accounts.iter().find(|(key, one)| *key == record.key && one.uid == record.uid);
            let account = account.map(|(_, account)| account.clone()).unwrap_or_default();
            // Loops that are not bounded and have called nothing have nothing to show.
            if !record.spec.budget.is_none() || !account.used().is_zero() {
                let report = BudgetReport::of_loop(&record.spec.budget, &account);
                budgets.push(object(&record.key.namespace, &record.key.name, &report));
            }
        }
        Ok(Response::new(ListBudgetsResponse { budgets }))
    }

    async fn extend(
        &self,
        request: Request<ExtendBudgetRequest>,
    ) -> Result<Response<BudgetObject>, Status> {
        let by = caller(&request)?.to_string();
        let request = request.into_inner();
        let key = key_of(&request.namespace, &request.r#loop)?;
        let extension = self.extension(by, request.request_id, request.by.as_ref())?;
        let turn = self.about.turns.take(&key.namespace).await;
        let extended = self.store.extend_loop(&key, &extension).await;
        drop(turn);
        match extended.map_err(|error| of_store(&error))? {
            Extended::Done => self.budget_object(&key).await.map(Response::new),
            Extended::Missing => Err(no_loop(&key)),
            Extended::Unbounded(limits) => Err(unbounded("spec.budget", limits, extension.amount)),
        }
    }

    async fn get_namespace(
        &self,
        request: Request<GetNamespaceBudgetRequest>,
    ) -> Result<Response<BudgetObject>, Status> {
        self.namespace_object(&request.into_inner().namespace).await.map(Response::new)
    }

    async fn list_namespaces(
        &self,
        request: Request<ListNamespaceBudgetsRequest>,
    ) -> Result<Response<ListBudgetsResponse>, Status> {
        let wanted = request.into_inner().namespace;
        let found = self.store.list_namespace_budgets().await.map_err(|error| of_store(&error))?;
        let found = found.iter().filter(|(name, ..)| wanted.is_empty() || *name == wanted);
        let budgets = found.map(|(name, budget, account)| {
            object(name, "", &BudgetReport::of_namespace(budget, account))
        });
        Ok(Response::new(ListBudgetsResponse { budgets: budgets.collect() }))
    }

    async fn extend_namespace(
        &self,
        request: Request<ExtendNamespaceBudgetRequest>,
    ) -> Result<Response<BudgetObject>, Status> {
        let by = caller(&request)?.to_string();
        let request = request.into_inner();
        let namespace = request.namespace;
        let extension = self.extension(by, request.request_id, request.by.as_ref())?;
        let turn = self.about.turns.take(&namespace).await;
        let extended = self.store.extend_namespace(&namespace, &extension).await;
        drop(turn);
        match extended.map_err(|error| of_store(&error))? {
            Extended::Done => self.namespace_object(&namespace).await.map(Response::new),
            Extended::Missing => Err(no_budget(&namespace)),
            Extended::Unbounded(limits) => Err(unbounded("spec", limits, extension.amount)),
        }
    }
}

impl Api {
    async fn budget_object(&self, key: &LoopKey) -> Result<BudgetObject, Status> {
        let state = self.store.loop_budget(key).await.map_err(|error| of_store(&error))?;
        let state = state.ok_or_else(|| no_loop(key))?;
        let report = BudgetReport::of_loop(&state.record.spec.budget, &state.account);
        Ok(object(&key.namespace, &key.name, &report))
    }

    async fn namespace_object(&self, namespace: &str) -> Result<BudgetObject, Status> {
        let found = self.store.list_namespace_budgets().await.map_err(|error| of_store(&error))?;
        let found = found.iter().find(|(name, ..)| name == namespace);
        let (_, budget, account) = found.ok_or_else(|| no_budget(namespace))?;
        Ok(object(namespace, "", &BudgetReport::of_namespace(budget, account)))
    }

    fn extension(
        &self,
        by: String,
        id: String,
        more: Option<&SpendAmount>,
    ) -> Result<Extension, Status> {
        let (id, amount) = (id_of("request_id", id)?, amount_of("by", more)?);
        if amount.is_zero() {
            return Err(invalid_field("by", "must be more than nothing"));
        }
        Ok(Extension { id, by, at: self.about.ambient.now(), amount })
    }
}

fn object(namespace: &str, name: &str, report: &BudgetReport) -> BudgetObject {
    BudgetObject {
        namespace: namespace.to_owned(),
        r#loop: name.to_owned(),
        // Plain data with text keys always serialises.
        budget_json: serde_json::to_vec(report).unwrap_or_default().into(),
    }
}

fn run_of(run: Option<flyball_proto::v1::RunProof>) -> Result<RunProof, Status> {
    let run = run.ok_or_else(|| invalid_field("run", "is missing"))?;
    Ok(RunProof {
        key: key_of(&run.namespace, &run.r#loop)?,
        uid: run.uid.into(),
        node: run.node.into(),
        incarnation: run.incarnation.into(),
        token: Token(run.token),
    })
}

pub(super) fn id_of(field: &str, id: String) -> Result<String, Status> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        let message = format!("must be 1 to {ID_BYTES_MAX} bytes long");
        return Err(invalid_field(field, message));
    }
    Ok(id)
}

fn amount(wire: Option<&SpendAmount>) -> Amount {
    wire.map_or_else(Amount::default, |wire| Amount {
        tokens: wire.tokens,
        money: Money(wire.money_micros),
        calls: wire.calls,
    })
}

/// One that is counted on exactly.
fn amount_of(field: &str, wire: Option<&SpendAmount>) -> Result<Amount, Status> {
    let amount = amount(wire);
    let parts =
        [("tokens", amount.tokens), ("money_micros", amount.money.0), ("calls", amount.calls)];
    let large = parts.iter().filter(|(_, part)| *part > AMOUNT_MAX);
    let errors: Vec<FieldError> = large
        .map(|(part, found)| {
            let message = format!("must be at most {AMOUNT_MAX}");
            FieldError::new(format!("{field}.{part}"), message).found(found.to_string())
        })
        .collect();
    if errors.is_empty() { Ok(amount) } else { Err(invalid(&errors)) }
}

fn wire(amount: Amount) -> SpendAmount {
    SpendAmount { tokens: amount.tokens, money_micros: amount.money.0, calls: amount.calls }
}

fn not_its_run(run: &RunProof) -> Status {
    let message = format!("{} does not run loop {} under token {}", run.node, run.key, run.token);
    status(Code::PermissionDenied, "NOT_ITS_RUN", message)
}

fn no_budget(namespace: &str) -> Status {
    let message = format!("namespace {namespace} has no budget; apply a manifest of kind Budget");
    status(Code::NotFound, "BUDGET_NOT_FOUND", message)
}

/// What is not bounded needs no extension.
fn unbounded(path: &str, limits: Limits, by: Amount) -> Status {
    let missing = [
        ("tokens", by.tokens > 0 && limits.tokens.is_none()),
        ("money", by.money > Money::ZERO && limits.money.is_none()),
        ("calls", by.calls > 0 && limits.calls.is_none()),
    ];
    let missing: Vec<&str> =
        missing.iter().filter(|(_, one)| *one).map(|(name, _)| *name).collect();
    let message =
        format!("there is no bound on {} to raise: {path} has {limits}", missing.join(" and "));
    status(Code::FailedPrecondition, "NOT_BOUNDED", message)
}
