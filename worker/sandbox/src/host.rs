//! What the kernel of this host offers, read from it without changing anything.

use std::fs;
use std::path::Path;

/// Facts of the host that isolation can build on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Version of the Landlock interface; 0 without it.
    pub landlock_abi: u32,
    /// System call filters.
    pub seccomp: bool,
    /// User namespaces may be made by ordinary users, as far as the kernel's settings say.
    pub user_namespaces: bool,
    /// Where a cgroup v2 tree is mounted.
    pub cgroup2: Option<String>,
    /// Version of the kernel.
    pub kernel: String,
    /// Users see each other's processes in /proc.
    pub proc_is_open: bool,
}

impl HostFacts {
    /// Reads them. What cannot be read counts as absent.
    pub fn read() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        Self {
            landlock_abi: crate::sys::landlock_abi(),
            seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
            user_namespaces: user_namespaces(),
            cgroup2: mount(&mounts, "cgroup2").map(|(at, _)| at.to_owned()),
            kernel: text("/proc/sys/kernel/osrelease"),
            proc_is_open: mount(&mounts, "proc").is_none_or(|(_, options)| is_open(options)),
        }
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Settings that keep ordinary users from making user namespaces, or from doing anything in them, and the values that
/// do (namespaces(7); the second is Debian's, the third Ubuntu's).
const REFUSALS: [(&str, &str); 3] = [
    ("user.max_user_namespaces", "0"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
];

fn user_namespaces() -> bool {
    Path::new("/proc/self/ns/user").exists() && refusing_setting().is_none()
}

fn refusing_setting() -> Option<String> {
    let set = |(name, value): &&(&str, &str)| {
        text(&format!("/proc/sys/{}", name.replace('.', "/"))) == *value
    };
    REFUSALS.iter().find(set).map(|(name, value)| format!("{name} is {value}"))
}

/// What keeps this program from user namespaces, where that can be told.
pub(crate) fn refusal_of_namespaces() -> Option<String> {
    let profile = text("/proc/self/attr/apparmor/current");
    let confined = !matches!(profile.as_str(), "" | "unconfined");
    refusing_setting().or_else(|| confined.then(|| format!("AppArmor profile {profile}")))
}

/// Mount point and options of the first mount of this kind.
fn mount<'m>(mounts: &'m str, kind: &str) -> Option<(&'m str, &'m str)> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, found, options) = (fields.next()?, fields.next()?, fields.next()?);
        (found == kind).then_some((at, options))
    })
}

/// `hidepid` of 1, 2 or 4 (or their names) hides other users' processes.
fn is_open(options: &str) -> bool {
    let hidden = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    hidden.is_none_or(|value| matches!(value, "0" | "off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let mounts = "proc /proc proc rw,nosuid,hidepid=invisible 0 0\n\
                      cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let (at, options) = mount(mounts, "proc").unwrap();
        assert_eq!((at, is_open(options)), ("/proc", false));
        assert_eq!(mount(mounts, "cgroup2"), Some(("/sys/fs/cgroup", "rw")));
        assert_eq!(mount(mounts, "xfs"), None);
        assert!(is_open("rw,relatime") && is_open("hidepid=0"));
    }

    #[test]
    fn this_host_has_a_kernel() {
        assert!(!HostFacts::read().kernel.is_empty());
    }
}
