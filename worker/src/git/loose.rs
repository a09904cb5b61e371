//! Writing an object without a process: the file that `git hash-object -w` would write, but not compressed. What is
//! written so is a commit of a kilobyte or two; starting a process takes longer than everything else about it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::error::GitError;
use super::oid::Oid;

/// Most bytes in one block of a stream that is not compressed (RFC 1951, 3.2.4).
const BLOCK_BYTES_MAX: usize = 0xffff;
/// The modulus of Adler-32 (RFC 1950, 8.2).
const ADLER_MODULUS: u32 = 65_521;

/// An object as it is hashed and stored: kind, length and content.
fn framed(kind: &str, content: &[u8]) -> Vec<u8> {
    let mut whole = format!("{kind} {}\0", content.len()).into_bytes();
    whole.extend_from_slice(content);
    whole
}

/// Writes an object below `objects`, a directory that git writes to as well, and gives its id. Like git's
/// own it is there whole or not at all, and is not forced to the disk.
///
/// # Errors
/// What the file system says.
pub(super) fn write_object(objects: &Path, kind: &str, content: &[u8]) -> Result<Oid, GitError> {
    let failed = |error: io::Error| GitError::local("write object", error);
    let whole = framed(kind, content);
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &whole);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let id: Oid = hex.parse()?;
    let (dir, name) = hex.split_at(2);
    let dir = objects.join(dir);
    let path = dir.join(name);
    if !path.exists() {
        fs::create_dir_all(&dir).map_err(failed)?;
        // Where git puts its own, which nobody takes for an object.
        let temporary = dir.join(format!("tmp_obj_{}", uuid::Uuid::new_v4().simple()));
        place(&temporary, &path, &stored(&whole)).map_err(failed)?;
    }
    Ok(id)
}

fn place(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(temporary)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(0o444))?;
    fs::rename(temporary, path)
}

/// A zlib stream (RFC 1950) of blocks that are not compressed.
fn stored(bytes: &[u8]) -> Vec<u8> {
    // Deflate with a window of 32 KiB, the fastest level, no dictionary.
    let mut out = vec![0x78, 0x01];
    let mut blocks = bytes.chunks(BLOCK_BYTES_MAX).peekable();
    while let Some(block) = blocks.next() {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.push(u8::from(blocks.peek().is_none()));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&adler32(bytes).to_be_bytes());
    out
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % ADLER_MODULUS;
        b = (b + a) % ADLER_MODULUS;
    }
    (b << 16) | a
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// What git says of an object that was written here, and what it names the same content.
    fn by_git(repo: &Path, arguments: &[&str], stdin: &[u8]) -> Vec<u8> {
        let mut command = Command::new("git");
        command.arg("--git-dir").arg(repo).args(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git starts");
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        output.stdout
    }

    #[test]
    fn git_reads_what_is_written_and_names_it_the_same() {
        let dir = tempfile::tempdir().unwrap();
        by_git(dir.path(), &["init", "--quiet", "--bare"], b"");
        for bytes in [0, 1, 5000, BLOCK_BYTES_MAX - 11, BLOCK_BYTES_MAX, 3 * BLOCK_BYTES_MAX + 7] {
            let content: Vec<u8> = (0..bytes).map(|at| (at * 31 % 251) as u8).collect();
            let id = write_object(&dir.path().join("objects"), "blob", &content).unwrap();
            let named = by_git(dir.path(), &["hash-object", "--stdin"], &content);
            assert_eq!(String::from_utf8(named).unwrap().trim(), id.as_str(), "{bytes}");
            let read = by_git(dir.path(), &["cat-file", "blob", id.as_str()], b"");
            assert!(read == content, "{bytes}");
            // Written twice it is the same one.
            let again = write_object(&dir.path().join("objects"), "blob", &content).unwrap();
            assert_eq!(again, id);
        }
        by_git(dir.path(), &["fsck", "--strict"], b"");
    }
}
