//! The file tree of a step: an empty one, into which copies of mounts are put. Everything is opened
//! before anything is hidden, and what was there before is let go of as a whole at the end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setfsgid, setfsuid};

use super::{Confinement, Overlay, secrets, users};
use crate::sys::{self, MountAttributes};

/// What of the system a step can read and execute.
pub(super) const SYSTEM: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix"];
/// What of `/etc` programs need to start, to speak TLS and to know the time; no accounts, no keys.
pub(super) const ETC: [&str; 18] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/fonts",
    "/etc/java-17-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/perl",
    "/etc/pki",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/timezone",
];
/// What of `/etc` a step without a tree of its own can read besides, as programs take what they are forbidden
/// to read for an error. Where it has one, it finds its own.
pub(super) const ETC_OF_HOST: [&str; 10] = [
    "/etc/bash.bashrc",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/inputrc",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/profile",
    "/etc/resolv.conf",
];
/// Device files that a step has.
pub(super) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Where the new tree is put together; every Linux has it, and nothing of it is seen afterwards.
const SITE: &str = "/tmp";
/// Bytes of `/tmp` and `/dev/shm`, if nothing else is said: enough for what does not follow TMPDIR.
const TEMP_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// Bytes of the tree itself, which holds directories and a few short files.
const FRAME_BYTES: u64 = 1024 * 1024;

/// A mount that is open and waits for its place.
struct Piece {
    at: PathBuf,
    tree: OwnedFd,
    file: bool,
}

/// Builds the tree and moves into it. `owner`: who is seen as the owner of root's files, with the mapping;
/// `rules`: writes are bounded by Landlock, and need not be by mounts; `values`: what files of secrets hold.
pub(super) fn build(
    plan: &Confinement,
    owner: Option<&(u32, OwnedFd)>,
    rules: bool,
    values: &[(String, String)],
) -> io::Result<()> {
    let idmap = owner.map(|(_, map)| map.as_fd());
    let pieces = open_pieces(plan, idmap, rules)?;
    let overlays = plan.overlays.iter().filter(|overlay| overlay.from.is_dir());
    let overlays: Vec<_> =
        overlays.map(|overlay| open_overlay(overlay, idmap)).collect::<io::Result<_>>()?;
    let proc = sys::clone_tree(Path::new("/proc"), true)?;
    let devices = open_devices()?;

    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=755,size={FRAME_BYTES}");
    mount(Some("flyball"), SITE, Some("tmpfs"), flags, Some(options.as_str()))?;
    let site = Path::new(SITE);
    make_skeleton(site)?;
    put(site, Path::new("/proc"), &proc, false)?;
    let temp = plan.limits.temp_bytes.unwrap_or(TEMP_BYTES_DEFAULT);
    make_temp(&site.join("tmp"), temp)?;
    make_devices(site, &devices, temp)?;
    for piece in &pieces {
        put(site, &piece.at, &piece.tree, piece.file)?;
    }
    // Last, as one may be inside a directory of the step's own.
    for overlay in overlays {
        overlay.mount(site, owner.map(|(user, _)| *user))?;
    }
    secrets::put(site, plan, values, owner.map(|(user, _)| *user))?;
    // For programs that write there in spite of TMPDIR; unless something of the step's has its place there,
    // which must not have been put through a link.
    if !site.join("var/tmp").exists() {
        symlink("/tmp", site.join("var/tmp"))?;
    }
    chdir(site)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    sys::make_read_only(Path::new("/"))?;
    Ok(())
}

/// Opens, in this order: the system, what else is shown, what can be written, what in that cannot.
fn open_pieces(
    plan: &Confinement,
    idmap: Option<BorrowedFd<'_>>,
    rules: bool,
) -> io::Result<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    let read = MountAttributes { read_only: true, ..MountAttributes::default() };
    let shown = plan.show.iter().map(PathBuf::as_path);
    for path in SYSTEM.iter().chain(&ETC).map(Path::new).chain(shown) {
        let link = path.is_symlink() && path.parent() == Some(Path::new("/"));
        let covered = pieces.iter().any(|piece| path.starts_with(&piece.at))
            || plan.overlays.iter().any(|overlay| path.starts_with(&overlay.at));
        if link || covered || !path.exists() {
            continue;
        }
        pieces.push(open(path, read, None, true)?);
    }
    let write = MountAttributes { idmap, ..MountAttributes::default() };
    let no_write = MountAttributes { read_only: true, ..write };
    for one in &plan.write {
        // Landlock's rules hold for all that is below a directory, and all of /tmp may be written to.
        let ruled = rules && !one.path.starts_with(SITE);
        match one.only.as_ref().filter(|_| !ruled) {
            None => pieces.push(open(&one.path, write, idmap, false)?),
            Some(only) => {
                pieces.push(open(&one.path, no_write, idmap, false)?);
                for path in only.iter().filter(|path| path.is_dir()) {
                    pieces.push(open(path, write, idmap, false)?);
                }
            }
        }
    }
    for path in plan.protect.iter().filter(|path| path.exists()) {
        pieces.push(open(path, no_write, idmap, false)?);
    }
    for path in &plan.sockets {
        pieces.push(open(path, MountAttributes::default(), None, false)?);
    }
    Ok(pieces)
}

fn open(
    path: &Path,
    attributes: MountAttributes<'_>,
    idmap: Option<BorrowedFd<'_>>,
    whole: bool,
) -> io::Result<Piece> {
    // Without privilege outside, a tree can only be taken together with what is mounted in it.
    let whole = whole || idmap.is_none();
    let named = |error: nix::Error| named(path, error.into());
    let file = !fs::metadata(path).map_err(|error| self::named(path, error))?.is_dir();
    let tree = sys::clone_tree(path, whole).map_err(named)?;
    let attributes = MountAttributes { idmap, ..attributes };
    sys::set_attributes(tree.as_fd(), whole, attributes).map_err(named)?;
    Ok(Piece { at: path.to_owned(), tree, file })
}

