//! The table move by move, and what each move writes.

use std::fmt::Write as _;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn unsealed(token: i64) -> Unsealed {
    Unsealed {
        loop_uid: LoopUid::from("u1"),
        loop_key: "default/a".to_owned(),
        token: Token(token),
        resources: vec!["git:example.org/r/src/**".to_owned()],
        repository: "https://example.org/r".to_owned(),
    }
}

fn sealed(uid: &str, through: i64) -> LoopEvent {
    LoopEvent::Sealed {
        loop_uid: LoopUid::from(uid),
        repository: unsealed(through).repository,
        through: Token(through),
    }
}

fn outcome(phase: Phase, reason: Reason) -> Outcome {
    Outcome {
        phase,
        reason,
        message: format!("ended {phase}"),
        evidence: vec!["check a fails".to_owned()],
        retry_after_ms: 5000,
        need: None,
    }
}

fn ended(phase: Phase, reason: Reason) -> LoopEvent {
    LoopEvent::Ended { outcome: outcome(phase, reason), progress: progress(3, 1), unproven: None }
}

fn progress(iterations: u32, accepted: u32) -> Progress {
    Progress { iterations, accepted, activity: "agent".to_owned(), ..Progress::default() }
}

fn assigned(node: &str) -> LoopEvent {
    LoopEvent::Assigned {
        node: NodeName::from(node),
        incarnation: Incarnation::from("i1"),
        attempt: AttemptId::from("a1"),
    }
}

fn lost(token: i64) -> LoopEvent {
    LoopEvent::RunLost { unproven: Some(unsealed(token)), message: "node-1 is gone".to_owned() }
}

fn example(kind: EventKind) -> LoopEvent {
    match kind {
        EventKind::Assigned => assigned("node-1"),
        EventKind::Started => LoopEvent::Started,
        EventKind::Progressed => LoopEvent::Progressed(progress(1, 0)),
        EventKind::Ended => ended(Phase::Converged, Reason::None),
        EventKind::RunLost => lost(7),
        EventKind::Blocked => LoopEvent::Blocked {
            reason: Reason::ResourcesOwned,
            message: "default/b owns src".to_owned(),
        },
        EventKind::ParkDue => LoopEvent::ParkDue,
        EventKind::Resumed => LoopEvent::Resumed { message: "by ann".to_owned() },
        EventKind::Held => LoopEvent::Held { message: "by ann".to_owned() },
        EventKind::Respecified => LoopEvent::Respecified { generation: 2 },
        EventKind::CancelRequested => LoopEvent::CancelRequested { reason: "enough".to_owned() },
        EventKind::Sealed => sealed("u1", 7),
    }
}

fn in_phase(phase: Phase) -> LoopStatus {
    let reason = if phase == Phase::Parked { Reason::Backoff } else { Reason::None };
    LoopStatus { phase, reason, ..LoopStatus::default() }
}

/// Applies events in order, one second apart.
fn run(events: &[LoopEvent]) -> LoopStatus {
    events.iter().zip(1..).fold(LoopStatus::default(), |status, (event, second)| {
        apply(&status, event, at(second)).unwrap()
    })
}

#[test]
fn the_whole_table() {
    let mut found = String::new();
    for kind in EventKind::ALL {
        for phase in PHASES {
            let names: Vec<String> = targets(phase, kind).iter().map(Phase::to_string).collect();
            if !names.is_empty() {
                writeln!(found, "{kind}: {phase} -> {}", names.join(" ")).unwrap();
            }
        }
    }
    let endings = "Pending Parked Converged Unreachable Exhausted Failed Cancelled";
    let expected = format!(
        "Assigned: Pending -> Assigned
Started: Assigned -> Running
Started: Running -> Running
Progressed: Assigned -> Running
Progressed: Running -> Running
Ended: Assigned -> {endings}
Ended: Running -> {endings}
RunLost: Assigned -> Pending Parked
RunLost: Running -> Pending Parked
Blocked: Pending -> Pending
ParkDue: Parked -> Pending
Resumed: Parked -> Pending
Held: Pending -> Parked
Held: Assigned -> Assigned
Held: Running -> Running
Held: Parked -> Parked
Respecified: Pending -> Pending
Respecified: Assigned -> Assigned
Respecified: Running -> Running
Respecified: Parked -> Pending
Respecified: Converged -> Pending
Respecified: Unreachable -> Pending
Respecified: Exhausted -> Pending
Respecified: Failed -> Pending
Respecified: Cancelled -> Pending
CancelRequested: Pending -> Cancelled
CancelRequested: Assigned -> Assigned
CancelRequested: Running -> Running
CancelRequested: Parked -> Cancelled
Sealed: Pending -> Pending
Sealed: Assigned -> Assigned
Sealed: Running -> Running
Sealed: Parked -> Parked
Sealed: Converged -> Converged
Sealed: Unreachable -> Unreachable
Sealed: Exhausted -> Exhausted
Sealed: Failed -> Failed
Sealed: Cancelled -> Cancelled
"
    );
    assert_eq!(found, expected);
}

