//! A batch decides like its mutations one by one, whatever they are: the property that the planner
//! of requests must keep, since all compares of a request see the state before it.

use std::sync::Arc;

use flyball_core::ids::Token;
use flyball_core::spec::Access;
use flyball_store::{Found, Mutation, MutationResult, PutStatus, Release, RemoveLoop, Session};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::on_both;
use crate::setup::{Server, World, assign, key, status};

on_both!(a_batch_decides_like_its_mutations_one_by_one);

const LOOPS: usize = 8;
/// The first two of them are owned exclusively by the last two loops.
const PATHS: usize = 5;
const ROUNDS: u64 = 40;

/// A mutation of loop `n` without revisions.
#[derive(Clone, Debug)]
enum Plan {
    Assign { n: usize, dead: bool, owners: Vec<(Access, usize)> },
    Put { n: usize, with_token: bool, message: u32 },
    Release { n: usize },
    Remove { n: usize },
}

/// The same loops under names of their own; the last two are owned.
struct Twin {
    prefix: String,
    revisions: Vec<i64>,
    tokens: Vec<i64>,
}

fn random_owners(rng: &mut StdRng) -> Vec<(Access, usize)> {
    let paths = (0..PATHS).filter(|_| rng.random_bool(0.4)).collect::<Vec<_>>();
    let access = |rng: &mut StdRng| {
        if rng.random_bool(0.5) { Access::Exclusive } else { Access::Read }
    };
    paths.into_iter().map(|path| (access(rng), path)).collect()
}

fn random_plan(rng: &mut StdRng) -> Plan {
    let n = rng.random_range(0..LOOPS);
    match rng.random_range(0..10) {
        0..5 => Plan::Assign { n, dead: rng.random_bool(0.2), owners: random_owners(rng) },
        5..8 => Plan::Put { n, with_token: rng.random_bool(0.3), message: rng.random() },
        8 => Plan::Release { n },
        _ => Plan::Remove { n },
    }
}

impl Twin {
    async fn new(world: &World, session: &Session, prefix: String) -> Self {
        let mut twin = Self { prefix, revisions: Vec::new(), tokens: vec![0; LOOPS] };
        for n in 0..LOOPS {
            twin.revisions.push(world.create(&twin.name(n)).await);
        }
        for n in [LOOPS - 2, LOOPS - 1] {
            let owners = twin.owners(&[(Access::Exclusive, n + 2 - LOOPS)]);
            let assign = assign(&twin.name(n), "n1", session, twin.revisions[n], owners);
            twin.tokens[n] = world.committed(assign).await;
            twin.revisions[n] = twin.tokens[n];
        }
        twin
    }

    fn name(&self, n: usize) -> String {
        format!("{}-{n}", self.prefix)
    }

    fn owners(&self, owners: &[(Access, usize)]) -> Vec<(Access, String)> {
        let path = |n: &usize| format!("git/{}/{n}", self.prefix);
        owners.iter().map(|(access, n)| (*access, path(n))).collect()
    }

    fn mutation(&self, plan: &Plan, alive: &Session, dead: &Session) -> Mutation {
        match plan {
            Plan::Assign { n, dead: false, owners } => {
                assign(&self.name(*n), "n1", alive, self.revisions[*n], self.owners(owners))
            }
            Plan::Assign { n, dead: true, owners } => {
                assign(&self.name(*n), "n2", dead, self.revisions[*n], self.owners(owners))
            }
            Plan::Put { n, with_token, message } => Mutation::PutStatus(PutStatus {
                key: key(&self.name(*n)),
                status: Arc::new(status(&message.to_string())),
                status_revision: self.revisions[*n],
                token: with_token.then_some(Token(self.tokens[*n])),
            }),
            Plan::Release { n } => Mutation::Release(Release {
                key: key(&self.name(*n)),
                uid: "any".into(),
                status: Arc::new(status("released")),
                status_revision: self.revisions[*n],
                token: Token(self.tokens[*n]),
                owners: self.owners(&[(Access::Exclusive, (n + 2).saturating_sub(LOOPS))]),
            }),
            Plan::Remove { n } => Mutation::RemoveLoop(RemoveLoop {
                key: key(&self.name(*n)),
                loop_revision: self.revisions[*n],
                duty: None,
            }),
        }
    }

    /// What is there in the end, without names and revisions.
    async fn state(&self, world: &World) -> Vec<String> {
        let plain = |text: &str| text.replace(&self.prefix, "");
        let state = world.store.snapshot(0).await.expect("snapshot");
        let claims = state.claims.iter().map(|(key, _)| format!("claim {}", key.name));
        let owners = state.owners.iter().map(|(owner, by)| {
            format!("{} {:?} {}", owner.resource(), owner.access(), by.value.key)
        });
        let statuses = state.statuses.iter().map(|(key, stored)| {
            format!("{} {} {}", key.name, stored.value.phase, stored.value.message)
        });
        let ours = |line: &String| line.contains(&format!("{}-", self.prefix));
        claims.chain(owners).chain(statuses).filter(ours).map(|line| plain(&line)).collect()
    }
}

fn kind(result: &MutationResult) -> &'static str {
    match result {
        MutationResult::Committed { .. } => "committed",
        MutationResult::Refused(Found::StatusMoved { .. }) => "status moved",
        MutationResult::Refused(Found::Claimed { .. }) => "claimed",
        MutationResult::Refused(Found::ClaimGone { .. }) => "claim gone",
        MutationResult::Refused(Found::SessionGone { .. }) => "session gone",
        MutationResult::Refused(Found::Owned { .. }) => "owned",
        MutationResult::Refused(Found::LoopMoved { .. }) => "loop moved",
        _ => "unexpected",
    }
}

async fn a_batch_decides_like_its_mutations_one_by_one(server: Server) {
    let world = World::new(&server).await;
    let (alive, dead) = (world.session("n1").await, world.session("n2").await);
    world.store.revoke(dead.lease).await.expect("revoke");
    for seed in 0..ROUNDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let plans: Vec<Plan> = (0..14).map(|_| random_plan(&mut rng)).collect();
        let together = Twin::new(&world, &alive, format!("t{seed}")).await;
        let single = Twin::new(&world, &alive, format!("s{seed}")).await;

        let batch: Vec<Mutation> =
            plans.iter().map(|plan| together.mutation(plan, &alive, &dead)).collect();
        let commit = world.commit(&batch).await;
        assert_eq!(commit.error, None);
        let mut one_by_one = Vec::new();
        for plan in &plans {
            let commit = world.commit(&[single.mutation(plan, &alive, &dead)]).await;
            one_by_one.extend(commit.results);
        }
        let kinds = |results: &[MutationResult]| results.iter().map(kind).collect::<Vec<_>>();
        assert_eq!(kinds(&commit.results), kinds(&one_by_one), "seed {seed}: {plans:#?}");
        let (ours, theirs) = (together.state(&world).await, single.state(&world).await);
        assert_eq!(ours, theirs, "seed {seed}: {plans:#?}");
    }
}
