//! Where things are on this machine: the data directory of `flyball up` and its socket.

use std::path::{Path, PathBuf};

/// Environment variable that names the data directory.
pub const DATA_DIR_VARIABLE: &str = "FLYBALL_DATA_DIR";

/// Where a worker looks for its identity if none is named, in its data directory.
pub const IDENTITY: &str = "identity";

/// The data directory: `$FLYBALL_DATA_DIR`, else `$XDG_DATA_HOME/flyball`, else
/// `~/.local/share/flyball`. `None` when none of these variables is set.
pub fn data_dir() -> Option<PathBuf> {
    data_dir_from(|name| std::env::var_os(name).map(PathBuf::from))
}

fn data_dir_from(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|path| path.is_absolute());
    set(DATA_DIR_VARIABLE)
        .or_else(|| Some(set("XDG_DATA_HOME")?.join("flyball")))
        .or_else(|| Some(set("HOME")?.join(".local/share/flyball")))
}

/// The scheduler's socket in a data directory.
pub fn scheduler_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("scheduler.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
        data_dir_from(|name| find(name).map(|(_, value)| PathBuf::from(value)))
    }

    #[test]
    fn the_first_variable_that_is_set_wins() {
        let all = [("FLYBALL_DATA_DIR", "/d"), ("XDG_DATA_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(with(&all), Some("/d".into()));
        assert_eq!(with(&all[1..]), Some("/x/flyball".into()));
        assert_eq!(with(&all[2..]), Some("/h/.local/share/flyball".into()));
        assert_eq!(with(&[]), None);
    }

    #[test]
    fn relative_paths_are_passed_over_as_xdg_demands() {
        assert_eq!(
            with(&[("XDG_DATA_HOME", "x"), ("HOME", "/h")]),
            Some("/h/.local/share/flyball".into())
        );
    }
}