#[test]
fn every_pair_moves_as_the_table_says_or_is_refused_unchanged() {
    for phase in PHASES {
        for kind in EventKind::ALL {
            let status = in_phase(phase);
            let event = example(kind);
            match apply(&status, &event, at(1)) {
                Ok(next) => assert!(targets(phase, kind).contains(&next.phase), "{phase} {kind}"),
                Err(error) => {
                    assert!(targets(phase, kind).is_empty(), "{phase} {kind}: {error}");
                    assert_eq!((error.phase, error.event), (phase, kind));
                    assert!(!error.is_retryable());
                }
            }
        }
    }
}

#[test]
fn a_run_ends_only_for_a_reason_of_its_phase() {
    let cases = [
        (Phase::Converged, Reason::None, true),
        (Phase::Converged, Reason::Flapping, false),
        (Phase::Failed, Reason::AgentCannotStart, true),
        (Phase::Failed, Reason::RunLost, false),
        (Phase::Failed, Reason::None, false),
        (Phase::Unreachable, Reason::NoProgress, true),
        (Phase::Unreachable, Reason::Iterations, false),
        (Phase::Exhausted, Reason::WallTime, true),
        (Phase::Pending, Reason::Drained, true),
        (Phase::Parked, Reason::Hold, true),
        (Phase::Parked, Reason::StoreBehindJournal, true),
        (Phase::Pending, Reason::StoreBehindJournal, false),
        (Phase::Parked, Reason::OtherInstallation, true),
        (Phase::Pending, Reason::OtherInstallation, false),
        (Phase::Parked, Reason::None, false),
        (Phase::Cancelled, Reason::ByUser, true),
        (Phase::Running, Reason::None, false),
        (Phase::Assigned, Reason::None, false),
    ];
    for (phase, reason, legal) in cases {
        let moved = transition(&in_phase(Phase::Running), &ended(phase, reason));
        assert_eq!(moved.is_ok(), legal, "{phase} {reason:?}: {moved:?}");
    }
}

#[test]
fn a_life_from_submission_to_convergence() {
    let mut status = run(&[assigned("node-1")]);
    assert_eq!(status.phase, Phase::Assigned);
    assert_eq!(status.message, "assigned to node-1");
    assert_eq!((status.runs, status.started_at), (1, None));

    status = apply(&status, &LoopEvent::Started, at(2)).unwrap();
    assert_eq!((status.phase, status.started_at), (Phase::Running, Some(at(2))));
    assert_eq!(status.message, "running on node-1");

    let again = apply(&status, &LoopEvent::Started, at(3)).unwrap();
    assert_eq!(again, status, "a repeated start changes nothing");

    status = apply(&status, &LoopEvent::Progressed(progress(2, 1)), at(4)).unwrap();
    assert_eq!((status.progress.iterations, status.since), (2, Some(at(2))));

    status = apply(&status, &ended(Phase::Converged, Reason::None), at(5)).unwrap();
    assert_eq!(status.phase, Phase::Converged);
    assert_eq!((status.since, status.finished_at), (Some(at(5)), Some(at(5))));
    assert_eq!(status.node, Some(NodeName::from("node-1")));
    assert_eq!((status.incarnation, status.attempt), (None, None));
    assert_eq!(status.progress.activity, "");
    assert_eq!(status.parked_until, None);
}

#[test]
fn lost_runs_go_back_and_the_third_on_end_is_parked() {
    let mut events = vec![];
    for token in 1..=2 {
        events.extend([assigned("node-1"), LoopEvent::Started, lost(token)]);
    }
    let status = run(&events);
    assert_eq!((status.phase, status.reason), (Phase::Pending, Reason::RunLost));
    assert_eq!((status.runs, status.runs_lost), (2, 2));
    // The second owner's start had sealed the first run; one entry is left.
    assert_eq!(status.unsealed, [unsealed(2)]);

    events.extend([assigned("node-2"), lost(3)]);
    let status = run(&events);
    assert_eq!((status.phase, status.reason), (Phase::Parked, Reason::RunsLost));
    assert_eq!(status.unsealed, [unsealed(3)], "one entry per journal, the highest token");
    assert!(status.message.contains("3 runs lost"), "{}", status.message);
    assert_eq!(status.parked_until, None);
    assert!(transition(&status, &LoopEvent::ParkDue).is_err(), "time alone does not free it");

    events.push(LoopEvent::Resumed { message: "by ann".to_owned() });
    let status = run(&events);
    assert_eq!((status.phase, status.runs_lost), (Phase::Pending, 0));
    assert_eq!(status.unsealed.len(), 1, "seal duties outlast a resume");
}

