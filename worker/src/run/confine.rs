//! What a step of a run may see, touch and take: from the loop's spec, the node's configuration and where
//! the step works. Agent and checks have nothing in common but what both can only read.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use flyball_core::isolation::{Layer, is_off, shared_with_test};
use flyball_core::status::Reason;
use flyball_sandbox::{Confinement, Limits, Overlay, Who, Writable};

use super::Run;
use super::halt::Halt;
use crate::git::remove_any;

/// Most processes of a step whose loop says nothing: a parallel build of a large project, with room.
const PROCESSES_DEFAULT: u64 = 1024;
/// Most open files of a process whose loop says nothing: what build tools and watchers ask for.
const FILES_DEFAULT: u64 = 8192;
/// Bytes on the disk of a run whose loop says nothing: a workspace with the build output of a large project.
const DISK_DEFAULT: u64 = 20 * 1024 * 1024 * 1024;
/// Bytes of `/tmp`, at most: builds use TMPDIR, which is on the disk.
const TEMP_MAX: u64 = 256 * 1024 * 1024;
/// First port on which a step finds ways to the network.
const EGRESS_PORT_FIRST: u16 = 8118;
/// Parts of Cargo's home that hold downloads, and no credentials.
const CARGO_CACHES: [&str; 2] = ["registry", "git"];
/// Below these the system shows everything to every step.
pub(super) const SYSTEM: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix"];

/// Where a step works.
#[derive(Debug, Clone)]
pub(super) enum Area {
    /// An agent's worktree, of which only these directories can be written to.
    Work {
        /// The worktree.
        dir: PathBuf,
        /// The directories.
        only: Vec<PathBuf>,
    },
    /// A directory of checks, which is thrown away or restored behind them.
    Check(PathBuf),
}

impl Area {
    pub(super) fn dir(&self) -> &Path {
        match self {
            Self::Work { dir, .. } | Self::Check(dir) => dir,
        }
    }

    pub(super) fn who(&self) -> Who {
        match self {
            Self::Work { .. } => Who::Agent,
            Self::Check(_) => Who::Check,
        }
    }
}

/// The private directories of one of the two.
pub(super) struct Rooms {
    root: PathBuf,
}

impl Rooms {
    pub(super) fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    pub(super) fn temp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Where an agent leaves its report.
    pub(super) fn report(&self) -> PathBuf {
        self.root.join("report")
    }

    fn changes(&self, number: usize) -> PathBuf {
        self.root.join("changes").join(number.to_string())
    }

    /// Makes what is missing.
    pub(super) fn make(&self) -> io::Result<()> {
        for dir in [self.home(), self.temp(), self.report()] {
            fs::create_dir_all(dir)?;
        }
        Ok(())
    }

    /// Makes all anew, so that nothing of what was there is seen again.
    pub(super) fn make_anew(&self) -> io::Result<()> {
        remove_any(&self.root)?;
        self.make()
    }
}

impl Run {
    /// The private directories of agent or checks.
    pub(super) fn rooms(&self, who: Who) -> Rooms {
        let name = match who {
            Who::Agent => "agent",
            Who::Check => "check",
        };
        Rooms { root: self.dir.join(name) }
    }

    /// Where briefs are.
    pub(super) fn brief_dir(&self) -> PathBuf {
        self.dir.join("brief")
    }

    /// Whether steps have a file tree of their own.
    fn has_tree(&self) -> bool {
        !self.context.guard.abilities().missing_layers.contains_key(&Layer::Mount)
            && !is_off(Layer::Mount)
    }

