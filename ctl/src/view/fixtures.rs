//! Objects for the tests of the views, read from JSON as a client reads them.

use flyball_proto::v1::{ClaimInfo, Event};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::objects::{LoopDocument, NodeDocument};

pub(crate) fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn document(status: Value, name: &str) -> LoopDocument {
    let object = json!({
        "apiVersion": "flyball.dev/v1",
        "kind": "Loop",
        "metadata": {
            "name": name, "namespace": "default", "labels": { "team": "core" },
            "uid": "5b0f9d52", "generation": 1, "creationTimestamp": "2026-03-01T11:57:00Z",
        },
        "spec": {
            "goal": "All tests pass.\nNothing else changes.",
            "workspace": { "git": {
                "url": "https://example.org/team/app.git", "ref": "main",
                "publish": { "branch": "flyball/fix-tests" },
            }},
            "owns": ["src/**", { "resource": "docs/*", "access": "read" }],
            "pins": ["tests/**"],
            "needs": { "cpu": "500m", "memory": "1Gi", "custom": { "gpu": 1 } },
            "checks": [
                { "name": "test", "run": "cargo test", "score": { "libtest": {} } },
                { "name": "lint", "run": ["cargo", "clippy"], "timeout": "2m" },
            ],
            "agent": { "command": "agent --once" },
            "ttlAfterFinished": "168h",
        },
        "status": status,
    });
    serde_json::from_value(object).unwrap()
}

pub(crate) fn running() -> LoopDocument {
    document(
        json!({
            "phase": "Running", "reason": "None", "message": "iteration 3: the agent works",
            "observedGeneration": 1, "node": "node-1", "incarnation": "i-1", "runs": 2,
            "runsLost": 1, "since": "2026-03-01T11:58:00Z", "startedAt": "2026-03-01T11:57:05Z",
            "conditions": [{
                "type": "AtomicPushSupported", "status": true, "message": "probed",
                "since": "2026-03-01T11:58:00Z",
            }],
            "progress": {
                "iterations": 2, "accepted": 1, "runMs": 95_500, "initialDistance": 1_500_000,
                "bestDistance": 250_000, "distance": 250_000, "failing": ["test"],
                "checkpoint": "0123456789abcdef0123456789abcdef01234567",
                "base": "89abcdef0123456789abcdef0123456789abcdef", "activity": "agent",
                "recent": [
                    {
                        "number": 1, "token": 41, "node": "node-2", "before": 1_500_000,
                        "after": 250_000, "decision": "Kept", "reason": "distance 1.50 to 0.25",
                        "failing": ["test"], "files": 1, "lines": 12,
                        "checkpoint": "0123456789abcdef0123456789abcdef01234567",
                        "durationMs": 12_345, "endedAt": "2026-03-01T11:57:30Z",
                    },
                    {
                        "number": 2, "token": 57, "node": "node-1", "before": 250_000,
                        "after": 1_000_000, "decision": "Reverted",
                        "reason": "regression: distance 0.25 to 1.00", "failing": ["lint", "test"],
                        "files": 2, "lines": 40, "durationMs": 8_000,
                        "endedAt": "2026-03-01T11:59:00Z",
                    },
                ],
            },
        }),
        "fix-tests",
    )
}

pub(crate) fn unreachable() -> LoopDocument {
    document(
        json!({
            "phase": "Unreachable", "reason": "NoProgress", "observedGeneration": 1,
            "message": "4 iterations without progress", "node": "node-2", "runs": 1,
            "evidence": ["test fails: 2 of 8 cases (a, b)", "tried: 4 changes, none kept"],
            "finishedAt": "2026-03-01T11:59:30Z",
            "progress": {
                "iterations": 4, "initialDistance": 250_000, "bestDistance": 250_000,
                "distance": 250_000, "failing": ["test"], "runMs": 61_000,
            },
        }),
        "impossible",
    )
}

pub(crate) fn waiting() -> LoopDocument {
    document(
        json!({
            "phase": "Pending", "reason": "ResourcesOwned",
            "message": "default/fix-tests owns git:example.org/team/app/src/**",
        }),
        "second",
    )
}

pub(crate) fn node() -> NodeDocument {
    let object = json!({
        "kind": "Node",
        "metadata": { "name": "node-1" },
        "node": {
            "name": "node-1",
            "facts": {
                "labels": { "zone": "a" }, "slots": 4, "version": "0.1.0",
                "capacity": { "cpu": "8", "memory": "16Gi", "disk": "100Gi", "custom": { "gpu": 2 } },
                "abilities": {
                    "containment": "user-pid-namespace", "weakerBecause": ["PID namespace: EPERM"],
                    "memoryLocked": true, "landlockAbi": 7, "seccomp": true,
                    "userNamespaces": true, "kernel": "6.12.1", "git": "2.39.5",
                    "driftPpm": 20_000, "killBudgetMs": 500,
                },
            },
            "mark": "Draining", "markReason": "kernel update", "markBy": "alice@desk",
            "markAt": "2026-03-01T11:50:00Z", "markDeadline": "2026-03-01T12:50:00Z", "incarnation": "i-1",
            "seenAt": "2026-03-01T10:00:00Z",
        },
        "status": {
            "online": true, "runs": ["default/fix-tests"], "incarnation": "i-1", "leaseTtl": 5,
            "used": { "cpu": "500m", "memory": "1Gi", "custom": { "gpu": 1 } },
            "free": { "cpu": "7500m", "memory": "15Gi", "disk": "100Gi", "custom": { "gpu": 1 } },
        },
    });
    serde_json::from_value(object).unwrap()
}

pub(crate) fn node_away() -> NodeDocument {
    let object = json!({
        "kind": "Node",
        "metadata": { "name": "node-2" },
        "node": {
            "name": "node-2", "facts": { "slots": 2, "version": "0.1.0", "capacity": { "cpu": 4 } },
            "incarnation": "i-2", "seenAt": "2026-03-01T11:55:00Z",
        },
        "status": { "online": false },
    });
    serde_json::from_value(object).unwrap()
}

pub(crate) fn claim() -> ClaimInfo {
    ClaimInfo {
        namespace: "default".to_owned(),
        r#loop: "fix-tests".to_owned(),
        uid: "5b0f9d52".to_owned(),
        node: "node-1".to_owned(),
        incarnation: "i-1".to_owned(),
        token: 57,
        resources: vec![
            "git:example.org/team/app/src/**".to_owned(),
            "git:example.org/team/app/docs/* (read)".to_owned(),
        ],
        since_unix_ms: now().as_millisecond() - 120_000,
        lease_id: 0x2a,
        lease_ttl_seconds: 5,
        deadline_left_ms: Some(5380),
    }
}

pub(crate) fn events() -> Vec<Event> {
    let event = |seconds: i64, reason: &str, message: &str| Event {
        unix_ms: now().as_millisecond() - seconds * 1000,
        namespace: "default".to_owned(),
        r#loop: "fix-tests".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        node: "node-1".to_owned(),
    };
    vec![
        event(120, "Assigned", "to node-1 under token 57"),
        event(60, "IterationReverted", "iteration 2: distance 0.25 to 1.00"),
    ]
}
