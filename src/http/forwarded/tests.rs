use proptest::prelude::*;

use super::*;
use crate::limits::HttpLimits;

/// What is believed of these fields if 10.0.0.0/8 and `::1` are trusted.
fn read(fields: &str) -> Result<Forwarded, RequestFault> {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    let head = RequestHead::parse(head.into_bytes(), &HttpLimits::default()).unwrap().unwrap();
    let is_trusted = |address| match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.is_loopback(),
    };
    Ok(Forwarded::read(&head, &is_trusted)?.unwrap_or_default())
}

fn client(fields: &str) -> Result<Option<String>, RequestFault> {
    Ok(read(fields)?.client.map(|node| match node.port {
        Some(port) => SocketAddr::new(node.address, port).to_string(),
        None => node.address.to_string(),
    }))
}

#[expect(clippy::unnecessary_wraps, reason = "what client() returns")]
fn is(address: &str) -> Result<Option<String>, RequestFault> {
    Ok(Some(address.to_owned()))
}

const MALFORMED: RequestFault = RequestFault::Forwarded;
const REPEATED: RequestFault = RequestFault::ForwardedRepeated;
const CONTRADICTORY: RequestFault = RequestFault::ForwardedContradictory;

#[test]
fn the_rightmost_address_that_is_not_trusted_is_the_client() {
    for (list, expected) in [
        ("192.0.2.1", is("192.0.2.1")),
        ("203.0.113.9, 192.0.2.1", is("192.0.2.1")),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2", is("192.0.2.1")),
        ("203.0.113.9,192.0.2.1 ,\t10.0.0.2,10.0.0.1", is("192.0.2.1")),
        ("10.0.0.3, 10.0.0.2", is("10.0.0.3")),
        ("garbage, 192.0.2.1", is("192.0.2.1")),
        ("\"garbage, 192.0.2.1", is("192.0.2.1")),
        (", 192.0.2.1,, ", is("192.0.2.1")),
        ("", Ok(None)),
        (",", Ok(None)),
        ("2001:db8::1", is("2001:db8::1")),
        ("[2001:db8::1]", is("2001:db8::1")),
        ("[2001:db8::1]:80", is("[2001:db8::1]:80")),
        ("192.0.2.1:80, ::1", is("192.0.2.1:80")),
        ("::ffff:192.0.2.1", is("192.0.2.1")),
        ("203.0.113.9, ::ffff:10.0.0.1", is("203.0.113.9")),
        ("192.0.2.1, unknown", Ok(None)),
        ("192.0.2.1, unknown, 10.0.0.1", is("10.0.0.1")),
        ("192.0.2.1, _hidden", Ok(None)),
        ("localhost", Err(MALFORMED)),
        ("192.0.2.1, localhost, 10.0.0.1", Err(MALFORMED)),
        ("192.0.2.01", Err(MALFORMED)),
        ("192.0.2.1:", Err(MALFORMED)),
        ("192.0.2.1:65536", Err(MALFORMED)),
        ("192.0.2.1:-1", Err(MALFORMED)),
        ("192.0.2.1/32", Err(MALFORMED)),
        ("[192.0.2.1]", Err(MALFORMED)),
        ("[2001:db8::1", Err(MALFORMED)),
        ("fe80::1%eth0", Err(MALFORMED)),
        ("\"192.0.2.1\"", Err(MALFORMED)),
        ("caf\u{e9}", Err(MALFORMED)),
    ] {
        assert_eq!(client(&format!("X-Forwarded-For: {list}")), expected, "{list}");
    }
}

#[test]
fn a_list_may_be_spread_over_fields() {
    assert_eq!(client("X-Forwarded-For: 192.0.2.1\r\nx-forwarded-for: 10.0.0.1"), is("192.0.2.1"));
    assert_eq!(client("Forwarded: for=192.0.2.1\r\nforwarded: for=10.0.0.1"), is("192.0.2.1"));
}

