//! Deadlines as a table, the clock as scripts and as properties.

use proptest::prelude::*;

use super::*;

const MARGINS: Margins = Margins { drift_ppm: 20_000, kill_budget: Duration::from_millis(500) };

fn at(ms: u64) -> BootInstant {
    BootInstant(ms)
}

#[test]
fn deadlines() {
    let ms = Duration::from_millis;
    let cases = [
        // sent, ttl, drift, budget, deadline
        (1000, ms(6000), 20_000, ms(500), 1000 + 6000 - 120 - 500),
        (1000, ms(3000), 20_000, ms(500), 1000 + 3000 - 60 - 500),
        (1000, ms(6000), 0, ms(0), 7000),
        // Margins round up: 1 ppm of 6 s is 6 us, which costs a millisecond, as does 1 ns.
        (1000, ms(6000), 1, ms(0), 6999),
        (1000, ms(6000), 0, Duration::from_nanos(1), 6999),
        (1000, Duration::from_micros(6_000_999), 0, ms(0), 7000),
        // Margins that eat the TTL: over at once, never before it was sent.
        (1000, ms(400), 20_000, ms(500), 1000),
        (1000, ms(0), 0, ms(0), 1000),
        (1000, ms(6000), u32::MAX, ms(0), 1000),
        // Saturating.
        (u64::MAX - 5, ms(6000), 0, ms(0), u64::MAX),
        (0, Duration::MAX, 0, ms(0), u64::MAX),
        (0, ms(6000), 0, Duration::MAX, 0),
    ];
    for (sent, ttl, drift_ppm, kill_budget, expected) in cases {
        let found = deadline(at(sent), ttl, drift_ppm, kill_budget);
        assert_eq!(found, at(expected), "{sent} {ttl:?} {drift_ppm} {kill_budget:?}");
    }
}

#[test]
fn instants_add_down_and_subtract_up() {
    assert_eq!(at(5) + Duration::from_micros(1999), at(6));
    assert_eq!(at(5) - Duration::from_micros(1001), at(3));
    assert_eq!(at(5) - Duration::from_secs(1), at(0));
    assert_eq!(at(u64::MAX) + Duration::MAX, at(u64::MAX));
    assert_eq!(at(5).until(at(8)), Duration::from_millis(3));
    assert_eq!(at(8).until(at(5)), Duration::ZERO);
    assert_eq!(at(8).to_string(), "boot+8ms");
}

/// Granted at 0 for 6 s: the deadline is at 5380.
fn clock() -> LeaseClock {
    let clock = LeaseClock::granted(MARGINS, at(0), 6, at(10));
    assert_eq!((clock.deadline(), clock.ended()), (at(5380), None));
    clock
}

const RENEWED: Answer = Answer::Renewed { ttl_seconds: 6 };

#[test]
fn a_renewal_counts_from_when_it_was_sent() {
    let mut clock = clock();
    clock.on_sent(1, at(2000));
    assert_eq!(clock.on_answer(1, RENEWED, at(4000)), Renewal::Extended(at(7380)));
    assert_eq!(clock.on_answer(1, RENEWED, at(4001)), Renewal::Kept(at(7380)), "answered twice");
}

#[test]
fn answers_out_of_order_never_move_the_deadline_back() {
    let mut clock = clock();
    clock.on_sent(1, at(1000));
    clock.on_sent(2, at(3000));
    assert_eq!(clock.on_answer(2, RENEWED, at(3100)), Renewal::Extended(at(8380)));
    assert_eq!(clock.on_answer(1, RENEWED, at(3200)), Renewal::Kept(at(8380)));
    clock.on_sent(3, at(3300));
    let shorter = Answer::Renewed { ttl_seconds: 1 };
    assert_eq!(clock.on_answer(3, shorter, at(3400)), Renewal::Kept(at(8380)));
}

#[test]
fn how_ownership_ended_is_told_apart_in_words() {
    assert_eq!(Ended::Lost.to_string(), "the store ended the lease");
    assert_eq!(Ended::Expired.to_string(), "no renewal was heard of before the deadline");
}

#[test]
fn a_late_answer_does_not_revive() {
    let mut clock = clock();
    clock.on_sent(1, at(5000));
    assert_eq!(clock.on_answer(1, RENEWED, at(5380)), Renewal::Ended(Ended::Expired));
    clock.on_sent(2, at(5000));
    assert_eq!(clock.on_answer(2, RENEWED, at(5001)), Renewal::Ended(Ended::Expired));
    assert_eq!(clock.deadline(), at(5380));
}

#[test]
fn not_knowing_keeps_the_old_deadline_running() {
    let mut clock = clock();
    clock.on_sent(1, at(2000));
    assert_eq!(clock.on_answer(1, Answer::Unknown, at(2100)), Renewal::Kept(at(5380)));
    assert_eq!(clock.on_answer(1, RENEWED, at(2200)), Renewal::Kept(at(5380)), "given up before");
    assert_eq!(clock.on_time(at(5379)), None);
    assert_eq!(clock.on_time(at(5380)), Some(Ended::Expired));
}

