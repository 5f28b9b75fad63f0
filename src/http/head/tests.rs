use super::*;

fn parse_with(limits: &HttpLimits, bytes: &[u8]) -> Result<Option<RequestHead>, RequestFault> {
    RequestHead::parse(bytes.to_vec(), limits)
}

fn parse(bytes: impl AsRef<[u8]>) -> Result<RequestHead, RequestFault> {
    let head = parse_with(&HttpLimits::default(), bytes.as_ref());
    head.map(|head| head.expect("the head is complete"))
}

fn fault(bytes: impl AsRef<[u8]>) -> Option<RequestFault> {
    parse(bytes).err()
}

/// What the request line `line` leads to in a request that is otherwise right.
fn line_fault(line: &str) -> Option<RequestFault> {
    fault(format!("{line}\r\nHost: a\r\n\r\n"))
}

#[test]
fn parts_of_a_head() {
    let head = parse("GET /a%20b?c=d HTTP/1.1\r\nHost: a.example:8000\r\nX-Empty:\r\nx-a: \t b c \t\r\n\r\n")
        .unwrap();
    assert_eq!(head.method(), b"GET");
    assert_eq!(head.target(), b"/a%20b?c=d");
    assert_eq!(head.path(), b"/a%20b");
    assert_eq!(head.query(), b"c=d");
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.host(), Some(b"a.example:8000".as_slice()));
    let fields: Vec<_> = head.headers().collect();
    let expected: [(&[u8], &[u8]); 3] = [(b"Host", b"a.example:8000"), (b"X-Empty", b""), (b"x-a", b"b c")];
    assert_eq!(fields, expected);
    assert_eq!(head.header(b"X-A"), Some(b"b c".as_slice()));
    assert_eq!(head.header(b"x-b"), None);
    let facts = RequestFacts { version: Version::Http11, is_head: false, keep_alive: true };
    assert_eq!(head.facts(), facts);
}

#[test]
fn first_of_repeated_fields_is_found_and_all_are_kept() {
    let head = parse("HEAD / HTTP/1.0\r\nCookie: a\r\ncookie: b\r\n\r\n").unwrap();
    assert_eq!(head.header(b"cookie"), Some(b"a".as_slice()));
    assert_eq!(head.headers().count(), 2);
    assert!(head.facts().is_head);
}

#[test]
fn custom_methods_are_the_applications_business() {
    for method in ["PROPFIND", "get", "M-SEARCH", "!#$%&'*+-.^_`|~1"] {
        assert_eq!(line_fault(&format!("{method} / HTTP/1.1")), None, "{method}");
    }
    assert_eq!(line_fault("CONNECT a:443 HTTP/1.1"), Some(RequestFault::Connect));
}

#[test]
fn method_at_its_limit_passes_and_one_byte_more_does_not() {
    let line = |length: usize| format!("{} / HTTP/1.1", "M".repeat(length));
    assert_eq!(line_fault(&line(METHOD_BYTES_MAX)), None);
    assert_eq!(line_fault(&line(METHOD_BYTES_MAX + 1)), Some(RequestFault::MethodTooLong));
}

#[test]
fn request_line_has_exactly_two_spaces() {
    for line in ["GET", "GET /", "GET  HTTP/1.1", "G(T / HTTP/1.1", "G\u{e9}T / HTTP/1.1"] {
        assert_eq!(line_fault(line), Some(RequestFault::RequestLine), "{line}");
    }
    for line in [" GET / HTTP/1.1", "\x16\x03\x01", "\0GET / HTTP/1.1", "\tGET / HTTP/1.1"] {
        assert_eq!(line_fault(line), Some(RequestFault::RequestLine), "{line:?}");
    }
    for line in ["GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET / a HTTP/1.1", "GET /\tHTTP/1.1 HTTP/1.1"] {
        assert_eq!(line_fault(line), Some(RequestFault::Target), "{line}");
    }
}

