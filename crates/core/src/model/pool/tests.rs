//! The pool: nobody exceeds what the account allows, whoever dies, and begun runs go first.

use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(60);

fn requests(requests: u64) -> QuotaAmount {
    QuotaAmount { requests, tokens: 0 }
}

fn a_minute(requests: u64) -> ProviderQuota {
    ProviderQuota { requests_per_minute: Some(requests), tokens_per_minute: None }
}

/// A pool, and a scheduler that looks at it.
struct World {
    pool: Pool,
    limits: ProviderQuota,
    now: Duration,
    seen: BTreeMap<String, Duration>,
    dead: Vec<String>,
}

impl World {
    fn new(limits: ProviderQuota) -> Self {
        let (now, seen) = (Duration::ZERO, BTreeMap::new());
        Self { pool: Pool::default(), limits, now, seen, dead: Vec::new() }
    }

    fn ages(&mut self) -> Ages {
        let facts = self.pool.facts(|node, _| !self.dead.contains(&node.0));
        self.seen.retain(|name, _| facts.contains(name));
        for fact in facts {
            self.seen.entry(fact).or_insert(self.now);
        }
        self.seen.iter().map(|(name, since)| (name.clone(), self.now - *since)).collect()
    }

    fn take(&mut self, ask: &TakeQuota) -> TakenQuota {
        let ages = self.ages();
        self.pool.take(&self.limits, &ages, WINDOW, ask)
    }

    fn refused(&mut self, retry_after: Option<Duration>) -> bool {
        let ages = self.ages();
        self.pool.refused(&ages, retry_after)
    }

    fn pass(&mut self, seconds: u64) {
        self.ages();
        self.now += Duration::from_secs(seconds);
    }
}

fn ask(node: &str, id: &str, needs: u64) -> TakeQuota {
    TakeQuota {
        node: node.into(),
        incarnation: format!("{node}-life").as_str().into(),
        of: format!("default/{node}"),
        id: id.to_owned(),
        needs: requests(needs),
        want: requests(needs),
        begun: true,
        held: Vec::new(),
        ended: Vec::new(),
    }
}

fn holding(held: &[&str], ask: TakeQuota) -> TakeQuota {
    TakeQuota { held: held.iter().map(|id| (*id).to_owned()).collect(), ..ask }
}

fn granted(amount: u64) -> TakenQuota {
    TakenQuota::Granted(requests(amount))
}

fn waits(answer: TakenQuota) -> bool {
    matches!(answer, TakenQuota::Wait(_))
}

#[test]
fn what_is_used_comes_back_a_window_later() {
    let mut world = World::new(a_minute(10));
    assert_eq!(world.take(&ask("a", "1", 6)), granted(6));
    assert_eq!(world.take(&ask("a", "1", 6)), granted(6), "the same request");
    assert_eq!(world.take(&ask("b", "1", 4)), granted(4));
    assert!(waits(world.take(&holding(&["1"], ask("b", "2", 1)))));
    world.pass(30);
    // Of the six only two were used.
    let used = EndedSlice { id: "1".to_owned(), used: requests(2) };
    assert_eq!(world.take(&TakeQuota { ended: vec![used], ..ask("a", "2", 4) }), granted(4));
    world.pass(59);
    assert!(waits(world.take(&holding(&["1"], ask("b", "2", 2)))));
    world.pass(1);
    assert_eq!(world.take(&holding(&["1"], ask("b", "2", 2))), granted(2));
    // Whoever holds a slice for long keeps it, as it may still be used.
    world.pass(1000);
    assert!(waits(world.take(&holding(&["1", "2"], ask("b", "3", 1)))));
}

#[test]
fn a_request_that_was_overtaken_ends_nothing_of_later_ones() {
    let mut world = World::new(a_minute(10));
    assert_eq!(world.take(&ask("a", "10", 4)), granted(4));
    assert_eq!(world.take(&ask("a", "9", 4)), granted(4));
    assert!(world.pool.slices.iter().all(|one| !one.ended));
    assert!(waits(world.take(&ask("a", "11", 4))));
    assert!(world.pool.slices.iter().all(|one| one.ended));
}

