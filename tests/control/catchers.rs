//! Which test catches which bug: for each the cheapest that looks at the product's own code, and the
//! ownership simulation where the bug is in its model or in what it is built on.

use flyball_core::planted::Bug;

use crate::child::Suite;

/// A test that has to fail.
pub(crate) struct Catcher {
    pub(crate) suite: Suite,
    /// The test's whole name; for suites that are one program, an argument or nothing.
    pub(crate) test: &'static str,
    /// What its output says when it fails for the right reason.
    pub(crate) says: &'static str,
}

const fn test(suite: Suite, test: &'static str) -> Catcher {
    Catcher { suite, test, says: "" }
}

/// The seed and the first invariant that was found broken.
const SIMULATED: Catcher = Catcher { suite: Suite::Ownership, test: "", says: ": I" };
/// Real processes outlive their deadline or a report, a trial says.
const KILL: Catcher = Catcher { suite: Suite::Kill, test: "", says: "alive after" };

/// A script whose effects change.
const fn script(says: &'static str) -> Catcher {
    Catcher { suite: Suite::Script, test: "scripts_have_the_effects_they_say", says }
}

/// For each bug everything that is known to catch it, and must.
pub(crate) const CONTROLS: &[(Bug, &[Catcher])] = &[
    (
        Bug::DeadlineFromReceipt,
        &[test(Suite::Core, "lease::tests::a_renewal_counts_from_when_it_was_sent"), SIMULATED],
    ),
    (
        Bug::LateAnswerRevives,
        &[
            test(Suite::Core, "lease::tests::a_late_answer_does_not_revive"),
            test(Suite::Sandbox, "page::tests::a_passed_deadline_is_not_revived"),
            SIMULATED,
        ],
    ),
    (
        Bug::RenewalFromCache,
        &[test(Suite::Services, "a_heartbeat_is_answered_with_its_own_renewal"), SIMULATED],
    ),
    (
        Bug::NoSeal,
        &[
            test(Suite::EndToEnd, "takeover::a_killed_workers_loop_goes_on_from_its_checkpoint"),
            SIMULATED,
        ],
    ),
    (
        Bug::JournalNotMoved,
        &[
            test(Suite::Worker, "git::tests::fencing::replaced_owner_moves_nothing_over_a_path"),
            SIMULATED,
        ],
    ),
    (
        Bug::TokenWithoutOrder,
        &[
            test(Suite::Worker, "git::tests::journal::a_seal_is_refused_unless_its_token_is_newer"),
            SIMULATED,
        ],
    ),
    (Bug::UnsealedIgnored, &[script("04_lost_runs.txt"), SIMULATED]),
    (
        Bug::DutyIgnored,
        &[script("19_kept.txt"), script("20_orphans.txt"), script("24_abandoned.txt")],
    ),
    (Bug::DutyDropped, &[script("there is no duty to give up")]),
    (
        Bug::NoReadBack,
        &[
            test(Suite::Store, "lost_answers::a_lost_assignment_is_found_by_its_attempt::embedded"),
            SIMULATED,
        ],
    ),
    (
        Bug::LeaderUnfenced,
        &[
            test(Suite::Store, "commit::a_deposed_leader_is_fenced::embedded"),
            test(Suite::Store, "sessions::a_deposed_leader_opens_no_session::embedded"),
        ],
    ),
    (Bug::StaleList, &[script("21_new_leader.txt")]),
    (
        Bug::ClaimNotAtomic,
        &[test(Suite::Store, "commit::a_conflict_on_one_entry_leaves_nothing::embedded")],
    ),
    (
        Bug::OverlapByName,
        &[
            test(Suite::Core, "resource::index::tests::blockers_name_both_entries_and_the_token"),
            SIMULATED,
        ],
    ),
    (Bug::ReleaseBeforeGone, &[KILL, SIMULATED]),
    (Bug::ParentDeathOnly, &[KILL, SIMULATED]),
    (
        Bug::KeepaliveStarved,
        &[Catcher { suite: Suite::Control, test: "keepalive", says: "no heartbeats came" }],
    ),
];