    /// How a step in `area` is confined.
    pub(super) fn confinement(&self, area: &Area, path: &str) -> Result<Confinement, Halt> {
        let failed =
            |error: io::Error| Halt::node_fault(&format!("cannot prepare a step: {error}"));
        let abilities = self.context.guard.abilities();
        let offers = self.context.config.sandbox.offers(&abilities.missing_layers);
        let mut lacks = offers.lacks(&self.spec.sandbox);
        if !self.has_tree() && self.spec.secrets.iter().any(|secret| secret.file) {
            lacks.push("secrets as files".to_owned());
        }
        if !lacks.is_empty() {
            // Placement knows what is offered here; whoever placed this run did not ask.
            let message = format!("this node does not offer {}", lacks.join(", "));
            return Err(Halt::failed(Reason::InvalidWork, message));
        }
        let rooms = self.rooms(area.who());
        // First, as the run's own directories may be in it, each with its own rules.
        let mut write: Vec<Writable> = shared_with_test().map(Writable::all).into_iter().collect();
        write.extend([rooms.home(), rooms.temp()].map(Writable::all));
        let mut protect = Vec::new();
        let mut show = self.shown(path);
        match area {
            Area::Work { dir, only } => {
                write.push(Writable::all(rooms.report()));
                write.push(Writable { path: dir.clone(), only: Some(only.clone()) });
                protect.push(dir.join(".git"));
                show.push(self.brief_dir());
            }
            Area::Check(dir) => write.push(Writable::all(dir)),
        }
        let overlays = self.overlays(&rooms, &mut show).map_err(failed)?;
        let egress = self.spec.sandbox.egress.len();
        let gateway = self.gateway_port().filter(|_| area.who() == Who::Agent);
        Ok(Confinement {
            who: area.who(),
            show,
            write,
            protect,
            overlays,
            sockets: Vec::new(),
            secret_files: Vec::new(),
            listen: (0..egress).filter_map(egress_port).chain(gateway).collect(),
            limits: self.limits(),
        })
    }

    /// What every step of this run can read besides the system.
    fn shown(&self, path: &str) -> Vec<PathBuf> {
        let sandbox = &self.context.config.sandbox;
        let places = path.split(':').map(PathBuf::from);
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let with_libraries = |dir: PathBuf| {
            let libraries = beside(&dir, home.as_deref());
            std::iter::once(dir).chain(libraries)
        };
        let tools = places.flat_map(with_libraries);
        let tools = tools.filter(|dir| self.is_tool_dir(dir));
        let wanted = self.spec.sandbox.read_only.iter().map(PathBuf::from);
        let mut show: Vec<PathBuf> = sandbox.show.clone();
        show.extend(tools);
        show.extend(tool_home("RUSTUP_HOME", ".rustup"));
        show.extend(wanted);
        show.extend(self.objects.iter().cloned());
        show
    }

    /// Whether a directory of the search path is one of programs, and not somebody's home or our own.
    fn is_tool_dir(&self, dir: &Path) -> bool {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let system = SYSTEM.iter().any(|system| dir.starts_with(system));
        let ours = self.context.config.data_dir.starts_with(dir)
            || dir.starts_with(&self.context.config.data_dir);
        dir.is_absolute()
            && !system
            && !ours
            && home.as_deref().is_none_or(|home| !home.starts_with(dir))
    }

    /// The caches: those of Cargo, and what the spec names.
    fn overlays(&self, rooms: &Rooms, show: &mut Vec<PathBuf>) -> io::Result<Vec<Overlay>> {
        let mut wanted: Vec<(PathBuf, PathBuf)> = Vec::new();
        if let Some(cargo) = tool_home("CARGO_HOME", ".cargo") {
            let home = rooms.home().join(".cargo");
            fs::create_dir_all(&home)?;
            let parts = CARGO_CACHES.iter().map(|part| (cargo.join(part), home.join(part)));
            wanted.extend(parts.filter(|(from, _)| from.is_dir()));
        }
        let caches = &self.context.config.sandbox.caches;
        let named = self.spec.sandbox.caches.iter().filter_map(|name| caches.get(name));
        wanted.extend(named.map(|dir| (dir.clone(), dir.clone())));
        let mut overlays = Vec::new();
        for (number, (from, at)) in wanted.into_iter().enumerate() {
            if !self.has_tree() {
                // Without mounts it is shown as it is; what is not its own place is linked there.
                if from != at && fs::symlink_metadata(&at).is_err() {
                    symlink(&from, &at)?;
                }
                show.push(from);
                continue;
            }
            let changes = rooms.changes(number);
            for dir in ["upper", "work"] {
                fs::create_dir_all(changes.join(dir))?;
            }
            if from != at {
                fs::create_dir_all(&at)?;
            }
            overlays.push(Overlay { from, at, changes });
        }
        Ok(overlays)
    }

