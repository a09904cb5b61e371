//! Names that git must accept: refs, branches and repository addresses, checked without git.

/// Longest ref or branch name, in bytes: a ref is a file name in the repository, and file systems
/// end at 255; `.lock` and a prefix need room too.
const REF_BYTES_MAX: usize = 200;
/// Longest repository address, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// Checks a branch, tag or full ref name by the rules of `git check-ref-format --allow-onelevel`.
///
/// # Errors
/// The broken rule, as text for users.
pub fn check_reference(name: &str) -> Result<(), String> {
    let forbidden = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    let broken = if name.is_empty() {
        "must not be empty"
    } else if name.len() > REF_BYTES_MAX {
        "is longer than 200 bytes"
    } else if name == "@" {
        "must not be the single character @"
    } else if name.starts_with('-') {
        "must not begin with '-'"
    } else if name.starts_with('/') || name.ends_with('/') || name.contains("//") {
        "must not begin or end with '/' or contain '//'"
    } else if name.contains("..") || name.ends_with('.') {
        "must not contain '..' or end with '.'"
    } else if name.contains("@{") {
        "must not contain '@{'"
    } else if name.contains(forbidden) {
        "must not contain spaces, control characters or any of ~ ^ : ? * [ \\"
    } else if name.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock")) {
        "must not have a part that begins with '.' or ends with '.lock'"
    } else {
        return Ok(());
    };
    Err(broken.to_owned())
}

/// Checks the name of a branch to publish to, without `refs/heads/`.
///
/// # Errors
/// The broken rule, as text for users.
pub fn check_branch(name: &str) -> Result<(), String> {
    check_reference(name)?;
    if name.starts_with("refs/") {
        return Err("must be a branch name, without refs/heads/".to_owned());
    }
    if name == "HEAD" {
        return Err("must be a branch name, not HEAD".to_owned());
    }
    Ok(())
}

/// Checks the address of a repository: an absolute path, a `file`, `http`, `https`, `ssh` or `git`
/// URL, or `user@host:path`. Passwords are refused: a manifest is stored and shown in clear.
///
/// # Errors
/// The broken rule, as text for users.
pub fn check_repository_url(url: &str) -> Result<(), String> {
    let forms = "an absolute path, a URL (https, http, ssh, git, file) or user@host:path";
    if url.is_empty() {
        return Err(format!("must be {forms}"));
    }
    if url.len() > URL_BYTES_MAX || url.contains(|c: char| c.is_control()) {
        return Err("must be at most 2048 bytes, without control characters".to_owned());
    }
    if url.starts_with('/') {
        return Ok(());
    }
    match url.split_once("://") {
        Some((scheme, rest)) => check_scheme(scheme, rest, forms),
        // `helper::address` makes git run a program named by the address.
        None if url.contains("::") || url.starts_with('-') => Err(format!("must be {forms}")),
        None => match url.split_once(':') {
            Some((host, path)) if !host.is_empty() && !path.is_empty() && !host.contains('/') => {
                Ok(())
            }
            _ => Err(format!("must be {forms}; relative paths mean nothing on another machine")),
        },
    }
}

/// A repository address fit to be shown: what may be a password or a token stands as `***`.
pub(super) fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password may hold a `/` by mistake; what follows the last `@` is the host then.
    let by_mistake = rest.rsplit_once('@').filter(|(user, _)| user.contains(':'));
    let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
    let secret = by_mistake.or_else(|| {
        let end = authority.rfind('@')?;
        // The user of ssh is a plain name, `git` mostly; that of https may be a token.
        (scheme != "ssh").then(|| (&rest[..end], &rest[end + 1..]))
    });
    match secret {
        Some((_, rest)) => format!("{scheme}://***@{rest}"),
        None => url.to_owned(),
    }
}

