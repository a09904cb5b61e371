//! Budgets and quotas over the wire: slices for whoever owns the loop, and what people do about them.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::time::Duration;

use flyball_core::model::{Amount, BudgetEnded, BudgetReport, BudgetScope, QuotaReport};
use flyball_core::status::{Outcome, Phase, Reason};
use flyball_proto::transport::Connection;
use flyball_proto::v1::budgets_client::BudgetsClient;
use flyball_proto::v1::definitions_client::DefinitionsClient;
use flyball_proto::v1::draw_budget_response::Answer;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::quotas_client::QuotasClient;
use flyball_proto::v1::sessions_client::SessionsClient;
use flyball_proto::v1::take_quota_response::Answer as Taken;
use flyball_proto::v1::{
    ApplyDefinitionRequest, Assign, BudgetObject, DrawBudgetRequest, ExtendBudgetRequest,
    GetBudgetRequest, GetLoopRequest, ListQuotasRequest, QuotaLimitedRequest, QuotaRoom,
    ReportGoneRequest, RunProof, SettleBudgetRequest, SpendAmount, TakeQuotaRequest,
};
use flyball_scheduler::StoreChoice;
use support::{PATIENCE, Scheduler, Worker, apply, manifest, outcome, register, until};
use tonic::Code;

fn tokens(tokens: u64) -> Option<SpendAmount> {
    Some(SpendAmount { tokens, ..SpendAmount::default() })
}

fn proof(run: &Assign) -> RunProof {
    RunProof {
        node: "n1".to_owned(),
        incarnation: "i1".to_owned(),
        namespace: run.namespace.clone(),
        r#loop: run.name.clone(),
        uid: run.uid.clone(),
        token: run.token,
    }
}

fn draw(run: &Assign, slice: &str, least: u64) -> DrawBudgetRequest {
    let (slice, least) = (slice.to_owned(), tokens(least));
    DrawBudgetRequest { run: Some(proof(run)), slice, least, want: least }
}

fn report(object: BudgetObject) -> BudgetReport {
    serde_json::from_slice(&object.budget_json).unwrap()
}

