//! An agent that looks at all it can see and tries to get it out. It knows no secret: what it saw it leaves where the
//! harness, which knows them, searches it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::work::append_to;

/// What an agent that leaks is told, in a file beside the signs of life.
pub(crate) const LEAK_TARGETS: &str = "leak-targets.json";
/// Where it tells what it could do.
pub(crate) const LEAK_LOG: &str = "leak.log";
/// Directories with what it saw begin so; each run has one.
pub(crate) const SEEN: &str = "seen-";
/// The files of such a directory.
pub(crate) const SEEN_PARTS: [&str; 5] =
    ["environment", "memory", "descriptors", "processes", "files"];

/// A file beside them, where there was more to see than is kept.
pub(crate) const CUT: &str = "cut";

/// Most bytes that are kept of each part: above what there is, far below what fills a disk.
const PART_BYTES_MAX: usize = 32 << 20;
/// Larger files are programs.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// What is the same on every host, or not a file, or is looked at as something else.
const PASSED_OVER: [&str; 12] = [
    "/proc", "/sys", "/dev", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
    "/opt", "/nix",
];

/// Where it tries to get data from, and to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeakTargets {
    /// On the host's loopback.
    pub(crate) port: u16,
    /// The same for datagrams.
    pub(crate) datagrams: u16,
    /// An abstract Unix socket.
    pub(crate) name: String,
    /// Files that are nobody's business.
    pub(crate) secrets: Vec<PathBuf>,
}

/// Tells what it sees, and tries to read what it must not see and to reach what it must not reach.
pub(super) fn leak(beats: &str) {
    use std::os::linux::net::SocketAddrExt;
    let dir = Path::new(beats).parent().expect("a directory");
    for (name, value) in std::env::vars() {
        println!("{name} is {value}");
    }
    keep_what_is_seen(dir);
    let Ok(text) = fs::read_to_string(dir.join(LEAK_TARGETS)) else { return };
    let targets: LeakTargets = serde_json::from_str(&text).expect("targets");
    let mut log = append_to(&dir.join(LEAK_LOG).display().to_string());
    let mut tell = |what: String, got: bool| {
        let word = if got { "leaked" } else { "tried" };
        writeln!(log, "{word} {what}").expect("a log");
    };
    let tcp = std::net::TcpStream::connect(("127.0.0.1", targets.port));
    tell(format!("tcp {tcp:?}"), tcp.is_ok());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&targets.name);
    let unix = address.and_then(|address| std::os::unix::net::UnixStream::connect_addr(&address));
    tell(format!("abstract socket {unix:?}"), unix.is_ok());
    let udp = std::net::UdpSocket::bind("127.0.0.1:0");
    // On its own loopback this goes out; whether it arrives, the case sees.
    let sent = udp.and_then(|udp| udp.send_to(b"x", ("127.0.0.1", targets.datagrams)));
    tell(format!("datagram {sent:?}"), false);
    for file in &targets.secrets {
        let read = fs::read(file);
        tell(format!("{} {:?}", file.display(), read.as_ref().err()), read.is_ok());
    }
}

/// Writes all that this process can see into a directory of its run's own, once.
fn keep_what_is_seen(share: &Path) {
    let variable = |name| std::env::var(name).expect("runs are told who they are");
    let run = format!("{SEEN}{}-{}", variable("FLYBALL_LOOP_UID"), variable("FLYBALL_FENCE"));
    let own = share.join(run);
    if fs::create_dir(&own).is_err() {
        // An earlier iteration of this run was here.
        return;
    }
    // First, so that nothing of what is kept is in it.
    let memory = memory().unwrap_or_default();
    let mut files = Vec::new();
    walk(Path::new("/"), &passed_over(share), &mut files);
    // As the kernel has it, whatever the program made of it.
    let environment = fs::read("/proc/self/environ").unwrap_or_default();
    let parts = [environment, memory, descriptors(), processes(), files];
    for (name, bytes) in SEEN_PARTS.iter().zip(parts) {
        if bytes.len() >= PART_BYTES_MAX {
            fs::write(own.join(CUT), name).expect("the share can be written");
        }
        fs::write(own.join(name), bytes).expect("the share can be written");
    }
}