#[test]
fn forwarded_is_read_by_its_own_grammar() {
    for (value, expected) in [
        ("for=192.0.2.1", is("192.0.2.1")),
        ("FOR=\"192.0.2.1\"", is("192.0.2.1")),
        ("for=\"192.0.2.1:80\"", is("192.0.2.1:80")),
        ("for=\"[2001:db8::1]:80\";proto=http", is("[2001:db8::1]:80")),
        ("for=\"[2001:db8::1]:_hidden\"", is("2001:db8::1")),
        ("for=\"192.0.2\\.1\"", is("192.0.2.1")),
        ("for=203.0.113.9, for=192.0.2.1 ; by=10.0.0.1", is("192.0.2.1")),
        ("for=203.0.113.9;by=\"a,b;c\", for=10.0.0.1", is("203.0.113.9")),
        ("for=garbage, for=192.0.2.1", is("192.0.2.1")),
        ("for=192.0.2.1;", is("192.0.2.1")),
        ("secret=x;for=192.0.2.1", is("192.0.2.1")),
        (", ,for=192.0.2.1,", is("192.0.2.1")),
        ("for=192.0.2.1, proto=https", Ok(None)),
        ("for=192.0.2.1, for=unknown", Ok(None)),
        ("", Ok(None)),
        ("for", Err(MALFORMED)),
        ("for=", Err(MALFORMED)),
        ("for =192.0.2.1", Err(MALFORMED)),
        ("for= 192.0.2.1", Err(MALFORMED)),
        ("for=192.0.2.1 for=10.0.0.1", Err(MALFORMED)),
        ("for=192.0.2.1:80", Err(MALFORMED)),
        ("for=[2001:db8::1]", Err(MALFORMED)),
        (";for=192.0.2.1", Err(MALFORMED)),
        ("=192.0.2.1", Err(MALFORMED)),
        ("for=\"192.0.2.1", Err(MALFORMED)),
        ("for=\"192.0.2.1\\", Err(MALFORMED)),
        ("for=\"192.0.2.1\"x", Err(MALFORMED)),
        ("for=localhost", Err(MALFORMED)),
        ("for=192.0.2.1;for=192.0.2.1", Err(REPEATED)),
        ("for=192.0.2.1;proto=http;PROTO=http", Err(REPEATED)),
        ("for=192.0.2.1;host=a;host=b", Err(REPEATED)),
    ] {
        assert_eq!(client(&format!("Forwarded: {value}")), expected, "{value}");
    }
}

/// A quote that the client opens would make the proxy's own words part of the client's.
#[test]
fn a_quote_left_open_does_not_swallow_what_the_proxy_adds() {
    for start in ["for=203.0.113.9;secret=\"", "\"", "for=\"203.0.113.9"] {
        assert_eq!(read(&format!("Forwarded: {start}, for=192.0.2.1;proto=http")), Err(MALFORMED), "{start}");
        assert_eq!(read(&format!("Forwarded: {start}, for=\"192.0.2.1\"")), Err(MALFORMED), "{start}");
        assert_eq!(
            read(&format!("Forwarded: {start}\r\nForwarded: for=192.0.2.1")),
            Err(MALFORMED),
            "{start}"
        );
    }
}

#[test]
fn scheme_and_host_are_those_the_client_used_towards_a_trusted_proxy() {
    let forwarded = read(
        "Forwarded: for=203.0.113.9;proto=ftp;host=evil, for=192.0.2.1;proto=https;host=\"a.example:8443\", \
         for=10.0.0.2;proto=http;host=internal",
    )
    .unwrap();
    assert_eq!(forwarded.scheme, Some(Scheme::Https));
    assert_eq!(forwarded.host.as_deref(), Some(&b"a.example:8443"[..]));
    assert_eq!(read("Forwarded: proto=https").unwrap().scheme, Some(Scheme::Https));
}

#[test]
fn what_has_one_value_has_it_once() {
    for (name, value, other) in
        [("Proto", "https", "http"), ("Host", "a.example", "b.example"), ("Port", "443", "80")]
    {
        assert!(read(&format!("X-Forwarded-{name}: {value}")).is_ok());
        for second in [value, other] {
            let fields = format!("X-Forwarded-{name}: {value}\r\nX-FORWARDED-{name}: {second}");
            assert_eq!(read(&fields), Err(REPEATED), "{fields}");
        }
    }
}

/// Each trusted proxy has added one entry, so the one that heard from the client wrote as many from the end as there
/// are trusted proxies; what stands before it is hearsay.
#[test]
fn of_a_list_the_entry_of_the_proxy_that_heard_from_the_client_counts() {
    let scheme = |clients: &str, list: &str| {
        let clients =
            if clients.is_empty() { String::new() } else { format!("X-Forwarded-For: {clients}\r\n") };
        read(&format!("{clients}X-Forwarded-Proto: {list}")).unwrap().scheme
    };
    for (clients, list, expected) in [
        ("", "https,http", Scheme::Http),
        ("", "http, https", Scheme::Https),
        ("", " ,https, ,", Scheme::Https),
        ("192.0.2.1", "https, http", Scheme::Http),
        ("192.0.2.1, 10.0.0.1", "https, http", Scheme::Https),
        ("203.0.113.9, 192.0.2.1, 10.0.0.1", "http, https, http", Scheme::Https),
        ("192.0.2.1, 10.0.0.2, 10.0.0.1", "https, http", Scheme::Https),
        ("192.0.2.1, 10.0.0.1", "https", Scheme::Https),
        ("192.0.2.1, 10.0.0.1", "hearsay, https, http", Scheme::Https),
        ("10.0.0.3, 10.0.0.2, 10.0.0.1", "https, http, http", Scheme::Https),
    ] {
        assert_eq!(scheme(clients, list), Some(expected), "{clients} {list}");
    }
    let fields = "X-Forwarded-For: 192.0.2.1, 10.0.0.1\r\nX-Forwarded-Host: evil, a.example:8443, inner\r\n\
                  X-Forwarded-Port: 1, 8443, 80";
    let found = read(fields).unwrap();
    assert_eq!((found.host.as_deref(), found.port), (Some(b"a.example:8443".as_slice()), Some(8443)));
    assert_eq!(read("X-Forwarded-Proto: https, ftp"), Err(MALFORMED), "the entry that counts");
}