    fn limits(&self) -> Limits {
        let (needs, capacity) = (&self.spec.needs, &self.context.config.facts.capacity);
        let or = |wanted: u64, otherwise: u64| {
            Some(if wanted > 0 { wanted } else { otherwise }).filter(|bound| *bound > 0)
        };
        let memory = or(needs.memory.0, capacity.memory.0);
        Limits {
            memory_bytes: memory,
            processes: or(needs.processes, PROCESSES_DEFAULT),
            files: or(needs.open_files, FILES_DEFAULT),
            cpu_millis: Some(needs.cpu.0).filter(|millis| *millis > 0),
            disk_bytes: or(needs.disk.0, DISK_DEFAULT),
            temp_bytes: Some(memory.map_or(TEMP_MAX, |bytes| TEMP_MAX.min(bytes / 2))),
            output_bytes_per_second: Some(self.context.config.sandbox.output_rate.0),
        }
    }

    /// The spec's environment, and where a step finds its ways to the network.
    pub(super) fn sandbox_env(&self) -> Vec<(String, String)> {
        let sandbox = &self.spec.sandbox;
        let mut env: Vec<(String, String)> =
            sandbox.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        for (index, name) in sandbox.egress.iter().enumerate() {
            let Some(port) = egress_port(index) else { continue };
            let url = format!("http://127.0.0.1:{port}");
            let variable = name.to_uppercase().replace('-', "_");
            env.push((format!("FLYBALL_EGRESS_{variable}"), url.clone()));
            if index == 0 {
                for usual in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
                    env.push((usual.to_owned(), url.clone()));
                }
            }
        }
        env
    }

    /// Where what is said on the step's ports goes.
    pub(super) fn egress_targets(
        &self,
    ) -> std::collections::BTreeMap<u16, crate::offers::ProxyAddress> {
        let proxies = &self.context.config.sandbox.egress;
        let named = self.spec.sandbox.egress.iter().enumerate();
        named
            .filter_map(|(index, name)| Some((egress_port(index)?, proxies.get(name)?.clone())))
            .collect()
    }
}

/// What programs in `PREFIX/bin` load from `PREFIX` (compilers, Node.js, Python's environments): its libraries, and
/// programs that only these programs start. Not its other directories, and nothing beside `~/bin`.
fn beside(tools: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let prefix = tools.parent().filter(|_| tools.file_name() == Some("bin".as_ref()));
    let prefix = prefix.filter(|prefix| home != Some(*prefix));
    let names = ["lib", "lib64", "libexec"];
    let dirs = prefix.into_iter().flat_map(|prefix| names.map(|name| prefix.join(name)));
    dirs.filter(|dir| dir.is_dir()).collect()
}

fn egress_port(index: usize) -> Option<u16> {
    u16::try_from(index).ok()?.checked_add(EGRESS_PORT_FIRST)
}

/// Where one of Rust's tools keeps tool chains or downloads, if it does: its variable, or its place in the
/// worker's home.
pub(super) fn tool_home(variable: &str, dir: &str) -> Option<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let path = std::env::var(variable).unwrap_or_else(|_| format!("{home}/{dir}"));
    Some(PathBuf::from(path)).filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_chain_is_shown_with_its_libraries_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let dir = |name: &str| root.path().join(name);
        for name in ["node/bin", "node/lib", "node/share", "node/libexec", "lib", "bin"] {
            fs::create_dir_all(dir(name)).unwrap();
        }
        let home = Some(root.path());
        assert_eq!(beside(&dir("node/bin"), home), [dir("node/lib"), dir("node/libexec")]);
        // It is somebody's own directory, and tools that are not in a `bin` have no such neighbours.
        assert_eq!(beside(&dir("bin"), home), [""; 0].map(PathBuf::from));
        assert_eq!(beside(&dir("node"), home), [""; 0].map(PathBuf::from));
        assert_eq!(beside(&dir("bin"), None), [dir("lib")]);
    }
}
