//! The layers that confine a step, each of which must hold by itself or be named as missing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::spec::SandboxSpec;

/// One layer between what an agent runs and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// A user of the step's own, in a user namespace without any privilege outside it.
    User,
    /// A file tree of the step's own: the system read-only, its workspace, nothing else.
    Mount,
    /// Only its own processes can be seen and signalled.
    Pid,
    /// No System V or POSIX message queue, semaphore or shared memory of others.
    Ipc,
    /// A host name of its own.
    Uts,
    /// A network of its own, with nothing but a loopback interface.
    Network,
    /// The kernel's file rules: writes only where the loop owns.
    Landlock,
    /// A list of allowed system calls.
    Seccomp,
}

/// Why each missing layer cannot be had, with the setting that would change it.
pub type MissingLayers = BTreeMap<Layer, String>;

impl Layer {
    /// Every layer, outermost first.
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Ipc,
        Self::Uts,
        Self::Network,
        Self::Landlock,
        Self::Seccomp,
    ];

    /// The name in configurations, labels and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Network => "network",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }

    /// What a step could do without it, in words for an operator who thinks of going without.
    pub const fn without(self) -> &'static str {
        match self {
            Self::User => "agents run as the worker's own user, without its privileges",
            Self::Mount => "agents can read whatever the worker's user can read",
            Self::Pid => "agents see and can signal the worker's other processes",
            Self::Ipc => "agents reach System V and POSIX shared memory of the host",
            Self::Uts => "agents see the host's name",
            Self::Network => "agents reach the host's network by UDP and its Unix sockets",
            Self::Landlock => {
                "writes inside the workspace are bounded by mounts and the diff check only"
            }
            Self::Seccomp => "agents can make every system call of the kernel",
        }
    }

    /// The setting of the host that usually stands in the way.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::User | Self::Mount | Self::Pid | Self::Ipc | Self::Uts | Self::Network => {
                "allow user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu 24.04 and \
                 later; or an AppArmor profile with `userns` for flyball), `sysctl kernel.unprivileged_userns_clone=1` \
                 (Debian), `sysctl user.max_user_namespaces=10000`; in a container, run with these unmasked; or \
                 run the worker as root"
            }
            Self::Landlock => {
                "use a kernel of 5.13 or later with CONFIG_SECURITY_LANDLOCK, and `landlock` in its `lsm=` list"
            }
            Self::Seccomp => "use a kernel with CONFIG_SECCOMP_FILTER",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No layer has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no isolation layer is named {0:?}; there are user, mount, pid, ipc, uts, network, landlock and seccomp"
)]
pub struct UnknownLayer(pub String);

impl FromStr for Layer {
    type Err = UnknownLayer;

    fn from_str(name: &str) -> Result<Self, UnknownLayer> {
        let found = Self::ALL.into_iter().find(|layer| layer.name() == name);
        found.ok_or_else(|| UnknownLayer(name.to_owned()))
    }
}

/// The missing layers that the operator has not named as an exception, in order.
pub fn refused(missing: &MissingLayers, exceptions: &[Layer]) -> Vec<Layer> {
    missing.keys().copied().filter(|layer| !exceptions.contains(layer)).collect()
}

/// Lines for people about layers that are missing: those with one reason together, and what follows from
/// each.
pub fn describe(missing: &MissingLayers, which: impl Fn(Layer) -> bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<_> = missing.iter().filter(|(layer, _)| which(**layer)).collect();
    while let Some((_, why)) = rest.first().copied() {
        let same: Vec<Layer> =
            rest.iter().filter(|(_, other)| *other == why).map(|(layer, _)| **layer).collect();
        let names: Vec<&str> = same.iter().map(|layer| layer.name()).collect();
        lines.push(format!("no {} ({why}):", names.join(", ")));
        lines.extend(same.iter().map(|layer| format!("  {}", layer.without())));
        rest.retain(|(_, other)| *other != why);
    }
    lines
}

/// What an operator lets loops name in their manifests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Offers {
    /// Below these, any path can be shown for reading.
    pub paths: Vec<String>,
    /// Names of caches.
    pub caches: Vec<String>,
    /// Names of ways to the network.
    pub egress: Vec<String>,
}

impl Offers {
    /// Whether nothing is offered.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of this a loop wants and does not get, in the words of its manifest.
    pub fn lacks(&self, wanted: &SandboxSpec) -> Vec<String> {
        let path = |path: &&String| !self.paths.iter().any(|offered| is_below(path, offered));
        let paths = wanted.read_only.iter().filter(path);
        let caches = wanted.caches.iter().filter(|name| !self.caches.contains(name));
        let egress = wanted.egress.iter().filter(|name| !self.egress.contains(name));
        let told = paths.map(|path| format!("path {path}"));
        let told = told.chain(caches.map(|name| format!("cache {name}")));
        told.chain(egress.map(|name| format!("egress {name}"))).collect()
    }
}

