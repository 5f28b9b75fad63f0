//! The request target, in the forms of RFC 9112 section 3.2, and the host it names.

use super::errors::RequestFault;
use super::syntax::{any_byte, find_byte};

/// The parts of a request target, as sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// Given in absolute form only.
    pub(super) authority: Option<&'a [u8]>,
    /// In absolute form, with the scheme `https`.
    pub(super) is_https: bool,
    /// `*` in asterisk form; may be empty in absolute form.
    pub(super) path: &'a [u8],
    /// Without the `?`.
    pub(super) query: &'a [u8],
}

/// Splits `target` into its parts.
///
/// # Errors
/// [`RequestFault::Target`] if it has none of the forms that `method` allows, [`RequestFault::HostInvalid`] if
/// an absolute target's authority is not a host, [`RequestFault::Connect`] for CONNECT.
///
/// Bytes from 0x80 up belong in no URI, but many clients send UTF-8 as it is and other servers take it: they pass if
/// `non_ascii`.
pub(super) fn parse_target<'a>(
    method: &[u8],
    target: &'a [u8],
    non_ascii: bool,
) -> Result<Target<'a>, RequestFault> {
    if method == b"CONNECT" {
        return Err(RequestFault::Connect);
    }
    let last = if non_ascii { u8::MAX } else { 0x7e };
    if any_byte(target, |byte| !(0x21..=last).contains(&byte) || byte == b'#' || byte == 0x7f) {
        return Err(RequestFault::Target);
    }
    match target {
        [b'/', ..] => Ok(split_query(None, target)),
        b"*" if method == b"OPTIONS" => Ok(split_query(None, target)),
        _ => parse_absolute(target),
    }
}

fn parse_absolute(target: &[u8]) -> Result<Target<'_>, RequestFault> {
    let found = [("http://", false), ("https://", true)].into_iter().find_map(|(scheme, is_https)| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some((rest, is_https))
    });
    let (rest, is_https) = found.ok_or(RequestFault::Target)?;
    let authority_end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at_checked(authority_end).ok_or(RequestFault::Target)?;
    if authority.is_empty() {
        return Err(RequestFault::Target);
    }
    check_host(authority)?;
    Ok(Target { is_https, ..split_query(Some(authority), path_and_query) })
}

fn split_query<'a>(authority: Option<&'a [u8]>, path_and_query: &'a [u8]) -> Target<'a> {
    let path_end = find_byte(path_and_query, b'?').unwrap_or(path_and_query.len());
    let (path, query) = path_and_query.split_at_checked(path_end).unwrap_or((path_and_query, b""));
    Target { authority, is_https: false, path, query: query.strip_prefix(b"?").unwrap_or(query) }
}

/// Checks `uri-host [ ":" port ]` (RFC 9110 section 7.2). An empty value is legal, an empty host with a port not.
///
/// # Errors
/// [`RequestFault::HostInvalid`].
pub(super) fn check_host(value: &[u8]) -> Result<(), RequestFault> {
    let (is_host, port) = match value {
        [] => return Ok(()),
        [b'[', rest @ ..] => {
            let end = rest.iter().position(|&byte| byte == b']').ok_or(RequestFault::HostInvalid)?;
            let (address, after) = rest.split_at_checked(end).ok_or(RequestFault::HostInvalid)?;
            (is_ip_literal(address), after.get(1..).unwrap_or_default())
        }
        _ => {
            let end = value.iter().position(|&byte| byte == b':').unwrap_or(value.len());
            let (name, after) = value.split_at_checked(end).ok_or(RequestFault::HostInvalid)?;
            (is_registered_name(name), after)
        }
    };
    if is_host && is_port(port) { Ok(()) } else { Err(RequestFault::HostInvalid) }
}

/// Whether `suffix` is empty or a colon and a port number, which may be missing (RFC 3986 section 3.2.3).
fn is_port(suffix: &[u8]) -> bool {
    match suffix {
        [] => true,
        [b':', digits @ ..] => {
            let append = |port: u16, byte: &u8| {
                let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
                port.checked_mul(10)?.checked_add(digit)
            };
            digits.iter().try_fold(0, append).is_some()
        }
        _ => false,
    }
}

