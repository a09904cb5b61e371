//! How the operator of a node wants runs confined: accepted exceptions, and what loops may ask for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use flyball_core::isolation::{Layer, MissingLayers, Offers, describe, refused};
use flyball_core::quantity::ByteSize;

/// Bytes of output of a step that are read in a second, by default: more than the log of any build, and a small part
/// of what a flood would have the worker's side read.
pub const OUTPUT_RATE_DEFAULT: ByteSize = ByteSize(32 * 1024 * 1024);

/// The sandbox as a node's operator configures it. By default every layer must hold, and loops can ask
/// for nothing.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// Layers that runs may go without where the host does not allow them.
    pub exceptions: Vec<Layer>,
    /// Files and directories that every run can read.
    pub show: Vec<PathBuf>,
    /// Directories below which a loop can ask for paths to read.
    pub paths: Vec<PathBuf>,
    /// Caches by name.
    pub caches: BTreeMap<String, PathBuf>,
    /// Proxies by name.
    pub egress: BTreeMap<String, ProxyAddress>,
    /// Bytes of output of a step that are read in a second; one that writes faster waits. At least 1.
    pub output_rate: ByteSize,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            exceptions: Vec::new(),
            show: Vec::new(),
            paths: Vec::new(),
            caches: BTreeMap::new(),
            egress: BTreeMap::new(),
            output_rate: OUTPUT_RATE_DEFAULT,
        }
    }
}

/// Where a proxy of the operator's listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyAddress {
    /// `HOST:PORT`.
    Tcp(String),
    /// A Unix socket, `unix:/absolute/path`.
    Unix(PathBuf),
}

/// A text that is no proxy's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a proxy's address: use HOST:PORT or unix:/absolute/path")]
pub struct InvalidProxy {
    /// What was given.
    pub found: String,
}

impl FromStr for ProxyAddress {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidProxy { found: text.to_owned() };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self::Unix(path)) } else { Err(invalid()) };
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let valid = !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok();
        if valid { Ok(Self::Tcp(text.to_owned())) } else { Err(invalid()) }
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl SandboxConfig {
    /// What loops are told that they can name. Without a network of its own no run gets a way out of it.
    pub(crate) fn offers(&self, missing: &MissingLayers) -> Offers {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let egress = match missing.contains_key(&Layer::Network) {
            true => Vec::new(),
            false => self.egress.keys().cloned().collect(),
        };
        Offers {
            paths: self.paths.iter().map(text).collect(),
            caches: self.caches.keys().cloned().collect(),
            egress,
        }
    }

    /// Why no run may start here, with what to change; nothing if they may.
    pub(crate) fn refusal(&self, missing: &MissingLayers) -> Option<String> {
        let refused = refused(missing, &self.exceptions);
        let first = refused.first()?;
        let mut text = "this host does not let runs be confined:".to_owned();
        for line in describe(missing, |layer| refused.contains(&layer)) {
            text += &format!("\n  {line}");
        }
        let names: Vec<&str> = refused.iter().map(|layer| layer.name()).collect();
        text += &format!("\nto fix it, {}", first.remedy());
        text += &format!(
            "\nor accept the weaker isolation for this node with --allow-weaker={}",
            names.join(",")
        );
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_back() {
        for text in ["127.0.0.1:3128", "[::1]:8080", "unix:/run/proxy.sock"] {
            assert_eq!(
                text.parse::<ProxyAddress>().map(|one| one.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["", "host", ":1", "http://x:1", "a@b:1", "unix:relative", "h:99999"] {
            assert!(text.parse::<ProxyAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_change() {
        let missing: MissingLayers = [(Layer::Mount, "EPERM".to_owned())].into();
        let config = SandboxConfig::default();
        let text = config.refusal(&missing).unwrap();
        for part in ["no mount (EPERM)", "apparmor_restrict", "--allow-weaker=mount"] {
            assert!(text.contains(part), "{text}");
        }
        let accepting = SandboxConfig { exceptions: vec![Layer::Mount], ..config };
        assert_eq!(accepting.refusal(&missing), None);
    }
}