#[test]
fn what_is_malformed_is_refused() {
    for (name, values) in [
        ("Proto", &["", "ftp", "on", "https ;", "httpss", "\"https\""][..]),
        ("Host", &["", "a b", "a/b", "user@a", "a:b", ":80", "\"a\""]),
        ("Port", &["", "0", "65536", "+80", "https", "80 80"]),
    ] {
        for value in values {
            assert_eq!(read(&format!("X-Forwarded-{name}: {value}")), Err(MALFORMED), "{name} {value:?}");
        }
    }
}

#[test]
fn both_families_must_agree() {
    for (older, standard) in [
        ("X-Forwarded-For: 192.0.2.1", "for=192.0.2.2"),
        ("X-Forwarded-For: 192.0.2.1:1", "for=\"192.0.2.1:2\""),
        ("X-Forwarded-Proto: http", "for=192.0.2.1;proto=https"),
        ("X-Forwarded-Host: a.example", "host=b.example"),
    ] {
        assert_eq!(read(&format!("{older}\r\nForwarded: {standard}")), Err(CONTRADICTORY), "{older}");
    }
    let both = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: A.example\r\n\
                Forwarded: for=\"192.0.2.1:5\";proto=HTTPS;host=a.example";
    assert_eq!(client(both), is("192.0.2.1:5"));
    assert_eq!(read(both).unwrap().scheme, Some(Scheme::Https));
}

#[test]
fn other_fields_say_nothing() {
    let fields =
        "X-Real-IP: 192.0.2.1\r\nX-Forwarded-Server: a\r\nX-Forwarded-Ssl: on\r\nX_Forwarded_For: 192.0.2.1";
    assert_eq!(read(fields), Ok(Forwarded::default()));
}

#[test]
fn the_port_of_the_server_follows_from_what_is_told() {
    let port =
        |fields: &str, host: &str| read(fields).unwrap().server_port(Some(host.as_bytes()), Scheme::Http);
    assert_eq!(port("X-Forwarded-For: 192.0.2.1", "a:8080"), None);
    assert_eq!(port("X-Forwarded-Port: 8443", "a:8080"), Some(8443));
    assert_eq!(port("X-Forwarded-Proto: https", "a"), Some(443));
    assert_eq!(port("X-Forwarded-Proto: https", "[::1]"), Some(443));
    assert_eq!(port("X-Forwarded-Proto: https", "[::1]:8443"), Some(8443));
    assert_eq!(port("X-Forwarded-Proto: https\r\nX-Forwarded-Port: 8443", "a"), Some(8443));
    assert_eq!(port("X-Forwarded-Host: b:81\r\nX-Forwarded-Port: 8443", "a:82"), Some(81));
    assert_eq!(port("X-Forwarded-Host: b", "a:82"), Some(80));
    let name =
        |host: &str| read(&format!("X-Forwarded-Host: {host}")).unwrap().server_name().unwrap().to_vec();
    assert_eq!((name("a.example"), name("a:80")), (b"a.example".to_vec(), b"a".to_vec()));
    assert_eq!((name("[::1]"), name("[::1]:80")), (b"[::1]".to_vec(), b"[::1]".to_vec()));
}

proptest! {
    /// Whatever stands to the left of an address that is not trusted, the client is that address.
    #[test]
    fn hearsay_changes_nothing(hearsay in "[ -~]{0,40}", last: [u8; 4]) {
        prop_assume!(last[0] != 10);
        let last = std::net::Ipv4Addr::from(last).to_string();
        prop_assert_eq!(client(&format!("X-Forwarded-For: {hearsay}, {last}")), is(&last));
        let forwarded = client(&format!("Forwarded: {hearsay}, for={last}"));
        prop_assert!(matches!(forwarded, Err(MALFORMED | REPEATED)) || forwarded == is(&last), "{forwarded:?}");
    }

    #[test]
    fn any_value_is_read_or_refused(value in "[ -~\u{e9}]{0,40}") {
        for name in ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto"] {
            let _ = read(&format!("{name}: {value}"));
        }
    }
}

#[test]
fn a_prefix_is_one_path_without_a_slash_at_its_end() {
    let prefix = |value: &str| read(&format!("X-Forwarded-Prefix: {value}")).map(|it| it.prefix);
    for (value, expected) in
        [("/shop", "/shop"), ("/shop/", "/shop"), ("/a/b", "/a/b"), ("/", ""), ("/a%20b", "/a%20b")]
    {
        assert_eq!(prefix(value), Ok(Some(expected.into())), "{value}");
    }
    for value in ["shop", "//evil.example", "/a?b", "/a#b", "/a b", "/\\evil"] {
        assert_eq!(prefix(value), Err(MALFORMED), "{value}");
    }
    assert_eq!(prefix("/a, /b"), Ok(Some(b"/b".to_vec())), "the peer's own");
    assert_eq!(read("X-Forwarded-Prefix: /a\r\nX-Forwarded-Prefix: /a").unwrap_err(), REPEATED);
}
