//! The content of calls, kept in files where somebody switched that on; nowhere else.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// Most bytes of one call that are kept.
const KEPT_MAX: usize = 8 * 1024 * 1024;

/// What is kept of one call.
#[derive(Debug)]
pub(crate) struct Capture {
    file: PathBuf,
    request: Bytes,
    answer: Vec<Bytes>,
    left: usize,
}

impl Capture {
    pub(crate) fn new(dir: &Path, id: &str, request: Bytes) -> Self {
        let left = KEPT_MAX.saturating_sub(request.len());
        Self { file: dir.join(format!("{id}.call")), request, answer: Vec::new(), left }
    }

    /// A piece of the answer passes.
    pub(crate) fn passes(&mut self, piece: &Bytes) {
        if piece.len() <= self.left {
            self.left -= piece.len();
            self.answer.push(piece.clone());
        } else {
            self.left = 0;
        }
    }

    /// Writes the file in the background: the request, a line of dashes, the answer. Returns its path.
    pub(crate) fn finish(self) -> String {
        let path = self.file.display().to_string();
        let write = move || {
            if let Err(error) = self.write() {
                tracing::warn!(file = %self.file.display(), "a call's content was not kept: {error}");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
        path
    }

    fn write(&self) -> std::io::Result<()> {
        if let Some(dir) = self.file.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        // For the worker's own user only: prompts hold what the loop's repository holds.
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.file)?;
        file.write_all(&self.request)?;
        file.write_all(b"\n--------\n")?;
        self.answer.iter().try_for_each(|piece| file.write_all(piece))
    }
}
