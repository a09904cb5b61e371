//! Wall clocks that jump: `libfaketime`, fetched from the distribution, preloaded into processes.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::etcd::fetch_file;

/// Answers a process' questions for the wall clock; threads are safe with it.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A wall clock that is set through a file.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// A clock that shows the right time, with its file in `dir`.
    ///
    /// # Errors
    /// What was tried, if the library cannot be had.
    ///
    /// # Panics
    /// When the clock's file cannot be written.
    pub fn prepare(dir: &Path) -> Result<Self, String> {
        let path = format!("usr/lib/{}-linux-gnu/{LIBRARY}", std::env::consts::ARCH);
        let library = fetch_file("libfaketime", &path)?;
        let library = library.canonicalize().map_err(|error| error.to_string())?;
        let clock = Self { library, file: dir.join("wall-clock") };
        clock.set("+0");
        Ok(clock)
    }

    /// What the environment of a process has to be. Only the wall clock is changed; the clock of
    /// deadlines is the kernel's.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DISABLE_SHM", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// Sets the clock of all these processes, e.g. `+1d`. The file is replaced whole, since it is read all the time.
    ///
    /// # Panics
    /// When the clock's file cannot be written.
    pub fn set(&self, offset: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{offset}\n")).expect("the clock's file can be written");
        std::fs::rename(next, &self.file).expect("the clock's file can be replaced");
    }

    /// What `date` says in a process with this clock, in seconds; tells whether it works at all.
    ///
    /// # Panics
    /// When there is no `date`.
    pub fn date(&self) -> i64 {
        let said = Command::new("date").arg("+%s").envs(self.env()).output();
        let said = String::from_utf8_lossy(&said.expect("date runs").stdout).into_owned();
        said.trim().parse().unwrap_or(0)
    }
}
