//! Canonical ids of git repositories, so that two spellings of one URL are one resource.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::EntryProblem;
use super::entry::{ENTRY_BYTES_MAX, SEGMENTS_MAX};
use super::segment::Segment;

/// Longest URL in bytes; leaves an entry at least half its length for the path in the repository.
const URL_BYTES_MAX: usize = ENTRY_BYTES_MAX / 2;
/// Most segments of an id, for the same reason.
const REPO_SEGMENTS_MAX: usize = SEGMENTS_MAX / 2;
/// URL schemes that name a host, with the port that goes without saying. Anything else is refused:
/// `ext::` and other remote helpers run programs.
const HOST_SCHEMES: [(&str, &str); 6] = [
    ("https", "443"),
    ("http", "80"),
    ("ssh", "22"),
    ("git+ssh", "22"),
    ("ssh+git", "22"),
    ("git", "9418"),
];
/// Hosts that take a repository's owner and name in any case; there `Org/Repo` and `org/repo` are
/// one repository, and two ids would hide an overlap.
pub(super) const CASELESS_HOSTS: [&str; 4] =
    ["github.com", "gitlab.com", "bitbucket.org", "codeberg.org"];

/// The canonical id of a repository: `example.org/a/b`, or `/srv/x` for a local one. It has no
/// scheme, user, default port, `.git` or trailing slash, and its host is in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoId(String);

/// A repository URL that has no canonical id. A retry gives the same answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{found:?} is not a repository: {problem}; write https://host/path, ssh://host/path, \
     git://host/path, user@host:path, file:///path or an absolute path"
)]
pub struct InvalidRepository {
    /// What was given.
    pub found: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The canonical id of the repository at this URL, scp-like address or absolute local path. Pure:
/// symbolic links of local paths are the caller's to resolve.
///
/// # Errors
/// [`InvalidRepository`] for relative paths, unknown schemes (among them all remote helpers),
/// characters that no entry may have, and anything without a path.
pub fn canonical_repo_id(url: &str) -> Result<RepoId, InvalidRepository> {
    canonical(url)
        .map(RepoId)
        .map_err(|problem| InvalidRepository { found: url.to_owned(), problem })
}

fn canonical(url: &str) -> Result<String, String> {
    if url.len() > URL_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {URL_BYTES_MAX} are allowed", url.len()));
    }
    if url.is_empty() || url.trim() != url {
        return Err("it is empty, or starts or ends with a space".to_owned());
    }
    if url.starts_with('/') {
        return local(url);
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        return with_scheme(&scheme.to_ascii_lowercase(), rest);
    }
    match url.split_once(':') {
        Some((authority, _)) if authority.contains(['/', '[']) => scp_in_brackets(url),
        Some((_, path)) if path.starts_with(':') => {
            Err("remote helpers are not allowed".to_owned())
        }
        Some((authority, path)) => at_host(&host(authority, "22")?, path),
        None => Err("it is a relative path".to_owned()),
    }
}

/// What has neither `scheme://` nor a plain host before a `:`; only `[::1]:path` is left.
fn scp_in_brackets(url: &str) -> Result<String, String> {
    match url.split_once("]:") {
        Some((authority, path)) if !authority.contains('/') => {
            at_host(&host(&format!("{authority}]"), "22")?, path)
        }
        _ => Err("it is a relative path".to_owned()),
    }
}

fn with_scheme(scheme: &str, rest: &str) -> Result<String, String> {
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.contains(['?', '#']) {
        return Err("it has a query or a fragment".to_owned());
    }
    let path = percent_decoded(path)?;
    if scheme == "file" {
        return match authority {
            "" | "localhost" => local(&format!("/{path}")),
            other => Err(format!("file:// names the host {other:?}")),
        };
    }
    match HOST_SCHEMES.iter().find(|(known, _)| *known == scheme) {
        Some((_, port)) => at_host(&host(authority, port)?, &path),
        None => Err(format!("the scheme {scheme:?} is not known")),
    }
}

