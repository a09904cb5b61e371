//! A disk for tests: it forgets what was not synced, fails, or holds a sync back, on command.

use super::dice::Dice;
use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

#[derive(Debug, Default)]
struct Image {
    /// What the process sees.
    live: Vec<u8>,
    /// What is on the platter for sure.
    synced: Vec<u8>,
    /// Writes and resizes since the last sync; a power cut keeps any of them, or none.
    unsynced: Vec<Change>,
    syncs: u64,
    waiting: u64,
    held: bool,
    failing: bool,
    /// Syncs that claim success and do nothing: the fault that tests must be able to see.
    lying: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Resize(usize),
    Write(usize, Vec<u8>),
}

fn apply(change: &Change, to: &mut Vec<u8>) {
    match change {
        Change::Resize(len) => to.resize(*len, 0),
        Change::Write(offset, data) => {
            let end = offset + data.len();
            if to.len() < end {
                to.resize(end, 0);
            }
            to[*offset..end].copy_from_slice(data);
        }
    }
}

/// A handle on one disk; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<(Mutex<Image>, Condvar)>);

impl Disk {
    pub(crate) fn lying() -> Self {
        let disk = Self::default();
        disk.with(|image| image.lying = true);
        disk
    }

    fn with<T>(&self, work: impl FnOnce(&mut Image) -> T) -> T {
        work(&mut self.0.0.lock().unwrap())
    }

    /// The disk as a power cut right now would leave it: everything synced and, of each later
    /// write, all or a torn part or nothing.
    pub(crate) fn after_power_cut(&self, dice: &mut Dice) -> Self {
        let (mut bytes, unsynced) =
            self.with(|image| (image.synced.clone(), image.unsynced.clone()));
        let keep = dice.below(3);
        for change in unsynced {
            match (keep, &change, dice.below(3)) {
                (0, ..) | (1, _, 0) => {}
                (1, Change::Write(offset, data), 1) => {
                    // Disks write whole sectors.
                    let part = data.len() / 512 / 2 * 512;
                    apply(&Change::Write(*offset, data[..part].to_vec()), &mut bytes);
                }
                _ => apply(&change, &mut bytes),
            }
        }
        let disk = Self::default();
        disk.with(|image| {
            image.live.clone_from(&bytes);
            image.synced = bytes;
        });
        disk
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.with(|image| image.syncs)
    }

    /// Syncs that are held back at the moment.
    pub(crate) fn waiting(&self) -> u64 {
        self.with(|image| image.waiting)
    }

    /// Holds syncs back, or lets them go on.
    pub(crate) fn hold(&self, held: bool) {
        self.with(|image| image.held = held);
        self.0.1.notify_all();
    }

    /// Makes syncs fail from now on.
    pub(crate) fn fail(&self) {
        self.with(|image| image.failing = true);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|image| image.live.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|image| {
            let bytes = image.live.get(from..from + out.len());
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.with(|image| {
            image.live.resize(len, 0);
            image.unsynced.push(Change::Resize(len));
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (image, changed) = &*self.0;
        let mut image = image.lock().unwrap();
        image.waiting += 1;
        while image.held {
            image = changed.wait(image).unwrap();
        }
        image.waiting -= 1;
        if image.failing {
            return Err(io::Error::other("the disk is broken"));
        }
        image.syncs += 1;
        if !image.lying {
            let image = &mut *image;
            for change in image.unsynced.drain(..) {
                apply(&change, &mut image.synced);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let change = Change::Write(offset, data.to_vec());
        self.with(|image| {
            apply(&change, &mut image.live);
            image.unsynced.push(change);
        });
        Ok(())
    }
}
