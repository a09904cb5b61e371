//! Clocks that jump: `libfaketime`, fetched from the distribution, preloaded into processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A wall clock that is set through a file.
pub(crate) struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// Finds or fetches the library.
    pub(crate) fn prepare(dir: &Path) -> Result<Self, String> {
        let cache = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/libfaketime");
        if find(&cache).is_none() {
            fetch(&cache)?;
        }
        let library = find(&cache).ok_or("Debian's libfaketime holds no library")?;
        let clock = Self { library, file: dir.join("wall-clock") };
        clock.set("+0");
        Ok(clock)
    }

    /// What the environment of a process has to be. Only the wall clock is changed; the clock of
    /// deadlines is the kernel's.
    pub(crate) fn env(&self) -> Vec<(String, String)> {
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

    /// Sets the clock, e.g. `+1d`.
    pub(crate) fn set(&self, offset: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{offset}\n")).expect("the clock's file can be written");
        std::fs::rename(next, &self.file).expect("the clock's file can be replaced");
    }

    /// What `date` says in a process with this clock, in seconds; tells whether it works at all.
    pub(crate) fn date(&self) -> i64 {
        let said = Command::new("date").arg("+%s").envs(self.env()).output();
        let said = String::from_utf8_lossy(&said.expect("date runs").stdout).into_owned();
        said.trim().parse().unwrap_or(0)
    }
}

fn find(cache: &Path) -> Option<PathBuf> {
    let dirs = std::fs::read_dir(cache.join("usr/lib")).ok()?.flatten();
    let files = dirs.map(|dir| dir.path().join("faketime/libfaketimeMT.so.1"));
    let mut files = files.filter(|file| file.is_file());
    files.next()?.canonicalize().ok()
}

fn fetch(cache: &Path) -> Result<(), String> {
    let parent = cache.parent().ok_or("no directory for tools")?;
    std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    let dir = tempfile::TempDir::new_in(parent).map_err(|error| error.to_string())?;
    let script =
        "apt-get download libfaketime || { apt-get update && apt-get download libfaketime; }
                  dpkg -x ./libfaketime_*.deb unpacked";
    let output = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("fetching Debian's libfaketime failed: {}", said.trim()));
    }
    std::fs::rename(dir.path().join("unpacked"), cache).map_err(|error| error.to_string())
}