/// Whether an absolute path is another one or below it, by their segments.
fn is_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether this layer is switched off for a layer test. Never in a shipped program.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn is_off(_layer: Layer) -> bool {
    false
}

/// Whether this layer is switched off for a layer test, by `FLYBALL_LAYERS_OFF`.
#[cfg(feature = "planted-bugs")]
#[expect(
    clippy::disallowed_methods,
    reason = "layer tests choose at run time; not in any shipped build"
)]
pub fn is_off(layer: Layer) -> bool {
    let names = std::env::var("FLYBALL_LAYERS_OFF").unwrap_or_default();
    names.split(',').any(|name| name.trim() == layer.name())
}

/// A directory that all runs of a test share with the test. None in a shipped program.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn shared_with_test() -> Option<String> {
    None
}

/// A directory that all runs of a test share with the test: `FLYBALL_TEST_SHARE`.
#[cfg(feature = "planted-bugs")]
#[expect(clippy::disallowed_methods, reason = "for agents that play a part in a test; not shipped")]
pub fn shared_with_test() -> Option<String> {
    std::env::var("FLYBALL_TEST_SHARE").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for layer in Layer::ALL {
            assert_eq!(layer.to_string().parse(), Ok(layer));
            assert_eq!(serde_json::to_string(&layer).unwrap(), format!("\"{layer}\""));
        }
        assert!("x".parse::<Layer>().unwrap_err().to_string().contains("seccomp"));
    }

    #[test]
    fn layers_with_one_reason_are_told_together() {
        let missing: MissingLayers = [
            (Layer::User, "a".to_owned()),
            (Layer::Mount, "a".to_owned()),
            (Layer::Seccomp, "b".to_owned()),
        ]
        .into();
        let lines = describe(&missing, |layer| layer != Layer::Seccomp);
        assert_eq!((lines.len(), lines[0].as_str()), (3, "no user, mount (a):"));
    }

    #[test]
    fn each_layer_says_what_would_be_without_it_and_what_would_help() {
        let missing: MissingLayers =
            Layer::ALL.map(|layer| (layer, layer.remedy().to_owned())).into();
        insta::assert_snapshot!(describe(&missing, |_| true).join("\n"), @"
        no user, mount, pid, ipc, uts, network (allow user namespaces: `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu 24.04 and later; or an AppArmor profile with `userns` for flyball), `sysctl kernel.unprivileged_userns_clone=1` (Debian), `sysctl user.max_user_namespaces=10000`; in a container, run with these unmasked; or run the worker as root):
          agents run as the worker's own user, without its privileges
          agents can read whatever the worker's user can read
          agents see and can signal the worker's other processes
          agents reach System V and POSIX shared memory of the host
          agents see the host's name
          agents reach the host's network by UDP and its Unix sockets
        no landlock (use a kernel of 5.13 or later with CONFIG_SECURITY_LANDLOCK, and `landlock` in its `lsm=` list):
          writes inside the workspace are bounded by mounts and the diff check only
        no seccomp (use a kernel with CONFIG_SECCOMP_FILTER):
          agents can make every system call of the kernel
        ");
    }

    #[test]
    fn an_offer_is_empty_only_without_anything() {
        assert!(Offers::default().is_empty());
        let one = || vec!["x".to_owned()];
        for offers in [
            Offers { paths: one(), ..Offers::default() },
            Offers { caches: one(), ..Offers::default() },
            Offers { egress: one(), ..Offers::default() },
        ] {
            assert!(!offers.is_empty(), "{offers:?}");
        }
    }

    #[test]
    fn every_layer_is_on_and_nothing_is_shared() {
        assert_eq!(Layer::ALL.map(is_off), [false; 8]);
        assert_eq!(shared_with_test(), None);
    }

    #[test]
    fn what_is_not_offered_is_named() {
        let offers = Offers { paths: vec!["/srv/models/".to_owned()], ..Offers::default() };
        let wanted = SandboxSpec {
            read_only: ["/srv/models/a", "/srv/models", "/srv/models2"].map(str::to_owned).into(),
            caches: vec!["npm".to_owned()],
            egress: vec!["web".to_owned()],
            ..SandboxSpec::default()
        };
        assert_eq!(offers.lacks(&wanted), ["path /srv/models2", "cache npm", "egress web"]);
    }

    #[test]
    fn only_named_exceptions_are_accepted() {
        let missing: MissingLayers =
            [(Layer::Network, "x".to_owned()), (Layer::Landlock, "y".to_owned())].into();
        assert_eq!(refused(&missing, &[]), [Layer::Network, Layer::Landlock]);
        assert_eq!(refused(&missing, &[Layer::Landlock, Layer::User]), [Layer::Network]);
        assert_eq!(refused(&missing, &[Layer::Landlock, Layer::Network]), []);
    }
}