async fn get(budgets: &mut BudgetsClient<Connection>) -> BudgetReport {
    let request = GetBudgetRequest { namespace: String::new(), r#loop: "x".to_owned() };
    report(budgets.get(request).await.unwrap().into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_runs_out_is_parked_and_goes_on_when_its_budget_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = Scheduler::start(StoreChoice::Memory, &dir.path().join("s.sock")).await;
    let mut loops = LoopsClient::new(scheduler.connect().await);
    let mut budgets = BudgetsClient::new(scheduler.connect().await);
    let mut worker = Worker::attach(&scheduler, register("n1", "i1")).await;
    let mut bounded = manifest("x", &["gpu:a/1"]);
    bounded["spec"]["budget"] = serde_json::json!({ "tokens": 100 });
    apply(&mut loops, &bounded).await;
    let run = worker.assigned().await;

    let granted = budgets.draw(draw(&run, "1", 60)).await.unwrap().into_inner();
    assert_eq!(granted.answer, Some(Answer::Granted(tokens(60).unwrap())));
    let mut stranger = draw(&run, "2", 1);
    stranger.run.as_mut().unwrap().token -= 1;
    assert_eq!(budgets.draw(stranger).await.unwrap_err().code(), Code::PermissionDenied);
    let ended = budgets.draw(draw(&run, "2", 60)).await.unwrap().into_inner().answer;
    let Some(Answer::EndedJson(json)) = ended else { panic!("{ended:?}") };
    let ended: BudgetEnded = serde_json::from_slice(&json).unwrap();
    assert_eq!((ended.scope, ended.used.tokens), (BudgetScope::Loop, 60));
    let settle =
        SettleBudgetRequest { run: Some(proof(&run)), slice: "1".to_owned(), used: tokens(55) };
    for _ in 0..2 {
        budgets.settle(settle.clone()).await.unwrap();
    }
    let late = budgets.draw(draw(&run, "1", 1)).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);

    let need = Some(Amount { tokens: 60, ..Amount::default() });
    let parked = Outcome { need, ..outcome(Phase::Parked, Reason::Budget) };
    assert_eq!(worker.ended(&run, &parked).await, "");
    until(&mut loops, "x", |status| status.is_some_and(|status| status.phase == Phase::Parked))
        .await;
    let request = GetLoopRequest { namespace: String::new(), name: "x".to_owned() };
    let told = loops.explain(request).await.unwrap().into_inner();
    assert_eq!(told.findings[1], "the loop's budget: 55 tokens used of 100 tokens");
    let step = "give it at least so much more: flyball budget extend x --tokens 15";
    assert_eq!(told.next_steps, [step]);

    let extend = |by: u64, id: &str| ExtendBudgetRequest {
        r#loop: "x".to_owned(),
        by: tokens(by),
        request_id: id.to_owned(),
        ..ExtendBudgetRequest::default()
    };
    for _ in 0..2 {
        let extended = budgets.extend(extend(15, "e1")).await.unwrap().into_inner();
        assert_eq!(report(extended).limits.tokens, Some(115));
    }
    let next = worker.assigned().await;
    assert!(next.token > run.token && next.generation == 1);
    assert_eq!(budgets.settle(settle).await.unwrap_err().code(), Code::PermissionDenied);
    budgets.draw(draw(&next, "1", 60)).await.unwrap_err();
    budgets.draw(draw(&next, "3", 60)).await.unwrap();
    let now = get(&mut budgets).await;
    assert_eq!((now.spent.tokens, now.held.tokens, now.extended.tokens), (55, 60, 15));
    assert_eq!((now.extensions.len(), now.extensions[0].by.as_str()), (1, "owner"));

    // A spec of which only the budget is another is no other work.
    bounded["spec"]["budget"] = serde_json::json!({ "tokens": 500 });
    let applied = apply(&mut loops, &bounded).await;
    assert_eq!((applied.outcome.as_str(), applied.object.unwrap().generation), ("configured", 1));
    assert_eq!(get(&mut budgets).await.limits.tokens, Some(515));
    let money = SpendAmount { money_micros: 1, ..SpendAmount::default() };
    let unbounded = ExtendBudgetRequest { by: Some(money), ..extend(0, "e2") };
    let refused = budgets.extend(unbounded).await.unwrap_err();
    assert!(refused.message().starts_with("there is no bound on money"), "{refused}");
    scheduler.stop().await;
}

fn take(node: &str, slice: &str, requests: u64) -> TakeQuotaRequest {
    let room = Some(QuotaRoom { requests, tokens: 0 });
    TakeQuotaRequest {
        node: node.to_owned(),
        incarnation: format!("{node}-life"),
        provider: "p".to_owned(),
        namespace: "default".to_owned(),
        r#loop: format!("of-{node}"),
        slice: slice.to_owned(),
        needs: room,
        want: room,
        begun: true,
        ..TakeQuotaRequest::default()
    }
}

/// Three nodes share a pool; one dies with a slice in hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_nodes_quota_returns_a_window_after_its_lease() {
    const WINDOW: Duration = Duration::from_secs(1);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let change = |config: &mut flyball_scheduler::Config| config.quota_window = WINDOW;
    let scheduler = Scheduler::start_with(StoreChoice::Memory, &socket, change).await;
    let mut quotas = QuotasClient::new(scheduler.connect().await);
    let provider = serde_json::json!({
        "apiVersion": "flyball.dev/v1", "kind": "Provider", "metadata": { "name": "p" },
        "spec": {
            "baseUrl": "http://127.0.0.1:1/v1", "protocols": ["chat"],
            "quota": { "requestsPerMinute": 4 },
        },
    });
    let manifest_json = provider.to_string().into();
    let request = ApplyDefinitionRequest { manifest_json, dry_run: false };
    DefinitionsClient::new(scheduler.connect().await).apply(request).await.unwrap();
    let first = Worker::attach(&scheduler, register("a", "a-life")).await;
    let _others = [
        Worker::attach(&scheduler, register("b", "b-life")).await,
        Worker::attach(&scheduler, register("c", "c-life")).await,
    ];
    let mut ask = async |request: TakeQuotaRequest| {
        quotas.take(request).await.unwrap().into_inner().answer.unwrap()
    };
    let room = |requests| Taken::Granted(QuotaRoom { requests, tokens: 0 });
    assert_eq!(ask(take("a", "1", 3)).await, room(3));
    assert_eq!(ask(take("b", "1", 1)).await, room(1));
    assert!(matches!(ask(take("c", "1", 2)).await, Taken::WaitMs(_)));
    // It is held as long as its node lives, however long that is.
    let held = std::time::Instant::now();
    while held.elapsed() < WINDOW * 2 {
        assert!(matches!(ask(take("c", "1", 2)).await, Taken::WaitMs(_)));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let gone = std::time::Instant::now();
    let request = ReportGoneRequest {
        node: "a".to_owned(),
        incarnation: "a-life".to_owned(),
        lease_id: first.registered.lease_id,
    };
    SessionsClient::new(scheduler.connect().await).report_gone(request).await.unwrap();
    while ask(take("c", "1", 2)).await != room(2) {
        assert!(gone.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(gone.elapsed() >= WINDOW, "it came back after {:?}", gone.elapsed());
    let mut quotas = QuotasClient::new(scheduler.connect().await);
    let dead = quotas.take(take("a", "2", 1)).await.unwrap_err();
    assert_eq!(dead.code(), Code::PermissionDenied);

    let limited = QuotaLimitedRequest {
        node: "b".to_owned(),
        incarnation: "b-life".to_owned(),
        provider: "p".to_owned(),
        retry_after_ms: Some(60_000),
    };
    quotas.limited(limited).await.unwrap();
    let waits = quotas.take(take("b", "2", 1)).await.unwrap().into_inner();
    assert_eq!(waits.answer, Some(Taken::WaitMs(5_000)));
    let listed = quotas.list(ListQuotasRequest {}).await.unwrap().into_inner().quotas_json;
    let report: QuotaReport = serde_json::from_slice(&listed[0]).unwrap();
    assert_eq!((report.provider.as_str(), report.refusals), ("p", 1));
    assert!(report.pause_ms > 50_000 && report.requests == Some(2), "{report:?}");
    assert_eq!(report.waiting[0].of, "default/of-b");
    scheduler.stop().await;
}