#[test]
fn a_run_that_its_node_cannot_start_is_no_lost_run_and_the_eighth_on_end_is_parked() {
    let fault = || ended(Phase::Pending, Reason::CannotStart);
    let mut events = vec![];
    for count in 1..START_FAULTS_MAX {
        events.extend([assigned("node-1"), LoopEvent::Started, fault()]);
        let status = run(&events);
        assert_eq!((status.phase, status.reason), (Phase::Pending, Reason::CannotStart));
        assert_eq!((status.runs_lost, status.start_faults), (0, count));
        assert!(status.message.contains(&format!("start {count} of 8")), "{}", status.message);
    }
    // An iteration that comes to its end shows that the node starts processes, kept or not.
    let mut better = events.clone();
    let progressed = LoopEvent::Progressed(progress(4, 1));
    better.extend([assigned("node-1"), progressed.clone(), progressed]);
    assert_eq!(run(&better).start_faults, 0);
    // So does any other end.
    let mut better = events.clone();
    better.extend([assigned("node-1"), ended(Phase::Pending, Reason::Drained)]);
    assert_eq!(run(&better).start_faults, 0);
    // A lost run says nothing of it.
    let mut lost_one = events.clone();
    lost_one.extend([assigned("node-1"), lost(9)]);
    assert_eq!(run(&lost_one).start_faults, START_FAULTS_MAX - 1);

    events.extend([assigned("node-1"), fault()]);
    let status = run(&events);
    assert_eq!((status.phase, status.reason), (Phase::Parked, Reason::RunsLost));
    assert!(status.message.starts_with("8 starts in a row failed (limit 8)"), "{}", status.message);
    events.push(LoopEvent::Resumed { message: "by ann".to_owned() });
    assert_eq!(run(&events).start_faults, 0);
    events.pop();
    events.push(LoopEvent::Respecified { generation: 2 });
    assert_eq!(run(&events).start_faults, 0);
}

#[test]
fn an_accepted_iteration_resets_the_count_of_lost_runs() {
    let accepted = LoopEvent::Progressed(progress(1, 1));
    let same = LoopEvent::Progressed(progress(2, 1));
    let events = [assigned("n"), lost(1), assigned("n"), accepted, same, lost(2), assigned("n")];
    assert_eq!(run(&events).runs_lost, 1);
}

#[test]
fn only_a_pause_gets_a_due_time_and_it_never_overflows() {
    let parked = |reason, retry_after_ms| {
        let mut end = outcome(Phase::Parked, reason);
        end.retry_after_ms = retry_after_ms;
        let event =
            LoopEvent::Ended { outcome: end, progress: Progress::default(), unproven: None };
        apply(&in_phase(Phase::Running), &event, at(0)).unwrap()
    };
    assert_eq!(parked(Reason::Backoff, 5000).parked_until, Some(at(5)));
    assert_eq!(parked(Reason::Backoff, u64::MAX).parked_until, Some(Timestamp::MAX));
    assert_eq!(parked(Reason::StoreBehindJournal, 5000).parked_until, Some(at(5)));
    assert_eq!(parked(Reason::OtherInstallation, 5000).parked_until, Some(at(5)));
    assert_eq!(parked(Reason::Hold, 5000).parked_until, None);

    let due = apply(&parked(Reason::Backoff, 5000), &LoopEvent::ParkDue, at(5)).unwrap();
    assert_eq!((due.phase, due.parked_until), (Phase::Pending, None));
}

#[test]
fn cancelling_an_owned_loop_waits_for_its_worker() {
    let cancel = example(EventKind::CancelRequested);
    let status = run(&[assigned("n"), LoopEvent::Started, cancel.clone()]);
    assert_eq!((status.phase, status.message.as_str()), (Phase::Running, "cancelling: enough"));
    let again = apply(&status, &cancel, at(9)).unwrap();
    assert_eq!(again, status);

    let status = apply(&status, &ended(Phase::Cancelled, Reason::ByUser), at(10)).unwrap();
    assert_eq!(status.phase, Phase::Cancelled);

    let waiting = run(&[cancel]);
    assert_eq!((waiting.phase, waiting.reason), (Phase::Cancelled, Reason::ByUser));
    assert_eq!((waiting.message.as_str(), waiting.finished_at), ("enough", Some(at(1))));
}

