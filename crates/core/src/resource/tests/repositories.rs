//! Canonical repository ids: spellings of one repository, and what is refused.

use proptest::prelude::*;

use crate::resource::{RepoId, canonical_repo_id};

#[test]
fn spellings_of_one_repository_have_one_id() {
    let cases: &[(&str, &[&str])] = &[
        (
            "example.org/a/b",
            &[
                "https://user@Example.org:443/a/b.git/",
                "https://user:secret@example.org/a/b",
                "http://example.org:80/a/b.git",
                "HTTPS://EXAMPLE.ORG./a//b/",
                "ssh://git@example.org/a/b.git",
                "ssh://git@example.org:22/a/b",
                "ssh://git@example.org:0022/a/./b",
                "git+ssh://example.org/a/b",
                "git://example.org:9418/a/b",
                "git@example.org:a/b.git",
                "git@example.org:/a/b",
                "example.org:a/b",
                "https://example.org/a/%62.git",
                "https://example.org/a/b/.git",
            ],
        ),
        ("example.org:8443/a/b", &["https://example.org:8443/a/b.git"]),
        ("example.org:443/a/b", &["http://example.org:443/a/b"]),
        ("example.org/~me/b", &["ssh://example.org/~me/b", "me@example.org:~me/b"]),
        ("[::1]/a", &["ssh://[::1]/a", "git@[::1]:a.git", "[::1]:a"]),
        ("[::1]:2222/a", &["ssh://[::1]:2222/a"]),
        ("github.com/org/repo", &["https://github.com/Org/Repo.git", "git@GitHub.com:org/REPO"]),
        (
            "/srv/x",
            &[
                "/srv/x.git",
                "/srv/x/",
                "/srv//x/.git",
                "file:///srv/x",
                "file://localhost/srv/x.git/",
            ],
        ),
        ("/srv/a b", &["/srv/a b", "file:///srv/a%20b"]),
        ("Host-1.lan/Case/Kept", &[]),
    ];
    for (id, spellings) in cases {
        for url in *spellings {
            assert_eq!(canonical_repo_id(url).unwrap().as_str(), *id, "{url}");
        }
    }
    let kept = canonical_repo_id("https://Host-1.lan/Case/Kept").unwrap();
    assert_eq!(kept.as_str(), "host-1.lan/Case/Kept");
    assert_eq!(kept.entry_text("src/**"), "git:host-1.lan/Case/Kept/src/**");
}

#[test]
fn what_is_no_repository_is_refused_with_the_reason() {
    let cases = [
        ("", "it is empty"),
        (" /srv/x", "starts or ends with a space"),
        ("repo", "it is a relative path"),
        ("./repo", "it is a relative path"),
        ("../a:b/c", "it is a relative path"),
        ("example.org/a/b", "it is a relative path"),
        ("ext::sh -c id", "remote helpers are not allowed"),
        ("fd::17", "remote helpers are not allowed"),
        ("sftp://example.org/a", "the scheme \"sftp\" is not known"),
        ("https://example.org", "it has no path"),
        ("https://example.org/.git", "it has no path"),
        ("/", "it has no path"),
        ("https:///a", "\"\" is not a host name"),
        ("ssh://-oProxyCommand=x/a", "\"-oproxycommand=x\" is not a host name"),
        ("-x:a/b", "\"-x\" is not a host name"),
        ("https://exa mple.org/a", "\"exa mple.org\" is not a host name"),
        ("https://example.org../a", "\"example.org.\" is not a host name"),
        ("https://example.org:x/a", "\"x\" is not a port"),
        ("https://example.org:70000/a", "\"70000\" is not a port"),
        ("https://[::g]/a", "\"[::g]\" is not a host name"),
        ("https://example.org/a?x=1", "it has a query or a fragment"),
        ("https://example.org/a%2fb", "it has an encoded '/'"),
        ("https://example.org/a%zz", "a % that does not start an encoded character"),
        ("https://example.org/a%0ab", "its path has the control character '\\n'"),
        ("https://example.org/a/../b", "its path has the segment \"..\""),
        ("/srv/../x", "its path has the segment \"..\""),
        ("/srv/x*", "has a *"),
        ("file://server/srv/x", "file:// names the host \"server\""),
    ];
    for (url, reason) in cases {
        let error = canonical_repo_id(url).unwrap_err().to_string();
        assert!(error.contains(reason), "{url}: {error}");
        assert!(error.contains("user@host:path"), "says what is allowed: {error}");
    }
    let long = format!("/srv/{}", "x/".repeat(300));
    assert!(canonical_repo_id(&long).is_err());
}

#[test]
fn stored_ids_are_read_back_only_if_canonical() {
    for id in ["example.org/a", "example.org:443/a", "/srv/x", "[::1]:2222/a"] {
        assert_eq!(RepoId::from_canonical(id).unwrap().as_str(), id);
    }
    for other in ["example.org/a.git", "Example.org/a", "/srv//x", "me@example.org/a", "a", ""] {
        assert!(RepoId::from_canonical(other).is_err(), "{other}");
    }
}

proptest! {
    #[test]
    fn ids_are_canonical_whatever_the_url(
        url in "(https://|ssh://g@|git://|file://|g@|/)?[a-bA-B.:@*%~ /-]{0,12}(\\.git)?/?",
    ) {
        if let Ok(id) = canonical_repo_id(&url) {
            prop_assert_eq!(RepoId::from_canonical(id.as_str()), Ok(id.clone()), "from {}", url);
        }
    }
}