#[test]
fn a_lost_nodes_slice_returns_a_full_window_after_its_lease() {
    let mut world = World::new(a_minute(10));
    assert_eq!(world.take(&ask("a", "1", 10)), granted(10));
    world.pass(300);
    assert!(waits(world.take(&ask("b", "1", 1))));
    world.dead.push("a".to_owned());
    world.pass(59);
    assert!(waits(world.take(&ask("b", "1", 1))));
    let shown = |world: &mut World| {
        let ages = world.ages();
        let shown = world.pool.shown(&world.limits, &ages, WINDOW);
        (shown.slices.len(), shown.out.requests)
    };
    assert_eq!(shown(&mut world), (1, 10));
    world.pass(1);
    assert_eq!(shown(&mut world), (0, 0), "shown as it is, though nobody has asked yet");
    assert_eq!(world.take(&ask("b", "1", 1)), granted(1));
}

#[test]
fn begun_runs_go_before_new_ones_and_nobody_starves() {
    let mut world = World::new(a_minute(10));
    assert_eq!(world.take(&ask("a", "1", 10)), granted(10));
    let new = TakeQuota { begun: false, ..ask("n", "1", 1) };
    assert!(waits(world.take(&new)));
    assert!(waits(world.take(&ask("b", "1", 8))));
    assert!(waits(world.take(&ask("c", "1", 3))));
    assert!(waits(world.take(&ask("a", "2", 0))));
    world.pass(25);
    for again in [ask("b", "1", 8), ask("c", "1", 3), new.clone()] {
        assert!(waits(world.take(&again)));
    }
    world.pass(25);
    for again in [ask("b", "1", 8), ask("c", "1", 3), new.clone()] {
        assert!(waits(world.take(&again)));
    }
    world.pass(10);
    assert!(waits(world.take(&new)), "b and c have begun");
    assert!(waits(world.take(&ask("c", "1", 3))), "b came first, and takes eight of ten");
    assert_eq!(world.take(&ask("b", "1", 8)), granted(8));
    assert!(waits(world.take(&new)), "c needs more than is left, but it goes first");
    // c is never seen again.
    world.pass(31);
    assert_eq!(world.take(&new), granted(1));
}

#[test]
fn a_refusal_shrinks_the_pool_for_everyone_and_it_grows_again() {
    let mut world = World::new(a_minute(80));
    assert!(world.refused(Some(Duration::from_secs(20))));
    assert!(!world.refused(Some(Duration::from_secs(20))), "the same moment");
    assert!(waits(world.take(&ask("a", "1", 1))));
    world.pass(10);
    assert!(world.refused(Some(Duration::from_secs(30))), "it wants to be left alone for longer");
    world.pass(29);
    assert!(waits(world.take(&ask("a", "1", 1))));
    world.pass(1);
    let shown = |world: &mut World| {
        let ages = world.ages();
        world.pool.shown(&world.limits, &ages, WINDOW).capacity.requests
    };
    assert_eq!(shown(&mut world), 40);
    assert_eq!(world.take(&ask("a", "1", 40)), granted(40));
    assert!(waits(world.take(&ask("b", "1", 1))));
    world.pass(10);
    assert_eq!(shown(&mut world), 60);
    assert!(world.refused(None));
    world.pass(1);
    assert_eq!(shown(&mut world), 30);
    world.pass(60);
    assert_eq!(shown(&mut world), 80);
}

#[test]
fn an_account_without_bounds_is_paused_by_a_refusal_only() {
    let mut world = World::new(ProviderQuota::default());
    assert_eq!(world.take(&ask("a", "1", 1)), TakenQuota::Unbounded);
    assert_eq!(world.pool, Pool::default());
    assert!(world.refused(Some(Duration::from_secs(5))));
    assert_eq!(world.take(&ask("a", "1", 1)), TakenQuota::Wait(Duration::from_secs(5)));
    world.pass(5);
    assert_eq!(world.take(&ask("a", "1", 1)), TakenQuota::Unbounded);
    assert!(world.pool.waiting.is_empty());
}

#[test]
fn what_is_larger_than_the_pool_gets_all_of_it_and_a_large_wish_what_is_to_spare() {
    let mut world = World::new(a_minute(10));
    assert_eq!(world.take(&TakeQuota { want: requests(9), ..ask("b", "1", 1) }), granted(5));
    let all = ask("a", "1", 1000);
    assert!(waits(world.take(&all)));
    let unused = EndedSlice { id: "1".to_owned(), used: requests(0) };
    assert!(waits(world.take(&TakeQuota { ended: vec![unused], ..ask("b", "", 0) })));
    assert_eq!(world.take(&all), granted(10));
}