fn check_scheme(scheme: &str, rest: &str, forms: &str) -> Result<(), String> {
    if scheme == "file" {
        let absolute = rest.starts_with('/');
        return if absolute { Ok(()) } else { Err("must be file:///absolute/path".to_owned()) };
    }
    if !["http", "https", "ssh", "git"].contains(&scheme) {
        return Err(format!("must be {forms}"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if user.contains(':') {
        return Err(
            "must not hold a password: the manifest is stored and shown in clear".to_owned()
        );
    }
    if host.is_empty() || host.starts_with('-') || path.is_empty() {
        return Err("must name a host and a path".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_what_git_takes() {
        let longest = "a".repeat(REF_BYTES_MAX);
        for good in ["main", "a", "refs/heads/a", "v1.2", "a-b/c_d", "a@b", "@/a", longest.as_str()]
        {
            assert_eq!(check_reference(good), Ok(()), "{good}");
        }
        let longer = format!("{longest}a");
        let bad = [
            ("", "must not be empty"),
            (&*longer, "is longer than 200 bytes"),
            ("@", "must not be the single character @"),
            ("-a", "must not begin with '-'"),
            ("/a", "must not begin or end with '/' or contain '//'"),
            ("a/", "must not begin or end with '/' or contain '//'"),
            ("a//b", "must not begin or end with '/' or contain '//'"),
            ("a..b", "must not contain '..' or end with '.'"),
            ("a.", "must not contain '..' or end with '.'"),
            ("a@{1}", "must not contain '@{'"),
            (".a", "must not have a part that begins with '.' or ends with '.lock'"),
            ("a/.b", "must not have a part that begins with '.' or ends with '.lock'"),
            ("a.lock/b", "must not have a part that begins with '.' or ends with '.lock'"),
        ];
        for (name, rule) in bad {
            assert_eq!(check_reference(name), Err(rule.to_owned()), "{name}");
        }
        for odd in [' ', '~', '^', ':', '?', '*', '[', '\\', '\n', '\x7f'] {
            assert!(check_reference(&format!("a{odd}b")).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_branch_is_a_name_of_its_own() {
        assert_eq!(check_branch("feature/a"), Ok(()));
        let why = |name| check_branch(name).unwrap_err();
        assert_eq!(why("refs/heads/a"), "must be a branch name, without refs/heads/");
        assert_eq!(why("HEAD"), "must be a branch name, not HEAD");
        assert_eq!(why("a..b"), "must not contain '..' or end with '.'");
    }

    #[test]
    fn addresses_name_a_place_that_other_machines_find() {
        let longest = format!("/{}", "a".repeat(URL_BYTES_MAX - 1));
        for good in [
            "/srv/a.git",
            "file:///srv/a.git",
            "https://example.org/a",
            "https://token@example.org/a",
            "http://example.org/a",
            "ssh://git@example.org:22/a",
            "git://example.org/a",
            "git@example.org:a/b",
            "example.org:a",
            longest.as_str(),
        ] {
            assert_eq!(check_repository_url(good), Ok(()), "{good}");
        }
        let longer = format!("{longest}a");
        let bad = [
            ("", "an absolute path"),
            (&*longer, "at most 2048 bytes"),
            ("/srv/a\nb", "without control characters"),
            ("a/b", "relative paths"),
            ("./a:b", "relative paths"),
            (":a", "relative paths"),
            ("a:", "relative paths"),
            ("ext::sh -c x", "an absolute path"),
            ("-oProxyCommand=x:y", "an absolute path"),
            ("file://srv/a", "file:///absolute/path"),
            ("ftp://example.org/a", "an absolute path"),
            ("https://ada:secret@example.org/a", "must not hold a password"),
            ("https:///a", "a host and a path"),
            ("https://example.org", "a host and a path"),
            ("https://example.org/", "a host and a path"),
            ("ssh://-oProxyCommand=x/a", "a host and a path"),
        ];
        for (url, rule) in bad {
            let why = check_repository_url(url).unwrap_err();
            assert!(why.contains(rule), "{url}: {why}");
        }
    }

    #[test]
    fn secrets_of_addresses_are_masked() {
        let shown = [
            ("https://user:secret@example.org/a/b.git", "https://***@example.org/a/b.git"),
            ("https://token@example.org/a", "https://***@example.org/a"),
            ("ssh://user:se/cret@example.org/a", "ssh://***@example.org/a"),
            ("ssh://git@example.org/a", "ssh://git@example.org/a"),
            ("https://example.org/@scope/a", "https://example.org/@scope/a"),
            ("git@example.org:a/b", "git@example.org:a/b"),
            ("/srv/a.git", "/srv/a.git"),
        ];
        for (url, expected) in shown {
            assert_eq!(masked(url), expected);
        }
    }
}
