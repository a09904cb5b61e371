//! Addresses of providers: http and https only, and nothing in them that has a place of its own.

/// Longest address, in bytes.
pub(super) const URL_BYTES_MAX: usize = 2048;

/// The parts of an address that the rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    /// Whether the connection is encrypted.
    pub(crate) https: bool,
    /// Name or address, without brackets.
    pub(crate) host: &'a str,
}

/// Reads the address of a provider.
pub(crate) fn read(url: &str) -> Result<Address<'_>, &'static str> {
    let (https, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err("must begin with https:// or http://"),
    };
    if url.len() > URL_BYTES_MAX || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be at most 2048 visible ASCII characters");
    }
    if rest.contains(['?', '#']) {
        return Err("must have no query or fragment; a query goes into spec.query");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err("must hold no user or password; a key goes into a secret, named by spec.auth");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').ok_or("has a '[' without a ']'")?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let valid_port = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok_and(|port| port != 0),
        None => port.is_empty(),
    };
    match (host.is_empty(), valid_port) {
        (true, _) => Err("must name a host"),
        (_, false) => Err("must have a port of 1 to 65535, or none"),
        _ => Ok(Address { https, host }),
    }
}

/// Whether a host is this machine, by its text alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_and_hold_nothing_else() {
        for (url, https, host) in [
            ("https://api.example.org", true, "api.example.org"),
            ("https://api.example.org/v1", true, "api.example.org"),
            ("http://127.0.0.1:8080/v1", false, "127.0.0.1"),
            ("http://[::1]:11434", false, "::1"),
            ("http://localhost/", false, "localhost"),
        ] {
            assert_eq!(read(url), Ok(Address { https, host }), "{url}");
        }
        for bad in [
            "",
            "api.example.org",
            "ftp://a",
            "https://",
            "https:///v1",
            "https://a:0",
            "https://a:x",
            "https://user:key@a",
            "https://a?key=1",
            "https://a#b",
            "https://a b",
            "https://[::1",
            "https://a\n",
            "http://[::1]x",
            "HTTPS://a",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        for (host, loopback) in [
            ("localhost", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("a", false),
        ] {
            assert_eq!(is_loopback(host), loopback, "{host}");
        }
    }
}