#[test]
fn a_changed_spec_starts_over_unless_a_run_is_on() {
    let first = [assigned("n"), LoopEvent::Progressed(progress(3, 1))];
    let respecified = example(EventKind::Respecified);
    let running = apply(&run(&first), &respecified, at(9)).unwrap();
    assert_eq!((running.phase, running.observed_generation), (Phase::Running, 0));
    assert_eq!(running.progress.iterations, 3);

    let event = LoopEvent::Ended {
        outcome: outcome(Phase::Unreachable, Reason::NoProgress),
        progress: progress(4, 1),
        unproven: Some(unsealed(4)),
    };
    let ended = apply(&running, &event, at(10)).unwrap();
    assert_eq!(ended.evidence, ["check a fails"]);
    let over = apply(&ended, &respecified, at(11)).unwrap();
    assert_eq!((over.phase, over.reason), (Phase::Pending, Reason::Submitted));
    assert_eq!(over.observed_generation, 2);
    assert_eq!(over.progress, Progress::default());
    assert!(over.evidence.is_empty());
    assert_eq!((over.started_at, over.finished_at), (None, None));
    assert_eq!(over.unsealed, [unsealed(4)], "a run that may be alive stays on record");
    assert_eq!(over.runs, 1, "runs are counted over the loop's whole life");
}

#[test]
fn sealing_clears_only_that_journal_up_to_the_token() {
    let mut status = in_phase(Phase::Cancelled);
    let other = Unsealed { loop_uid: LoopUid::from("u2"), ..unsealed(5) };
    let elsewhere = Unsealed { repository: "https://example.org/moved".to_owned(), ..unsealed(5) };
    status.unsealed = vec![unsealed(5), unsealed(9), other.clone(), elsewhere.clone()];
    let next = apply(&status, &sealed("u1", 7), at(1)).unwrap();
    assert_eq!(next.unsealed, [unsealed(9), other, elsewhere]);
    assert_eq!(next.phase, Phase::Cancelled);
}

#[test]
fn what_workers_send_is_cut_to_size() {
    let mut end = outcome(Phase::Unreachable, Reason::NoProgress);
    end.message = "ä".repeat(4000);
    end.evidence = vec!["x".repeat(5000); 500];
    let mut report = progress(100, 0);
    report.recent = (1..=100)
        .map(|number| crate::status::IterationSummary { number, ..Default::default() })
        .collect();
    let event = LoopEvent::Ended { outcome: end, progress: report, unproven: None };
    let next = apply(&in_phase(Phase::Running), &event, at(1)).unwrap();
    assert!(next.message.len() <= MESSAGE_BYTES_MAX && next.message.ends_with('…'));
    assert_eq!(next.evidence.len(), EVIDENCE_LINES_MAX);
    assert!(next.evidence.iter().all(|line| line.len() <= MESSAGE_BYTES_MAX));
    let recent: Vec<u32> = next.progress.recent.iter().map(|summary| summary.number).collect();
    assert_eq!(recent, (81..=100).collect::<Vec<_>>());
}

fn any_event() -> impl Strategy<Value = LoopEvent> {
    let ending = (0..PHASES.len(), 0..4_usize).prop_map(|(phase, reason)| {
        let reasons = [Reason::None, Reason::Backoff, Reason::NoProgress, Reason::CheckCannotStart];
        ended(PHASES[phase], reasons[reason])
    });
    let plain = (0..EventKind::ALL.len()).prop_map(|index| example(EventKind::ALL[index]));
    let progressed =
        (0..50_u32, 0..10_u32).prop_map(|(n, kept)| LoopEvent::Progressed(progress(n, kept)));
    let losses = (0..100_i64).prop_map(lost);
    prop_oneof![4 => plain, 2 => ending, 2 => progressed, 2 => losses]
}

proptest! {
    #[test]
    fn any_history_keeps_the_invariants(events in prop::collection::vec(any_event(), 0..60)) {
        let mut status = LoopStatus::default();
        for (event, second) in events.iter().zip(1..) {
            let Ok(next) = apply(&status, event, at(second)) else { continue };
            prop_assert_eq!(next.phase.is_owned(), next.incarnation.is_some());
            prop_assert_eq!(next.phase.is_terminal(), next.finished_at.is_some());
            prop_assert_eq!(
                next.parked_until.is_some(),
                next.phase == Phase::Parked && next.reason.is_timed()
            );
            prop_assert!(reason_fits(next.phase, next.reason), "{} {:?}", next.phase, next.reason);
            // A fault of a node is never the end of a loop.
            if matches!(event, LoopEvent::RunLost { .. }) {
                prop_assert!(!next.phase.is_terminal());
                prop_assert!(!next.unsealed.is_empty());
            }
            prop_assert!(next.runs_lost < RUNS_LOST_MAX || next.phase == Phase::Parked
                || next.phase == Phase::Cancelled);
            prop_assert!(next.unsealed.len() <= UNSEALED_MAX);
            status = next;
        }
    }
}
