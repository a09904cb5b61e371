//! Loops per second, end to end: no workspace, one check that is `/bin/true`, converged at first
//! sight. Each is submitted, stored, assigned, run under the guard, and ended. Compared with bare
//! fork and exec of `/bin/true` on two threads in the same run.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first fault")]

mod support;

use std::time::{Duration, Instant};

use flyball_core::status::Phase;
use flyball_tests::measure::{Samples, at_least, cpu_seconds, fork_and_exec, rate};

use support::{Plane, apply, manifest};

const COUNT: usize = 1000;
const ROUNDS: usize = 7;
/// First rounds that are not counted.
const WARM_UP: usize = 1;
/// Submissions under way at a time.
const PARALLEL: usize = 64;
const SLOTS: u32 = 64;

async fn loops(plane: &Plane, round: usize) -> Duration {
    let group = format!("round-{round}");
    let mut ends = plane.ends(&group).await;
    let client = plane.client().await;
    let begun = Instant::now();
    let submitters: Vec<_> = (0..PARALLEL)
        .map(|first| {
            let (mut client, group) = (client.clone(), group.clone());
            tokio::spawn(async move {
                for n in (first..COUNT).step_by(PARALLEL) {
                    let name = format!("r{round}-{n}");
                    apply(&mut client, &manifest(&group, &name, &["/bin/true"])).await;
                }
            })
        })
        .collect();
    for _ in 0..COUNT {
        let ended = tokio::time::timeout(Duration::from_secs(60), ends.recv()).await;
        assert_eq!(ended.unwrap().unwrap().1, Phase::Converged);
    }
    let took = begun.elapsed();
    for submitter in submitters {
        submitter.await.unwrap();
    }
    took
}

/// Processor seconds so far of the bench, the scheduler, the worker with its guard, and etcd.
fn processors(plane: &Plane) -> [f64; 4] {
    let own = i32::try_from(std::process::id()).unwrap();
    let scheduler = cpu_seconds(plane.cluster.schedulers[&1].pid());
    let worker = plane.cluster.workers["n1"].pid();
    let below: f64 = descendants(worker).into_iter().map(cpu_seconds).sum();
    let etcd = plane.etcd.as_ref().map_or(0.0, |etcd| cpu_seconds(etcd.pid().cast_signed()));
    [cpu_seconds(own), scheduler, cpu_seconds(worker) + below, etcd]
}

/// Live processes below a process.
fn descendants(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<i32> = children
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|pid| pid.parse().ok())
        .collect();
    children.iter().flat_map(|&child| [vec![child], descendants(child)].concat()).collect()
}

async fn measure(plane: &Plane) {
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    let mut used = [const { Samples::empty() }; 4];
    for round in 0..ROUNDS + WARM_UP {
        let floor = rate(COUNT, tokio::task::block_in_place(|| fork_and_exec(COUNT)));
        let before = processors(plane);
        let rate = rate(COUNT, loops(plane, round).await);
        let after = processors(plane);
        if round >= WARM_UP {
            bare.add(floor);
            ours.add(rate);
            for (samples, (after, before)) in used.iter_mut().zip(after.iter().zip(before)) {
                samples.add((after - before) * 1000.0 / COUNT as f64);
            }
        }
    }
    println!(
        "{}: per second, median [least .. greatest] of {ROUNDS} rounds of {COUNT}",
        plane.name
    );
    println!("  bare fork and exec, 2 threads: {bare}");
    let ratio = ours.over(&bare);
    println!("  no-op loops: {ours}; ratio {ratio} ({})", at_least(&ratio, 0.35));
    let names = ["client", "scheduler", "worker and below", "etcd"];
    let used: Vec<String> =
        names.iter().zip(&used).map(|(name, s)| format!("{name} {:.2}", s.median())).collect();
    println!("  processor seconds per 1000 loops: {}", used.join(", "));
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    for plane in Plane::all(SLOTS).await {
        measure(&plane).await;
    }
}