#[test]
fn versions() {
    assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().version(), Version::Http10);
    assert_eq!(parse("GET / HTTP/1.7\r\nHost: a\r\n\r\n").unwrap().version(), Version::Http11);
    for line in ["GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3.1", "PRI * HTTP/2.0"] {
        assert_eq!(line_fault(line), Some(RequestFault::VersionUnsupported), "{line}");
    }
    for version in [
        "",
        "HTTP/1.1 ",
        "http/1.1",
        "HTTP/1",
        "HTTP/11.1",
        "HTTP/1.10",
        "HTTP/1,1",
        "HTTP /1.1",
        "HTTPS/1.1",
    ] {
        let fault = line_fault(&format!("GET / {version}"));
        // A space inside makes one part more, and the fault one of the target.
        assert!(matches!(fault, Some(RequestFault::Version | RequestFault::Target)), "{version}");
    }
}

#[test]
fn http_2_preface_is_refused_by_its_version() {
    assert_eq!(fault("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(RequestFault::VersionUnsupported));
}

#[test]
fn host_is_demanded_once_in_http_1_1() {
    assert_eq!(fault("GET / HTTP/1.1\r\n\r\n"), Some(RequestFault::HostMissing));
    assert_eq!(fault("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), Some(RequestFault::HostRepeated));
    assert_eq!(fault("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), Some(RequestFault::HostInvalid));
    assert_eq!(fault("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Some(RequestFault::HostRepeated));
    assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().host(), None);
}

#[test]
fn absolute_target_wins_over_host() {
    let head = parse("GET http://b.example/c?d HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert_eq!(head.host(), Some(b"b.example".as_slice()));
    assert_eq!((head.path(), head.query()), (b"/c".as_slice(), b"d".as_slice()));
    assert_eq!(fault("GET http://b.example/ HTTP/1.1\r\n\r\n"), Some(RequestFault::HostMissing));
}

#[test]
fn path_of_a_target_without_one() {
    let path = |method: &str, target: &str| {
        parse(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap().path().to_vec()
    };
    assert_eq!(path("GET", "http://a"), b"/");
    assert_eq!(path("OPTIONS", "http://a"), b"*");
    assert_eq!(path("OPTIONS", "http://a?b"), b"/");
    assert_eq!(path("OPTIONS", "*"), b"*");
}

/// CVE-2019-16785: a server behind a proxy that sees no line end in a bare LF must see none either.
#[test]
fn bare_line_feed_wherever_it_stands() {
    for head in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n",
        "GET / HTTP/1.1\n\n",
    ] {
        assert_eq!(fault(head), Some(RequestFault::BareLineFeed), "{head:?}");
    }
}

#[test]
fn bare_carriage_return_wherever_it_stands() {
    assert_eq!(fault("GET / HTTP/1.1\rX\r\nHost: a\r\n\r\n"), Some(RequestFault::Version));
    assert_eq!(fault("GET /\ra HTTP/1.1\r\nHost: a\r\n\r\n"), Some(RequestFault::Target));
    assert_eq!(fault("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"), Some(RequestFault::FieldValue));
    assert_eq!(fault("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"), Some(RequestFault::FieldValue));
    assert_eq!(fault("GET / HTTP/1.1\r\nHo\rst: a\r\n\r\n"), Some(RequestFault::FieldName));
    assert_eq!(fault("GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n"), Some(RequestFault::FieldName));
}

/// Short and long, because httparse looks at long runs with other code.
#[test]
fn bytes_of_field_values() {
    for padding in [0, 7, 15, 31, 40, 64] {
        for byte in (0..=255).filter(|byte| !matches!(byte, b'\r' | b'\n')) {
            let padding = "a".repeat(padding);
            let head =
                [b"GET / HTTP/1.0\r\nX: ", padding.as_bytes(), &[byte], padding.as_bytes(), b"\r\n\r\n"];
            let allowed = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            let expected = (!allowed).then_some(RequestFault::FieldValue);
            assert_eq!(fault(head.concat()), expected, "{byte:#x} between {} bytes", padding.len());
        }
    }
}

#[test]
fn bytes_of_field_names() {
    for padding in [0, 7, 15, 31, 40, 64] {
        for byte in (0..=255).filter(|byte| !matches!(byte, b'\n' | b':')) {
            let padding = "a".repeat(padding);
            let head =
                [b"GET / HTTP/1.0\r\nX", padding.as_bytes(), &[byte], padding.as_bytes(), b": b\r\n\r\n"];
            let expected = (!is_token_byte(byte)).then_some(RequestFault::FieldName);
            assert_eq!(fault(head.concat()), expected, "{byte:#x} between {} bytes", padding.len());
        }
    }
    assert_eq!(fault("GET / HTTP/1.0\r\nX\r\n\r\n"), Some(RequestFault::FieldName));
}

#[test]
fn request_line_at_its_limit_passes_and_one_byte_more_does_not() {
    let limits = HttpLimits { request_line_bytes_max: 20, ..HttpLimits::default() };
    let fault = |line: &str| parse_with(&limits, format!("{line}\r\n\r\n").as_bytes()).err();
    assert_eq!(fault("GET /67890 HTTP/1.0"), None);
    assert_eq!(fault("GET /678901 HTTP/1.0"), None);
    assert_eq!(fault("GET /6789012 HTTP/1.0"), Some(RequestFault::RequestLineTooLong));
}

#[test]
fn request_line_without_end_is_refused_at_its_limit() {
    let limits = HttpLimits { request_line_bytes_max: 20, ..HttpLimits::default() };
    assert!(parse_with(&limits, &[b'a'; 21]).unwrap().is_none());
    assert_eq!(parse_with(&limits, &[b'a'; 22]).err(), Some(RequestFault::RequestLineTooLong));
}

#[test]
fn header_section_at_its_limit_passes_and_one_byte_more_does_not() {
    let limits = HttpLimits { header_bytes_max: 10, ..HttpLimits::default() };
    let fault =
        |fields: &str| parse_with(&limits, format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes()).err();
    assert_eq!(fault("A: 45678\r\n"), None);
    assert_eq!(fault("A: 456789\r\n"), Some(RequestFault::HeaderTooLarge));
    assert_eq!(fault("A:b\r\nC:d\r\n"), None);
    assert_eq!(fault("A:b\r\nC:de\r\n"), Some(RequestFault::HeaderTooLarge));
}

#[test]
fn header_section_without_end_is_refused_at_its_limit() {
    let limits = HttpLimits { header_bytes_max: 10, ..HttpLimits::default() };
    let start = b"GET / HTTP/1.0\r\n".as_slice();
    assert!(parse_with(&limits, &[start, &[b'a'; 11]].concat()).unwrap().is_none());
    assert_eq!(parse_with(&limits, &[start, &[b'a'; 12]].concat()).err(), Some(RequestFault::HeaderTooLarge));
}

#[test]
fn header_count_at_its_limit_passes_and_one_more_does_not() {
    // Below, at and above the number for which there is room on the stack.
    for count_max in [0, 1, 31, 32, 33, 100] {
        let limits = HttpLimits { header_count_max: count_max, ..HttpLimits::default() };
        let parse = |count| {
            parse_with(&limits, format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(count)).as_bytes())
        };
        assert_eq!(parse(count_max).unwrap().unwrap().headers().count(), count_max);
        assert_eq!(parse(count_max + 1).err(), Some(RequestFault::HeaderTooManyFields));
    }
}

#[test]
fn incomplete_head_is_no_fault() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for length in 0..head.len() {
        assert!(parse_with(&HttpLimits::default(), &head[..length]).unwrap().is_none(), "{length}");
    }
}
