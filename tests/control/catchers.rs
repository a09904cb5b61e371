//! Which test catches which bug: for each the cheapest that looks at the product's own code, the ownership simulation
//! and a scripted world of the seeded one where the bug is in their models or in what they are built on, and a fault
//! case where one notices.

use flyball_core::planted::Bug;

use crate::child::Suite;

/// A test that has to fail.
pub(crate) struct Catcher {
    pub(crate) suite: Suite,
    /// The test's whole name; for suites that are one program, an argument or nothing.
    pub(crate) test: &'static str,
    /// What its output says when it fails for the right reason.
    pub(crate) says: &'static str,
    /// A protection that stands before this one, and is taken away in both runs: without it this one holds
    /// alone, and passes.
    pub(crate) behind: Option<Bug>,
}

/// A test by its name, and what it says when it sees the bug: it may fail for other reasons.
const fn test(suite: Suite, test: &'static str, says: &'static str) -> Catcher {
    Catcher { suite, test, says, behind: None }
}

/// A push was made that had to be refused.
const APPENDED: &str = "on an `Ok` value: Appended";

/// The seed and the first invariant that was found broken.
const SIMULATED: Catcher = Catcher { suite: Suite::Ownership, test: "", says: ": I", behind: None };
/// Real processes outlive their deadline or a report, a trial says.
const KILL: Catcher = Catcher { suite: Suite::Kill, test: "", says: "alive after", behind: None };

/// A scripted world of the simulation, by its argument; the checker's words.
const fn scene(test: &'static str, says: &'static str) -> Catcher {
    Catcher { suite: Suite::Simulation, test, says, behind: None }
}

/// What the checker says of a claim beside another's.
const OVERLAP: &str = "their sets overlap";
/// Of a push that an owner of overlapping files should have shut out.
const SHUT_OUT: &str = "whose set overlaps, had begun";
/// Of an agent behind its deadline.
const ALIVE: &str = "had to be dead";

/// Of an agent that nothing had been shut out for.
const UNSEALED: &str = "before it had sealed its journal";
/// Of an end whose push left no record.
const UNRECORDED: &str = "no record in its journal says";

/// A case of the fault suite, with the product's own processes; the checker's words.
const fn fault(case: &'static str, says: &'static str) -> Catcher {
    Catcher { suite: Suite::Faults, test: case, says, behind: None }
}

/// A script whose effects change.
const fn script(says: &'static str) -> Catcher {
    let test = "scripts_have_the_effects_they_say";
    Catcher { suite: Suite::Script, test, says, behind: None }
}

/// For each bug everything that is known to catch it, and must.
pub(crate) const CONTROLS: &[(Bug, &[Catcher])] = &[
    (
        Bug::DeadlineFromReceipt,
        &[
            test(
                Suite::Core,
                "lease::tests::a_renewal_counts_from_when_it_was_sent",
                "left: (BootInstant(5390), None)",
            ),
            SIMULATED,
            scene("--scene=answer-before-the-cut", ALIVE),
        ],
    ),
    (
        Bug::LateAnswerRevives,
        &[
            test(Suite::Core, "lease::tests::a_late_answer_does_not_revive", "left: Extended("),
            test(
                Suite::Sandbox,
                "page::tests::a_passed_deadline_is_not_revived",
                "assertion failed: !page.extend(",
            ),
            SIMULATED,
            scene("--scene=answer-after-the-deadline", ALIVE),
        ],
    ),
    (
        Bug::RenewalFromCache,
        &[
            test(
                Suite::Services,
                "a_heartbeat_is_answered_with_its_own_renewal",
                "answered without a renewal",
            ),
            SIMULATED,
            scene("--scene=answer-without-renewal", ALIVE),
        ],
    ),
    (
        Bug::NoSeal,
        &[
            test(
                Suite::EndToEnd,
                "takeover::a_killed_workers_loop_goes_on_from_its_checkpoint",
                "0 takeovers by",
            ),
            SIMULATED,
            scene("--scene=taken-over-behind-a-push", SHUT_OUT),
            fault("F1", UNSEALED),
        ],
    ),
    (
        Bug::JournalNotMoved,
        &[
            test(
                Suite::Worker,
                "git::tests::fencing::replaced_owner_moves_nothing_over_a_path",
                APPENDED,
            ),
            SIMULATED,
            scene("--scene=late-takeover", "without a record in its journal"),
            fault("F1", UNRECORDED),
        ],
    ),
    (
        Bug::TokenWithoutOrder,
        &[
            test(
                Suite::Worker,
                "git::tests::journal::a_seal_is_refused_unless_its_token_is_newer",
                APPENDED,
            ),
            SIMULATED,
            scene("--scene=late-takeover", "accepted token"),
        ],
    ),
    (
        Bug::UnsealedIgnored,
        &[
            script("04_lost_runs.txt"),
            SIMULATED,
            scene("--scene=cancelled-behind-a-push", SHUT_OUT),
        ],
    ),
    (
        Bug::DutyIgnored,
        &[
            script("19_kept.txt"),
            script("20_orphans.txt"),
            script("24_abandoned.txt"),
            scene("--scene=deleted-behind-a-push", SHUT_OUT),
        ],
    ),
    (
        Bug::DutyDropped,
        &[script("there is no duty to give up"), scene("--scene=deleted-behind-a-push", SHUT_OUT)],
    ),
    (
        Bug::NoReadBack,
        &[
            test(
                Suite::Store,
                "lost_answers::a_lost_assignment_is_found_by_its_attempt::embedded",
                "left: NotApplied",
            ),
            SIMULATED,
            scene("--scene=assignment-without-answer", OVERLAP),
        ],
    ),
    (
        Bug::LeaderUnfenced,
        &[
            test(Suite::Store, "commit::a_deposed_leader_is_fenced::embedded", "left: [Committed"),
            test(
                Suite::Store,
                "sessions::a_deposed_leader_opens_no_session::embedded",
                "left: Opened(",
            ),
            scene("--scene=two-leaders", OVERLAP),
        ],
    ),
    (
        Bug::StaleList,
        &[
            script("21_new_leader.txt"),
            script("27_first_listing.txt"),
            scene("--scene=new-leader-behind", OVERLAP),
            scene("--scene=first-listing-old", OVERLAP),
        ],
    ),
    (
        Bug::ClaimNotAtomic,
        &[
            test(
                Suite::Store,
                "commit::a_conflict_on_one_entry_leaves_nothing::embedded",
                "results: [Committed",
            ),
            Catcher {
                behind: Some(Bug::LeaderUnfenced),
                ..scene("--scene=two-leaders-one-name", OVERLAP)
            },
        ],
    ),
    (
        Bug::OverlapByName,
        &[
            test(
                Suite::Core,
                "resource::index::tests::blockers_name_both_entries_and_the_token",
                "not one blocker",
            ),
            SIMULATED,
            scene("--scene=new-leader-behind", OVERLAP),
            fault("F1", "whose set overlaps, had begun under token"),
        ],
    ),
    (Bug::ReleaseBeforeGone, &[KILL, SIMULATED]),
    (Bug::ParentDeathOnly, &[KILL, SIMULATED]),
    (
        Bug::WorkersEndIgnored,
        &[Catcher { says: "alive after its worker's death", ..KILL }, fault("F1", ALIVE)],
    ),
    (
        Bug::KeepaliveStarved,
        &[Catcher {
            suite: Suite::Control,
            test: "keepalive",
            says: "no heartbeats came",
            behind: None,
        }],
    ),
    (Bug::EnvironmentInherited, &[fault("F34", "was seen in sandbox/environment")]),
];