/// Memory of this process: all that is no part of a program's file.
fn memory() -> io::Result<Vec<u8>> {
    let (maps, memory) = (fs::read_to_string("/proc/self/maps")?, File::open("/proc/self/mem")?);
    let mut kept = Vec::new();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, rights, _, _, inode, ref name @ ..] = fields[..] else { continue };
        let own = inode == "0" || rights.contains('w');
        let kernels = name.first().is_some_and(|name| name.starts_with("[v"));
        if !rights.starts_with('r') || !own || kernels {
            continue;
        }
        let end = |text: &str| u64::from_str_radix(text, 16).ok();
        let Some((from, to)) = range.split_once('-') else { continue };
        let (Some(from), Some(to)) = (end(from), end(to)) else { continue };
        let room = PART_BYTES_MAX.saturating_sub(kept.len());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(room).min(room)];
        // What grew or went meanwhile is left out.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            kept.extend(bytes);
        }
    }
    Ok(kept)
}

/// Where every open descriptor leads, and what is in those that are files.
fn descriptors() -> Vec<u8> {
    let mut kept = Vec::new();
    for entry in entries(Path::new("/proc/self/fd")) {
        let leads = fs::read_link(&entry).unwrap_or_default();
        keep(&mut kept, &format!("{} leads to {}", entry.display(), leads.display()), b"");
        keep_file(&entry, &mut kept);
    }
    kept
}

/// Arguments and environment of every process that there is.
fn processes() -> Vec<u8> {
    let mut kept = Vec::new();
    for entry in entries(Path::new("/proc")) {
        for part in ["cmdline", "environ"].map(|part| entry.join(part)) {
            if let Ok(bytes) = fs::read(&part) {
                keep(&mut kept, &part.display().to_string(), &bytes);
            }
        }
    }
    kept
}

/// Directories that are not walked: also what the harness itself shares, and tool chains and downloads, which are
/// public and large.
fn passed_over(share: &Path) -> Vec<PathBuf> {
    let mut over: Vec<PathBuf> = PASSED_OVER.iter().map(PathBuf::from).collect();
    over.push(share.to_owned());
    over.extend(std::env::var_os("RUSTUP_HOME").map(PathBuf::from));
    over.extend(std::env::var_os("CARGO_HOME").map(|home| Path::new(&home).join("registry")));
    over
}

/// Files below a directory that can be read.
fn walk(dir: &Path, over: &[PathBuf], kept: &mut Vec<u8>) {
    for path in entries(dir) {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_dir() && !over.contains(&path) {
            walk(&path, over, kept);
        } else if found.is_file() {
            keep_file(&path, kept);
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    // What cannot be listed is what is asked here.
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Keeps a regular file, if it can be read and is not a large one. Reading others may wait for ever.
fn keep_file(path: &Path, kept: &mut Vec<u8>) {
    let fits = |found: fs::Metadata| found.is_file() && found.len() <= FILE_BYTES_MAX;
    if !fs::metadata(path).is_ok_and(fits) {
        return;
    }
    let mut bytes = Vec::new();
    // What the kernel makes up has no length before it is read.
    let read = File::open(path).map(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    if matches!(read, Ok(Ok(_))) {
        keep(kept, &path.display().to_string(), &bytes);
    }
}

fn keep(kept: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    // What does not fit fills it, which says that something is missing.
    let room = PART_BYTES_MAX.saturating_sub(kept.len());
    let all = [format!("\n--- {name}\n").as_bytes(), bytes].concat();
    kept.extend_from_slice(&all[..all.len().min(room)]);
}
