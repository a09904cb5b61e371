//! F31: a worker's disk fills up while its agents write a lot of output.

use crate::fleet::{Fleet, NOTICE_MAX, Shape};
use crate::host::SmallDisk;
use crate::runner::{Attempt, Case, Outcome, Owners};

pub(crate) const CASE: Case = Case {
    id: "F31",
    title: "worker's disk full, logs flooded",
    usual: true,
    owners: Owners::Change,
    run,
};

/// Enough for some clones and their output.
const DISK_BYTES: u64 = 48 << 20;

fn run(attempt: &Attempt) -> Outcome {
    let mut disk = Err(String::new());
    let shape = Shape { agent: "flood", ..Shape::default() };
    let mut fleet = Fleet::start_after(attempt, shape, |fleet| {
        disk = SmallDisk::mount(&fleet.node_dir("n1"), DISK_BYTES);
    });
    let disk = match disk {
        Ok(disk) => disk,
        Err(why) => return Outcome::Skipped(why),
    };
    fleet.victim();
    let life = fleet.record.see(|view| view.sessions.get("n1").cloned());
    fleet.fault("fill the disk of n1");
    disk.fill();
    let room = std::fs::write(fleet.node_dir("n1").join("more"), [0; 4096]);
    let refused = room.expect_err("the disk is full");
    fleet.bite(&format!("n1 cannot write: {refused}"));
    let said = fleet.until("a run on n1 fails, and says why", NOTICE_MAX, |view| {
        let mut statuses = view.statuses.values();
        statuses.find(|it| it.message.contains("No space left")).map(|it| it.message.clone())
    });
    fleet.bite(&said);
    let ttl = fleet.shape.ttl();
    fleet.last(ttl * 2);
    // Heartbeats need no disk.
    assert_eq!(fleet.record.see(|view| view.sessions.get("n1").cloned()), life);
    disk.free();
    fleet.over();
    fleet.finish();
    Outcome::Passed
}
