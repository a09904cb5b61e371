//! F15: the disk of etcd is full.

use crate::fleet::{Fleet, Shape};
use crate::host::SmallDisk;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case =
    Case { id: "F15", title: "etcd disk full", usual: false, owners: Owners::Change, run };

/// Room for two segments of etcd's log of 64 MB each, as it makes the next one beforehand, and for a new
/// database.
const DISK_BYTES: u64 = 200_000_000;

fn run(attempt: &Attempt) -> Outcome {
    let mut disk = Err("not mounted".to_owned());
    // One member, so that nobody serves in its place.
    let shape = Shape { members: 1, spare: 1, ..Shape::default() };
    let mut fleet = Fleet::start_after(attempt, shape, |fleet| {
        disk = SmallDisk::mount(&fleet.members.dir(1), DISK_BYTES);
    });
    let disk = match disk {
        Ok(disk) => disk,
        Err(why) => return Outcome::Skipped(format!("no disk of our own: {why}")),
    };
    let (victim, dies) = fleet.keeper_and_victim();
    fleet.fault("fill the disk of etcd, and kill a worker");
    disk.fill();
    let stuck = fleet.fill_store(1_000_000, 100);
    fleet.bite(&format!("etcd says: {stuck}"));
    let before = fleet.given();
    // What it owned waits from now on for whoever could give it to somebody.
    fleet.kill_worker(&dies.node);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 2);
    fleet.none_given_since(before);
    // For as long as etcd itself goes on, renewals need no disk.
    if fleet.members.has_ended(1) {
        fleet.bite("etcd has ended by itself");
    } else {
        fleet.keeps(&victim);
        fleet.bite("the owners renew");
    }
    disk.free();
    if fleet.members.has_ended(1) {
        fleet.members.kill(1);
        fleet.members.start_member(1);
    }
    fleet.etcd_leader();
    fleet.empty_store();
    fleet.comes_back(&dies);
    fleet.over();
    fleet.submit(4);
    fleet.finish();
    Outcome::Passed
}
