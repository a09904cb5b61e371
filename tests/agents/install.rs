//! Where the command line agents are cached, and how they get there: the one part of the suite that needs package
//! registries, and therefore runs only when it is asked for.

use std::path::{Path, PathBuf};
use std::process::Command;

/// npm's packages, in the versions that the presets were tried with.
const NPM: [&str; 2] = ["@anthropic-ai/claude-code@2.1.197", "@openai/codex@0.171.0"];
/// PyPI's package.
const PYPI: &str = "mini-swe-agent==2.4.6";

/// The cache directory.
pub(crate) fn dir() -> PathBuf {
    let named = std::env::var_os("FLYBALL_AGENTS_CACHE").map(PathBuf::from);
    named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/agents-cache"))
}

/// An agent's program in the cache.
pub(crate) struct Installed {
    /// Directories that steps must see.
    pub(crate) show: Vec<PathBuf>,
    /// Where programs are looked for, before the system's.
    pub(crate) path: Vec<PathBuf>,
}

/// Finds a preset's program; `None` if it is not cached.
pub(crate) fn find(preset: &str) -> Option<Installed> {
    let dir = dir().canonicalize().ok()?;
    let (bin, program) = match preset {
        "claude-code" => ("node/node_modules/.bin", "claude"),
        "codex" => ("node/node_modules/.bin", "codex"),
        _ => ("python/bin", "mini"),
    };
    let bin = dir.join(bin);
    let program = bin.join(program).canonicalize().ok()?;
    let mut show = vec![dir.clone()];
    let mut path = vec![bin];
    // Codex is started by a script for Node, wherever that is installed.
    if preset == "codex"
        && let Some(node) = on_path("node")
    {
        path.extend(node.parent().map(Path::to_owned));
        let real = node.canonicalize().ok()?;
        show.extend(real.parent().and_then(Path::parent).map(Path::to_owned));
    }
    // A virtual environment refers to the Python that made it.
    if preset == "mini-swe-agent" {
        let python = std::fs::read_link(dir.join("python/bin/python3")).ok()?;
        let python = python.canonicalize().ok()?;
        show.extend(python.parent().and_then(Path::parent).map(Path::to_owned));
    }
    // What every step sees anyway is not to be shown again.
    show.retain(|dir| dir != Path::new("/usr") && dir != Path::new("/"));
    program.is_file().then_some(Installed { show, path })
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").ok()?;
    path.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
}

/// Installs all of them into the cache.
pub(crate) fn install() -> Result<(), String> {
    let dir = dir();
    let make = |dir: &Path| {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))
    };
    let (node, python) = (dir.join("node"), dir.join("python"));
    make(&node)?;
    run(Command::new("npm")
        .arg("install")
        .args(["--no-audit", "--no-fund", "--prefix"])
        .arg(&node)
        .args(NPM))?;
    let system = ["/usr/bin/python3", "/usr/local/bin/python3"];
    let system = system.iter().find(|path| Path::new(path).exists());
    let mut made = Err("there is no python3".to_owned());
    // The system's own is seen by every step, but lacks `venv` on some systems.
    for program in system.copied().into_iter().chain(["python3"]) {
        let _ = std::fs::remove_dir_all(&python);
        made = run(Command::new(program).args(["-m", "venv"]).arg(&python));
        if made.is_ok() {
            break;
        }
    }
    made?;
    run(Command::new(python.join("bin/pip")).args(["install", "--quiet", PYPI]))
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown}: {status}")) }
}
