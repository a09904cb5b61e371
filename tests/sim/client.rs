//! Clients: they submit loops whose resource sets overlap, and ask until all have ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flyball_core::status::LoopStatus;
use flyball_proto::v1::loops_client::LoopsClient;
use flyball_proto::v1::{
    ApplyRequest, CancelLoopRequest, DeleteLoopRequest, GetLoopRequest, LoopObject,
};
use flyball_tests::history::{Answer, Call, Event};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::chance::Chance;
use crate::site::Site;
use crate::worker::NODE_LABEL;
use crate::{SCHEDULERS, git, net, scheduler};

/// The clients' half of a connection.
pub(crate) type Loops = LoopsClient<Channel>;

/// Parts of the repository, some within others.
const PARTS: [&str; 7] = ["a/**", "a/b/**", "a/b/c", "b/**", "c/**", "c/*/x", "d"];
/// Longest wait for an answer.
const CALL_MAX: Duration = Duration::from_secs(5);

/// Fewest loops that are submitted in one run.
const LOOPS_MIN: u64 = 14;

/// Loops that are submitted over a span: more in long ones, so that faults meet work until the end, and
/// no more than can be done one after the other, as many overlap.
pub(crate) fn loops_in(span: Duration) -> u64 {
    (span.as_secs() * 2 / 5).max(LOOPS_MIN)
}

/// Adds a client that submits loops over `span`, and looks at what it submitted.
pub(crate) fn add(sim: &mut turmoil::Sim<'_>, site: &Arc<Site>, span: Duration) {
    let site = site.clone();
    sim.host("client", move || {
        let site = site.clone();
        async move {
            let chance = Chance::new(site.seed, "client");
            let mut followed = JoinSet::new();
            let loops = loops_in(span);
            for number in 0..loops {
                let pause = u64::try_from(span.as_millis()).expect("short") / loops;
                tokio::time::sleep(Duration::from_millis(chance.between(0, pause * 2))).await;
                let own = Chance::new(site.seed, &format!("client {number}"));
                followed.spawn(follow(site.clone(), number, own));
            }
            // A host whose software has ended stands still.
            followed.join_all().await;
            Ok(())
        }
    });
}

/// Submits one loop and asks for it until it has ended.
async fn follow(site: Arc<Site>, number: u64, chance: Chance) {
    let name = format!("l{number}{}", "x".repeat(usize::try_from(number % 3).expect("small")));
    let manifest = manifest(&name, &owns(&chance), None);
    let key = format!("default/{name}");
    let client = format!("c{number}");
    let digest = format!("{manifest}").len().to_string();
    let mut applied = false;
    loop {
        let host = *chance.pick(&SCHEDULERS);
        let mut loops = connect(host);
        let call = match applied {
            false => Call::Apply { key: key.clone(), digest: digest.clone() },
            true => Call::Get { key: key.clone() },
        };
        let op = site.next_op();
        site.saw(Event::Invoke { op, client: client.clone(), call });
        let answer = match applied {
            false => apply(&mut loops, &manifest).await,
            true => get(&mut loops, &name).await,
        };
        let ended = matches!(&answer, Answer::Object { phase, .. } if phase == "Converged");
        applied |= matches!(&answer, Answer::Object { .. });
        if applied {
            site.view().acknowledged.insert(key.clone());
        }
        site.saw(Event::Return { op, answer });
        if ended {
            return;
        }
        tokio::time::sleep(Duration::from_millis(chance.between(1000, 5000))).await;
    }
}

/// Connects when it is used.
pub(crate) fn connect(scheduler: &str) -> Loops {
    LoopsClient::new(net::lazy(scheduler, scheduler::PORT))
}

/// Parts of the repository that a loop is to own.
fn owns(chance: &Chance) -> Vec<&'static str> {
    let mut owns = vec![*chance.pick(&PARTS)];
    // Entries of one set must not overlap.
    let other = *chance.pick(&PARTS);
    if other.as_bytes()[0] != owns[0].as_bytes()[0] {
        owns.push(other);
    }
    owns
}

/// A loop that owns these parts of the repository, to be run on this node if one is named.
pub(crate) fn manifest(name: &str, owns: &[&str], node: Option<&str>) -> serde_json::Value {
    let labels: BTreeMap<&str, &str> = node.into_iter().map(|node| (NODE_LABEL, node)).collect();
    serde_json::json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": { "name": name },
        "spec": {
            "goal": "be done",
            "workspace": { "git": { "url": git::URL, "ref": "main" } },
            "owns": owns,
            "placement": { "requiredLabels": labels },
            "checks": [{ "name": "ok", "run": "true" }],
            "agent": { "command": "true" },
        },
    })
}

pub(crate) async fn apply(loops: &mut Loops, manifest: &serde_json::Value) -> Answer {
    let manifest_json = serde_json::to_vec(manifest).expect("plain").into();
    let request = ApplyRequest { manifest_json, ..ApplyRequest::default() };
    let answer = tokio::time::timeout(CALL_MAX, loops.apply(request)).await;
    of(answer.map(|answer| answer.map(|answer| answer.into_inner().object.unwrap_or_default())))
}

pub(crate) async fn get(loops: &mut Loops, name: &str) -> Answer {
    let request = GetLoopRequest { namespace: "default".to_owned(), name: name.to_owned() };
    let answer = tokio::time::timeout(CALL_MAX, loops.get(request)).await;
    of(answer.map(|answer| answer.map(tonic::Response::into_inner)))
}

pub(crate) async fn cancel(loops: &mut Loops, name: &str) -> Answer {
    let (namespace, name) = ("default".to_owned(), name.to_owned());
    let request = CancelLoopRequest { namespace, name, ..CancelLoopRequest::default() };
    let answer = tokio::time::timeout(CALL_MAX, loops.cancel(request)).await;
    of(answer.map(|answer| answer.map(tonic::Response::into_inner)))
}

/// An object that says nothing means that it is, or will be, removed.
pub(crate) async fn delete(loops: &mut Loops, name: &str) -> Answer {
    let request = DeleteLoopRequest { namespace: "default".to_owned(), name: name.to_owned() };
    let answer = tokio::time::timeout(CALL_MAX, loops.delete(request)).await;
    let nothing = LoopObject { object_json: "{}".into(), ..LoopObject::default() };
    of(answer.map(|answer| answer.map(|_| nothing)))
}

fn of(answer: Result<Result<LoopObject, Status>, tokio::time::error::Elapsed>) -> Answer {
    match answer {
        Ok(Ok(object)) => object_of(&object),
        Ok(Err(status)) if status.code() == Code::NotFound => Answer::NotFound,
        Ok(Err(status)) if status.code() == Code::InvalidArgument => {
            panic!("the simulation's own manifest is refused: {status}")
        }
        Ok(Err(status)) => Answer::Unknown { message: status.message().to_owned() },
        Err(_) => Answer::Unknown { message: "no answer in time".to_owned() },
    }
}

fn object_of(object: &LoopObject) -> Answer {
    let document: serde_json::Value =
        serde_json::from_slice(&object.object_json).expect("an object");
    let status: LoopStatus = serde_json::from_value(document["status"].clone()).unwrap_or_default();
    let published = status.progress.published.clone().unwrap_or_default();
    Answer::Object {
        uid: object.uid.clone(),
        generation: object.generation,
        digest: String::new(),
        phase: status.phase.to_string(),
        result: if status.phase.is_terminal() { published } else { String::new() },
    }
}
