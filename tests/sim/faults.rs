//! Faults, all of them decided by the seed before the world begins.

use std::sync::Arc;
use std::time::Duration;

use flyball_tests::history::Event;
use turmoil::Sim;

use crate::chance::Chance;
use crate::site::Site;
use crate::view::Revoke;
use crate::{SCHEDULERS, WORKERS};

/// What goes wrong for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fault {
    Crash(&'static str),
    /// Nothing passes; what is under way is lost.
    Cut(Vec<(&'static str, &'static str)>),
    /// Nothing passes from the first to the second.
    CutOneWay(&'static str, &'static str),
    /// Everything waits.
    Hold(Vec<(&'static str, &'static str)>),
    /// Everything takes this long, and then nothing passes for as long again.
    SlowThenCut(&'static str, Duration),
    LostAnswers(i64),
    EarlyRevoke(usize),
    LyingRenewals,
    StaleReads(i64),
}

/// A world's faults, as begins and ends in the order of time.
pub(crate) struct Plan {
    /// When, which, and in which stage: 0 begins, 1 goes on, 2 ends.
    steps: Vec<(Duration, usize, u8)>,
    faults: Vec<Fault>,
    /// Faults that could not begin because the host was down already.
    skipped: Vec<usize>,
    down: Vec<&'static str>,
}

/// Of a link when nothing is wrong with it.
const LATENCY: Duration = Duration::from_millis(5);

impl Plan {
    /// Faults between `from` and `to`.
    pub(crate) fn new(seed: u64, from: Duration, to: Duration) -> Self {
        let chance = Chance::new(seed, "faults");
        let (mut steps, mut faults) = (Vec::new(), Vec::new());
        let mut at = from;
        while at < to {
            let (fault, longest_ms) = draw(&chance);
            let length = Duration::from_millis(chance.between(longest_ms / 8, longest_ms));
            let end = (at + length).min(to);
            let index = faults.len();
            steps.push((at, index, 0));
            if matches!(fault, Fault::SlowThenCut(..)) {
                steps.push((at + (end - at) / 3, index, 1));
            }
            steps.push((end, index, 2));
            faults.push(fault);
            // Some overlap, some have the world for themselves.
            let pause = chance.between(200, 4000);
            let next = if chance.percent(30) { at } else { end };
            at = next + Duration::from_millis(pause);
        }
        steps.sort();
        Self { steps, faults, skipped: Vec::new(), down: Vec::new() }
    }

    /// When the last one is over.
    pub(crate) fn over(&self) -> Duration {
        self.steps.last().map_or(Duration::ZERO, |step| step.0)
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, sim: &mut Sim<'_>, site: &Arc<Site>) {
        while let Some((at, index, stage)) = self.steps.first().copied() {
            if at > sim.elapsed() {
                return;
            }
            self.steps.remove(0);
            let fault = self.faults[index].clone();
            let name = format!("{index} {fault:?}");
            match stage {
                0 => {
                    site.saw_at(sim.elapsed(), Event::FaultBegins { fault: name });
                    self.begin(sim, site, index, &fault);
                }
                1 => go_on(sim, &fault),
                _ => {
                    self.end(sim, site, index, &fault);
                    site.saw_at(sim.elapsed(), Event::FaultEnds { fault: name });
                }
            }
        }
    }

    fn begin(&mut self, sim: &mut Sim<'_>, site: &Arc<Site>, index: usize, fault: &Fault) {
        match fault {
            Fault::Crash(host) if self.down.contains(host) => self.skipped.push(index),
            Fault::Crash(host) => {
                self.down.push(host);
                sim.crash(*host);
            }
            Fault::Cut(links) => links.iter().for_each(|(a, b)| sim.partition(*a, *b)),
            Fault::CutOneWay(a, b) => sim.partition_oneway(*a, *b),
            Fault::Hold(links) => links.iter().for_each(|(a, b)| sim.hold(*a, *b)),
            Fault::SlowThenCut(worker, latency) => {
                SCHEDULERS.iter().for_each(|s| sim.set_link_latency(*worker, *s, *latency));
            }
            Fault::LostAnswers(percent) => site.lies.lose_answers(*percent),
            Fault::EarlyRevoke(number) => site.view().revoke = Some(Revoke::Session(*number)),
            Fault::LyingRenewals => site.lies.lie(true),
            Fault::StaleReads(revisions) => site.lies.stale(*revisions),
        }
    }

    fn end(&mut self, sim: &mut Sim<'_>, site: &Arc<Site>, index: usize, fault: &Fault) {
        match fault {
            Fault::Crash(_) if self.skipped.contains(&index) => {}
            Fault::Crash(host) => {
                self.down.retain(|down| down != host);
                sim.bounce(*host);
            }
            Fault::Cut(links) => links.iter().for_each(|(a, b)| sim.repair(*a, *b)),
            Fault::CutOneWay(a, b) => sim.repair_oneway(*a, *b),
            Fault::Hold(links) => links.iter().for_each(|(a, b)| sim.release(*a, *b)),
            Fault::SlowThenCut(worker, _) => SCHEDULERS.iter().for_each(|scheduler| {
                sim.set_link_latency(*worker, *scheduler, LATENCY);
                sim.repair(*worker, *scheduler);
            }),
            Fault::LostAnswers(_) => site.lies.lose_answers(0),
            Fault::EarlyRevoke(_) => {}
            Fault::LyingRenewals => site.lies.lie(false),
            Fault::StaleReads(_) => site.lies.stale(0),
        }
    }
}

fn go_on(sim: &mut Sim<'_>, fault: &Fault) {
    if let Fault::SlowThenCut(worker, _) = fault {
        SCHEDULERS.iter().for_each(|scheduler| sim.partition(*worker, *scheduler));
    }
}

/// A fault and the longest that it may last, milliseconds.
fn draw(chance: &Chance) -> (Fault, u64) {
    let worker = *chance.pick(&WORKERS);
    let scheduler = *chance.pick(&SCHEDULERS);
    match chance.between(0, 15) {
        0 | 1 => (Fault::Crash(scheduler), 5000),
        2 => (Fault::Crash(worker), 7000),
        3 => (Fault::Crash("etcd"), 3000),
        4 => (Fault::Crash("git"), 3000),
        5 => (Fault::Cut(links(chance, worker, scheduler)), 8000),
        6 => {
            let links = links(chance, worker, scheduler);
            let (a, b) = *chance.pick(&links);
            (if chance.percent(50) { Fault::CutOneWay(a, b) } else { Fault::CutOneWay(b, a) }, 6000)
        }
        7 | 8 => (Fault::Hold(links(chance, worker, scheduler)), 8000),
        9 => {
            let mut all = vec![(worker, "git")];
            all.extend(SCHEDULERS.map(|scheduler| (worker, scheduler)));
            (Fault::Hold(all), 9000)
        }
        10 | 11 => {
            let latency = Duration::from_millis(chance.between(200, 320));
            (Fault::SlowThenCut(worker, latency), 12_000)
        }
        12 => (Fault::LostAnswers(chance.between(20, 70).cast_signed()), 5000),
        13 => (Fault::EarlyRevoke(usize::try_from(chance.between(0, 9)).expect("small")), 100),
        14 => (Fault::LyingRenewals, 7000),
        _ => (Fault::StaleReads(chance.between(1, 40).cast_signed()), 5000),
    }
}

fn links(
    chance: &Chance,
    worker: &'static str,
    scheduler: &'static str,
) -> Vec<(&'static str, &'static str)> {
    match chance.between(0, 4) {
        0 => vec![(worker, scheduler)],
        1 => SCHEDULERS.map(|scheduler| (worker, scheduler)).to_vec(),
        2 => vec![(worker, "git")],
        3 => vec![(scheduler, "etcd")],
        // The two ways to lose a worker that goes on working for a while.
        _ => {
            let mut all = SCHEDULERS.map(|scheduler| (worker, scheduler)).to_vec();
            all.push((worker, "git"));
            all
        }
    }
}