/// The host in lower case, with its port unless that is the default; without user and password.
fn host(authority: &str, default_port: &str) -> Result<String, String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let port_valid = port.is_empty() || port.parse::<u16>().is_ok_and(|port| port != 0);
    if !port_valid {
        return Err(format!("{port:?} is not a port"));
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_lowercase();
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let valid = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let inner = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
            let labels = name.split('.').all(|label| !label.is_empty());
            labels && name.chars().all(inner) && name.starts_with(char::is_alphanumeric)
        }
    };
    if !valid {
        return Err(format!("{name:?} is not a host name"));
    }
    // Numbers, not text: `:0443` is the default port too.
    let port = port.trim_start_matches('0');
    if port.is_empty() || port == default_port { Ok(name) } else { Ok(format!("{name}:{port}")) }
}

fn at_host(host: &str, path: &str) -> Result<String, String> {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let segments = repository_segments(path)?;
    let path = if CASELESS_HOSTS.contains(&name) {
        segments.join("/").to_lowercase()
    } else {
        segments.join("/")
    };
    Ok(format!("{host}/{path}"))
}

fn local(path: &str) -> Result<String, String> {
    Ok(format!("/{}", repository_segments(path)?.join("/")))
}

/// The segments of a repository's path: no empty ones, no `.`, no `.git` at the end.
fn repository_segments(path: &str) -> Result<Vec<&str>, String> {
    let mut segments: Vec<&str> =
        path.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
    // Repeated, so that the id of an id is the id itself.
    while let Some(stripped) = segments.last().and_then(|last| last.strip_suffix(".git")) {
        segments.pop();
        if !stripped.is_empty() {
            segments.push(stripped);
        }
    }
    if segments.is_empty() {
        return Err("it has no path".to_owned());
    }
    if segments.len() > REPO_SEGMENTS_MAX {
        return Err(format!("its path has more than {REPO_SEGMENTS_MAX} segments"));
    }
    for segment in &segments {
        match Segment::parse(segment) {
            Ok(Segment::Literal(_)) => {}
            Ok(Segment::Glob(_) | Segment::Rest) => {
                return Err(format!(
                    "{segment:?} has a *, which entries could not tell from a pattern"
                ));
            }
            Err(problem) => return Err(format!("its path {problem}")),
        }
    }
    Ok(segments)
}

fn percent_decoded(text: &str) -> Result<String, String> {
    let invalid = || format!("{text:?} has a % that does not start an encoded character");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(invalid()) };
        match u8::try_from(high * 16 + low) {
            Ok(b'/') => return Err("it has an encoded '/'".to_owned()),
            Ok(decoded) => bytes.push(decoded),
            Err(_) => return Err(invalid()),
        }
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

impl RepoId {
    /// Reads an id that is canonical already, as records keep it. It is no URL: in
    /// `example.org:8443/a` the number is a port here and a directory in scp-like addresses.
    ///
    /// # Errors
    /// [`InvalidRepository`] when it is not canonical.
    pub fn from_canonical(text: &str) -> Result<Self, InvalidRepository> {
        let invalid = |problem| InvalidRepository { found: text.to_owned(), problem };
        let canonical = match text.split_once('/') {
            Some(("", _)) => local(text),
            Some((authority, path)) => host(authority, "").and_then(|host| at_host(&host, path)),
            None => Err("it has no path".to_owned()),
        };
        match canonical.map_err(invalid)? {
            same if same == text => Ok(Self(same)),
            other => Err(invalid(format!("its canonical id is {other:?}"))),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as the first segments of a `git:` entry; a local one starts with an empty segment.
    pub(super) fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The canonical text of a `git:` entry for a path pattern in this repository.
    pub fn entry_text(&self, pattern: &str) -> String {
        format!("git:{}/{pattern}", self.0)
    }

    /// The pattern's segments behind the repository's own.
    pub(super) fn join(&self, pattern: Vec<Segment>) -> Result<Vec<Segment>, EntryProblem> {
        let own = self.segments().map(|segment| Segment::Literal(segment.into()));
        let segments: Vec<Segment> = own.chain(pattern).collect();
        if segments.len() > SEGMENTS_MAX {
            return Err(EntryProblem::TooDeep { segments: segments.len() });
        }
        Ok(segments)
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RepoId {
    type Error = InvalidRepository;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::from_canonical(&text)
    }
}

impl From<RepoId> for String {
    fn from(id: RepoId) -> Self {
        id.0
    }
}