/// RFC 3986 `reg-name` (an IPv4 address is one too), but not empty.
fn is_registered_name(mut name: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    while let [first, rest @ ..] = name {
        name = match (first, rest) {
            (b'%', [high, low, rest @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => rest,
            (&byte, rest) if is_unreserved_or_sub_delimiter(byte) => rest,
            _ => return false,
        };
    }
    true
}

/// What stands between the brackets: an IPv6 address, or RFC 3986's `IPvFuture`.
fn is_ip_literal(address: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = address {
        let mut parts = rest.splitn(2, |&byte| byte == b'.');
        let (version, future) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_future_byte = |&byte: &u8| byte == b':' || is_unreserved_or_sub_delimiter(byte);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !future.is_empty()
            && future.iter().all(is_future_byte);
    }
    std::str::from_utf8(address).is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_unreserved_or_sub_delimiter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(
        method: &str,
        target: &'static str,
    ) -> Result<(Option<&'static str>, &'static str, &'static str), RequestFault> {
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        parse_target(method.as_bytes(), target.as_bytes(), true)
            .map(|target| (target.authority.map(text), text(target.path), text(target.query)))
    }

    #[test]
    fn origin_form() {
        assert_eq!(parts("GET", "/"), Ok((None, "/", "")));
        assert_eq!(parts("GET", "/a%2fb//c?d=e?f"), Ok((None, "/a%2fb//c", "d=e?f")));
        assert_eq!(parts("GET", "//not-an-authority/a"), Ok((None, "//not-an-authority/a", "")));
    }

    #[test]
    fn absolute_form() {
        assert_eq!(parts("GET", "http://a.example/b?c"), Ok((Some("a.example"), "/b", "c")));
        assert_eq!(parts("GET", "HTTPS://a.example:80"), Ok((Some("a.example:80"), "", "")));
        assert_eq!(parts("GET", "http://a.example?c"), Ok((Some("a.example"), "", "c")));
        assert_eq!(parts("GET", "http://[::1]:80/b"), Ok((Some("[::1]:80"), "/b", "")));
    }

    #[test]
    fn absolute_form_without_an_honest_authority_is_refused() {
        assert_eq!(parts("GET", "http:///b"), Err(RequestFault::Target));
        assert_eq!(parts("GET", "http://?b"), Err(RequestFault::Target));
        assert_eq!(parts("GET", "http://user@a.example/"), Err(RequestFault::HostInvalid));
        assert_eq!(parts("GET", "ftp://a.example/"), Err(RequestFault::Target));
        assert_eq!(parts("GET", "http:/a.example/"), Err(RequestFault::Target));
    }

    #[test]
    fn asterisk_form_is_for_options() {
        assert_eq!(parts("OPTIONS", "*"), Ok((None, "*", "")));
        assert_eq!(parts("GET", "*"), Err(RequestFault::Target));
        assert_eq!(parts("OPTIONS", "*a"), Err(RequestFault::Target));
    }

    #[test]
    fn authority_form_is_for_connect_which_is_not_served() {
        assert_eq!(parts("CONNECT", "a.example:443"), Err(RequestFault::Connect));
        assert_eq!(parts("GET", "a.example:443"), Err(RequestFault::Target));
    }

    #[test]
    fn fragments_and_invisible_bytes_are_refused() {
        for byte in (0..=b' ').chain([b'#', 0x7f]) {
            let target = [b"/a", [byte].as_slice(), b"b"].concat();
            for non_ascii in [false, true] {
                assert_eq!(parse_target(b"GET", &target, non_ascii), Err(RequestFault::Target), "{byte:#x}");
            }
        }
    }

    #[test]
    fn bytes_that_are_not_ascii_pass_if_they_may() {
        for byte in 0x80..=0xff {
            let target = [b"/a?", [byte].as_slice(), b"b"].concat();
            let passed = parse_target(b"GET", &target, true).unwrap();
            assert_eq!((passed.path, passed.query), (b"/a".as_slice(), &target[3..]));
            assert_eq!(parse_target(b"GET", &target, false), Err(RequestFault::Target), "{byte:#x}");
            let host = [b"http://a", [byte].as_slice(), b"b/"].concat();
            assert_eq!(parse_target(b"GET", &host, true), Err(RequestFault::HostInvalid), "{byte:#x}");
        }
    }

    #[test]
    fn the_scheme_of_an_absolute_target_is_told() {
        let is_https = |target: &str| parse_target(b"GET", target.as_bytes(), true).unwrap().is_https;
        assert!(is_https("https://a/") && is_https("HTTPS://a?b"));
        assert!(!is_https("http://a/") && !is_https("/https://a/"));
    }

    #[test]
    fn hosts() {
        for valid in
            ["", "a", "a_b.example", "127.0.0.1:8000", "a:", "%41.example", "[::1]", "[v1.a:b]:1", "a:65535"]
        {
            assert_eq!(check_host(valid.as_bytes()), Ok(()), "{valid}");
        }
        let invalid = [
            ":80",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a:1:2",
            "a:65536",
            "a:99999",
            "a:4294967296",
            "a:-1",
            "a:+1",
            "%4",
            "%zz",
            "[::1",
            "[]",
            "[::1]a",
            "[a]",
            "[v.a]",
            "[v1.]",
            "a\"",
            "a\\b",
            "a<b",
            "a?b",
            "a#b",
            "\u{e4}",
            "a\t",
            "::1",
            "[fe80::1%eth0]",
        ];
        for invalid in invalid {
            assert_eq!(check_host(invalid.as_bytes()), Err(RequestFault::HostInvalid), "{invalid}");
        }
    }
}