#[test]
fn what_ages_has_a_name_of_its_own() {
    let mut world = World::new(a_minute(10));
    assert_eq!(world.take(&ask("a", "1", 6)), granted(6));
    assert_eq!(world.take(&ask("b", "1", 4)), granted(4));
    assert!(waits(world.take(&holding(&["1"], ask("b", "2", 1)))));
    assert!(waits(world.take(&ask("a", "2", 7))), "its first slice has ended");
    let facts = world.pool.facts(|node, life| node.0 == "a" && life.as_str() == "a-life");
    let waiting = ["waits b-life/default/b/0", "waits a-life/default/a/0"];
    let all: Vec<_> = ["a-life/1", "gone b-life"].into_iter().chain(waiting).collect();
    assert_eq!(facts[..4], all);
    assert_eq!(facts[4..], ["refusal 0"]);
}

#[test]
fn each_loop_waits_by_itself_until_it_has_room() {
    let mut world = World::new(a_minute(10));
    assert_eq!(world.take(&ask("a", "1", 10)), granted(10));
    let of = |of: &str, id: &str, begun| TakeQuota {
        of: of.to_owned(),
        begun,
        ..holding(&["1"], ask("b", id, 1))
    };
    for of in [of("x", "2", true), of("y", "3", false)] {
        assert_eq!(world.take(&of), TakenQuota::Wait(Duration::from_secs(1)), "nothing cools yet");
    }
    // Who has begun once has begun.
    assert!(waits(world.take(&of("x", "4", false))) && waits(world.take(&of("y", "5", true))));
    let waiting = |world: &World| -> Vec<_> {
        world.pool.waiting.iter().map(|one| (one.of.clone(), one.begun, one.said)).collect()
    };
    assert_eq!(waiting(&world), [("x".to_owned(), true, 0), ("y".to_owned(), true, 0)]);
    // They say again that they wait when it is long ago.
    world.pass(20);
    assert!(waits(world.take(&of("x", "6", true))));
    assert_eq!(waiting(&world)[0].2, 0);
    world.pass(1);
    assert!(waits(world.take(&of("x", "7", true))));
    assert_eq!((waiting(&world)[0].2, waiting(&world)[1].2), (1, 0));
    let used = EndedSlice { id: "1".to_owned(), used: requests(9) };
    assert!(waits(world.take(&TakeQuota { ended: vec![used], ..ask("a", "2", 2) })));
    assert_eq!(world.take(&of("x", "8", true)), granted(1));
    let left: Vec<_> = waiting(&world).into_iter().map(|one| one.0).collect();
    assert_eq!(left, ["y", "default/a"]);
}

#[test]
fn a_slice_that_has_ended_is_not_granted_again_and_says_when_it_has_cooled() {
    let mut world = World::new(a_minute(10));
    assert_eq!(world.take(&ask("a", "1", 2)), granted(2));
    assert_eq!(world.take(&ask("a", "2", 2)), granted(2));
    assert_eq!(world.pool.slices.iter().filter(|one| one.ended).count(), 1);
    world.pass(57);
    let late = world.take(&holding(&["2"], ask("a", "1", 2)));
    assert_eq!(late, TakenQuota::Wait(Duration::from_secs(3)), "there would be room");
}

#[test]
fn a_pool_and_its_line_are_bounded() {
    let most = SLICES_OF_POOL_MAX;
    let mut world = World::new(a_minute(10 * most as u64));
    for n in 0..most {
        assert_eq!(world.take(&ask(&format!("n{n}"), "1", 1)), granted(1));
    }
    for n in 0..most + 1 {
        assert!(waits(world.take(&ask(&format!("w{n}"), "1", 1))), "{n}");
    }
    assert_eq!((world.pool.slices.len(), world.pool.waiting.len()), (most, most));
}