#[test]
fn lost_is_for_ever() {
    for answer in
        [Answer::Lost, Answer::Renewed { ttl_seconds: 0 }, Answer::Renewed { ttl_seconds: -1 }]
    {
        let mut clock = clock();
        clock.on_sent(1, at(2000));
        clock.on_sent(2, at(2001));
        assert_eq!(clock.on_answer(1, answer, at(2100)), Renewal::Ended(Ended::Lost));
        assert_eq!(clock.on_answer(2, RENEWED, at(2200)), Renewal::Ended(Ended::Lost));
        assert_eq!(clock.on_time(at(9999)), Some(Ended::Lost));
    }
    // Also when the answer's own try was forgotten.
    assert_eq!(clock().on_answer(77, Answer::Lost, at(20)), Renewal::Ended(Ended::Lost));
    assert_eq!(LeaseClock::granted(MARGINS, at(0), 0, at(1)).ended(), Some(Ended::Lost));
}

#[test]
fn a_grant_that_comes_too_late_is_none() {
    let clock = LeaseClock::granted(MARGINS, at(0), 6, at(5380));
    assert_eq!(clock.ended(), Some(Ended::Expired));
}

#[test]
fn forgotten_tries_do_not_extend() {
    let mut clock = clock();
    for id in 0..=TRIES_MAX as u64 {
        clock.on_sent(id, at(1000 + id));
    }
    assert_eq!(clock.on_answer(0, RENEWED, at(1100)), Renewal::Kept(at(5380)));
    assert_eq!(clock.on_answer(1, RENEWED, at(1100)), Renewal::Extended(at(6381)));
    assert_eq!(LeaseClock::next_try(at(5), Duration::from_secs(6)), at(2005));
}

#[derive(Debug, Clone)]
enum Step {
    Send(u64),
    Answer { id: u64, answer: Answer },
    Pass(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let answer = prop_oneof![
        6 => (1..10_i64).prop_map(|ttl_seconds| Answer::Renewed { ttl_seconds }),
        2 => Just(Answer::Unknown),
        1 => (-2..=0_i64).prop_map(|ttl_seconds| Answer::Renewed { ttl_seconds }),
        1 => Just(Answer::Lost),
    ];
    prop_oneof![
        3 => (0..40_u64).prop_map(Step::Send),
        4 => (0..40_u64, answer).prop_map(|(id, answer)| Step::Answer { id, answer }),
        3 => (0..2500_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Against the plain statement of the rule: a lease may be relied on until the greatest of
    /// sent + ttl - margins over all renewals that were heard of before the deadline of their time.
    #[test]
    fn never_beyond_what_was_granted_and_never_again(
        steps in prop::collection::vec(any_step(), 0..80),
    ) {
        let mut now = 0;
        let mut clock = LeaseClock::granted(MARGINS, at(0), 6, at(0));
        let mut sent = BTreeMap::new();
        let mut latest_granted = 6000;
        let mut ended = None;
        for step in steps {
            let before = clock.deadline();
            match step {
                Step::Send(id) => {
                    if let std::collections::btree_map::Entry::Vacant(entry) = sent.entry(id) {
                        entry.insert(now);
                        clock.on_sent(id, at(now));
                    }
                }
                Step::Answer { id, answer } => {
                    if let (Answer::Renewed { ttl_seconds }, Some(sent)) = (answer, sent.get(&id)) {
                        let ttl_ms = u64::try_from(ttl_seconds).unwrap_or(0) * 1000;
                        latest_granted = latest_granted.max(sent + ttl_ms);
                    }
                    let renewal = clock.on_answer(id, answer, at(now));
                    if ended.is_some() || now >= before.0 {
                        prop_assert!(matches!(renewal, Renewal::Ended(_)));
                    }
                }
                Step::Pass(ms) => now += ms,
            }
            clock.on_time(at(now));
            prop_assert!(clock.deadline() >= before);
            prop_assert!(clock.deadline().0 + 500 <= latest_granted, "margins are kept");
            if ended.is_some() {
                prop_assert_eq!(clock.ended(), ended);
                prop_assert_eq!(clock.deadline(), before);
            }
            ended = clock.ended();
            prop_assert!(ended.is_some() || now < clock.deadline().0);
        }
    }
}

#[test]
fn what_an_owner_has_left_is_never_less_than_its_deadline_says() {
    let s = Duration::from_secs;
    let ttl = s(6);
    for transit_ms in [0, 1, 400] {
        for now_ms in (transit_ms..6000).step_by(37) {
            // Sent at 0, renewed in the store after the transit; the store cuts to whole seconds.
            let left = s((6000 + transit_ms - now_ms) / 1000);
            let found = deadline_left_max(left, ttl, MARGINS);
            let own =
                at(now_ms).until(deadline(at(0), ttl, MARGINS.drift_ppm, MARGINS.kill_budget));
            assert!(found >= own, "{transit_ms} {now_ms}: {found:?} < {own:?}");
            assert!(found <= own + s(1) + Duration::from_millis(transit_ms) || own.is_zero());
        }
    }
    // One that was just granted has no more than its lease; one that is nearly over has nothing.
    assert_eq!(deadline_left_max(s(6), s(6), MARGINS), Duration::from_millis(5380));
    assert_eq!(deadline_left_max(s(5), s(6), MARGINS), Duration::from_millis(5380));
    assert_eq!(deadline_left_max(s(1), s(6), MARGINS), Duration::from_millis(1380));
    assert_eq!(deadline_left_max(s(0), s(30), MARGINS), Duration::ZERO);
}
