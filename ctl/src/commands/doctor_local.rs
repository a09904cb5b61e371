//! `flyball doctor --local`: what this host lets a worker do.

use std::path::PathBuf;

use flyball_core::diagnosis::Diagnosis;

use crate::{Failure, paths};

/// Looks at this host.
pub(super) async fn examine(data_dir: Option<PathBuf>) -> Result<Diagnosis, Failure> {
    let dir = data_dir.or_else(paths::data_dir).unwrap_or_else(std::env::temp_dir);
    let program = std::env::current_exe()
        .map_err(|error| Failure::new("internal", format!("cannot find this program: {error}")))?;
    let command = vec![program.to_string_lossy().into_owned(), "guard".to_owned()];
    Ok(flyball_worker::examine(command, dir).await)
}