#[test]
fn refusals_are_one_while_the_first_holds() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let mut world = World::new(a_minute(100));
    assert!(world.refused(seconds(10)));
    world.pass(5);
    assert!(!world.refused(seconds(7)), "it would end later, but asks for less");
    assert!(!world.refused(seconds(10)), "the same again");
    assert_eq!((world.pool.retry_after_ms, world.pool.share), (10_000, 500));
    assert!(world.refused(seconds(11)));
    assert_eq!((world.pool.retry_after_ms, world.pool.share), (16_000, 500));
    world.pass(11);
    assert!(world.refused(None), "the first is over: another one");
    assert_eq!((world.pool.retry_after_ms, world.pool.share), (1000, 250));
}

#[test]
fn a_wish_leaves_half_of_the_tokens_too() {
    let limits = ProviderQuota { requests_per_minute: None, tokens_per_minute: Some(1000) };
    let mut world = World::new(limits);
    let tokens = |tokens| QuotaAmount { requests: 0, tokens };
    let wish = TakeQuota { needs: tokens(10), want: tokens(900), ..ask("a", "1", 0) };
    assert_eq!(world.take(&wish), TakenQuota::Granted(tokens(500)));
}

#[derive(Debug, Clone)]
enum Act {
    Take { node: usize, needs: u64, want: u64 },
    Use { node: usize },
    End { node: usize },
    Die { node: usize },
    Pass(u64),
    Forget,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..3_usize, 1..6_u64, 0..9_u64).prop_map(|(node, needs, want)| Act::Take { node, needs, want }),
        6 => (0..3_usize).prop_map(|node| Act::Use { node }),
        2 => (0..3_usize).prop_map(|node| Act::End { node }),
        1 => (0..3_usize).prop_map(|node| Act::Die { node }),
        4 => (1..30_u64).prop_map(Act::Pass),
        1 => Just(Act::Forget),
    ]
}

#[derive(Default)]
struct Node {
    life: u32,
    number: u32,
    /// Slices in hand, and how much of each is left.
    held: Vec<(String, u64, u64)>,
}

proptest! {
    /// Three nodes, some of which die with slices in hand; the scheduler may be replaced at any time. In no window
    /// of the provider, as it counts itself, is more used than the account allows.
    #[test]
    fn the_provider_never_counts_more_than_it_allows(
        acts in prop::collection::vec(any_act(), 1..200), most in 1..12_u64,
    ) {
        let mut world = World::new(a_minute(most));
        let mut nodes: [Node; 3] = Default::default();
        let mut served: Vec<Duration> = Vec::new();
        for act in acts {
            match act {
                Act::Take { node, needs, want } => {
                    let player = &mut nodes[node];
                    let id = format!("{}", player.number);
                    player.number += 1;
                    let name = format!("{node}-{}", player.life);
                    let held: Vec<&str> = player.held.iter().map(|(id, ..)| id.as_str()).collect();
                    let wish = TakeQuota { want: requests(want), ..ask(&name, &id, needs) };
                    let wish = holding(&held, wish);
                    if let TakenQuota::Granted(amount) = world.take(&wish) {
                        prop_assert!(amount.requests >= needs.min(most));
                        player.held.push((id, amount.requests, amount.requests));
                    }
                }
                Act::Use { node } => {
                    if let Some(slice) = nodes[node].held.iter_mut().find(|(_, _, left)| *left > 0) {
                        slice.2 -= 1;
                        served.push(world.now);
                    }
                }
                Act::End { node } => {
                    let player = &mut nodes[node];
                    if !player.held.is_empty() {
                        let (id, granted, left) = player.held.remove(0);
                        let held: Vec<&str> = player.held.iter().map(|(id, ..)| id.as_str()).collect();
                        let name = format!("{node}-{}", player.life);
                        let used = requests(granted - left);
                        let told = TakeQuota { ended: vec![EndedSlice { id, used }], ..ask(&name, "", 0) };
                        let _ = world.take(&holding(&held, told));
                    }
                }
                Act::Die { node } => {
                    let player = &mut nodes[node];
                    world.dead.push(format!("{node}-{}", player.life));
                    // Its last requests go out at the very end.
                    for (_, _, left) in player.held.drain(..) {
                        served.extend((0..left).map(|_| world.now));
                    }
                    player.life += 1;
                }
                Act::Pass(seconds) => world.pass(seconds),
                Act::Forget => world.seen.clear(),
            }
            let since = world.now;
            let counted = served.iter().filter(|at| **at + WINDOW > since).count() as u64;
            prop_assert!(counted <= most, "{counted} of {most} in one window");
        }
    }
}