fn named(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Puts a tree at its place, which is made unless it is there.
fn put(site: &Path, at: &Path, tree: &OwnedFd, file: bool) -> io::Result<()> {
    let place = place(site, at);
    if !place.exists() {
        if file {
            place.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::File::create(&place)?;
        } else {
            fs::create_dir_all(&place)?;
        }
    }
    sys::attach(tree.as_fd(), &place).map_err(|errno| named(at, errno.into()))
}

fn place(site: &Path, at: &Path) -> PathBuf {
    site.join(at.strip_prefix("/").unwrap_or(at))
}

/// Directories, the links that merged file systems have in their root, and a few files that would
/// otherwise tell of the host.
fn make_skeleton(site: &Path) -> io::Result<()> {
    for dir in ["etc", "proc", "dev", "tmp", "run", "var"] {
        fs::create_dir_all(site.join(dir))?;
    }
    for path in SYSTEM.map(Path::new) {
        if let Ok(target) = fs::read_link(path) {
            symlink(target, place(site, path))?;
        }
    }
    let (passwd, group) = users::account_files();
    fs::write(site.join("etc/passwd"), passwd)?;
    fs::write(site.join("etc/group"), group)?;
    fs::write(site.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    fs::write(site.join("etc/hostname"), "flyball\n")?;
    fs::write(site.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\nhosts: files\n")?;
    symlink("/proc/self/mounts", site.join("etc/mtab"))
}

fn make_temp(at: &Path, bytes: u64) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=1777,size={bytes}");
    mount(Some("tmp"), at, Some("tmpfs"), flags, Some(options.as_str())).map_err(Into::into)
}

fn open_devices() -> io::Result<Vec<(&'static str, OwnedFd)>> {
    let mut found = Vec::new();
    for name in DEVICES {
        let path = Path::new("/dev").join(name);
        if path.exists() {
            let tree = sys::clone_tree(&path, false)?;
            let attributes = MountAttributes { devices: true, ..MountAttributes::default() };
            sys::set_attributes(tree.as_fd(), false, attributes)?;
            found.push((name, tree));
        }
    }
    Ok(found)
}

fn make_devices(site: &Path, devices: &[(&str, OwnedFd)], temp: u64) -> io::Result<()> {
    for (name, tree) in devices {
        put(site, &Path::new("/dev").join(name), tree, true)?;
    }
    let dev = site.join("dev");
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
    }
    for dir in ["shm", "pts"] {
        fs::create_dir(dev.join(dir))?;
    }
    make_temp(&dev.join("shm"), temp)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("newinstance,ptmxmode=0666,mode=620");
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), flags, options)?;
    fs::set_permissions(&dev, fs::Permissions::from_mode(0o755))
}

/// The two layers of an overlay, open.
struct OpenOverlay {
    at: PathBuf,
    lower: OwnedFd,
    changes: OwnedFd,
}

fn open_overlay(overlay: &Overlay, idmap: Option<BorrowedFd<'_>>) -> io::Result<OpenOverlay> {
    let read = MountAttributes { read_only: true, ..MountAttributes::default() };
    let lower = open(&overlay.from, read, idmap, false)?;
    let changes = open(&overlay.changes, MountAttributes::default(), idmap, false)?;
    Ok(OpenOverlay { at: overlay.at.clone(), lower: lower.tree, changes: changes.tree })
}

impl OpenOverlay {
    /// `user`: who is seen as the owner of the layers' files; without one the kernel keeps its notes in
    /// attributes that an ordinary user may set.
    fn mount(&self, site: &Path, user: Option<u32>) -> io::Result<()> {
        let stage = site.join(".layers");
        let (lower, changes) = (stage.join("l"), stage.join("c"));
        fs::create_dir_all(&lower)?;
        fs::create_dir_all(&changes)?;
        sys::attach(self.lower.as_fd(), &lower)?;
        sys::attach(self.changes.as_fd(), &changes)?;
        let at = place(site, &self.at);
        fs::create_dir_all(&at)?;
        let mut options = format!(
            "lowerdir={},upperdir={}/upper,workdir={}/work",
            lower.display(),
            changes.display(),
            changes.display()
        );
        options += if user.is_none() { ",userxattr" } else { "" };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let mounted = as_owner(user, || {
            mount(Some("cache"), &at, Some("overlay"), flags, Some(options.as_str()))
        });
        mounted.map_err(|errno| named(&self.at, errno.into()))?;
        umount2(&lower, MntFlags::MNT_DETACH)?;
        umount2(&changes, MntFlags::MNT_DETACH)?;
        // Not with what is in it: whatever failed to go away must not be emptied through here.
        fs::remove_dir(lower)?;
        fs::remove_dir(changes)?;
        fs::remove_dir(stage)
    }
}

/// Does something as the user that owns the files, as far as files are concerned, and with all privileges:
/// what the kernel makes in a mapped layer must belong to somebody whom the mapping knows.
fn as_owner(user: Option<u32>, work: impl FnOnce() -> nix::Result<()>) -> nix::Result<()> {
    let Some(user) = user else { return work() };
    sys::keep_privileges(true)?;
    let (old_user, old_group) = (setfsuid(Uid::from_raw(user)), setfsgid(Gid::from_raw(user)));
    let done = work();
    setfsuid(old_user);
    setfsgid(old_group);
    sys::keep_privileges(false)?;
    done
}
