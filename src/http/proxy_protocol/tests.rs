use proptest::prelude::*;

use super::*;

fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, RequestFault> {
    ProxyHeader::parse(bytes, ProxyVersions::Both)
}

/// The ends that a complete header names, as text.
fn ends_of(bytes: &[u8]) -> Option<(String, String)> {
    let (header, length) = parse(bytes).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    header.ends.map(|ends| (ends.source.to_string(), ends.destination.to_string()))
}

#[expect(clippy::unnecessary_wraps, reason = "what ends_of() returns")]
fn named(source: &str, destination: &str) -> Option<(String, String)> {
    Some((source.to_owned(), destination.to_owned()))
}

fn v2(version_and_command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [V2_START, &[version_and_command, family], &length, block].concat()
}

const IPV4: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0x01, 0xbb];

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], u16::try_from(value.len()).unwrap().to_be_bytes().as_slice(), value].concat()
}

#[test]
fn version_1_names_both_ends() {
    assert_eq!(
        ends_of(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n"),
        named("192.0.2.1:12345", "198.51.100.2:443")
    );
    assert_eq!(
        ends_of(b"PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n"),
        named("[2001:db8::1]:65535", "[2001:db8::2]:0")
    );
    assert_eq!(ends_of(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"), named("192.0.2.1:1", "[::1]:2"));
    assert_eq!(ends_of(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(ends_of(b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), None);
}

#[test]
fn version_1_has_one_spelling() {
    for line in [
        "PROXY ",
        "PROXY TCP4",
        "PROXY TCP4 192.0.2.1 198.51.100.2 12345",
        "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443 ",
        "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443 1",
        "PROXY TCP4  192.0.2.1 198.51.100.2 12345 443",
        "PROXY TCP4 192.0.2.1\t198.51.100.2 12345 443",
        "PROXY TCP4 192.0.2.01 198.51.100.2 12345 443",
        "PROXY TCP4 192.0.2 198.51.100.2 12345 443",
        "PROXY TCP4 192.0.2.256 198.51.100.2 12345 443",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443",
        "PROXY TCP4 192.0.2.1 198.51.100.2 012 443",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +12 443",
        "PROXY TCP4 192.0.2.1 198.51.100.2  443",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 443",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2",
        "PROXY TCP5 192.0.2.1 198.51.100.2 1 2",
        "PROXY UNKNOWNS",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2",
        "PROXY tcp4 192.0.2.1 198.51.100.2 1 2",
        "PROXY UNKNOWN \0",
        "PROXY UNKNOWN \r",
    ] {
        assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(RequestFault::ProxyHeader), "{line}");
    }
    assert_eq!(parse(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\nGET"), Err(RequestFault::ProxyHeader));
}

#[test]
fn version_1_at_its_limit_passes_and_one_more_does_not() {
    let line = |length: usize| format!("PROXY UNKNOWN {}", "x".repeat(length - "PROXY UNKNOWN ".len()));
    assert!(parse(format!("{}\r\n", line(V1_LINE_BYTES_MAX)).as_bytes()).unwrap().is_some());
    assert_eq!(
        parse(format!("{}\r\n", line(V1_LINE_BYTES_MAX + 1)).as_bytes()),
        Err(RequestFault::ProxyHeaderTooLong)
    );
    assert_eq!(parse(line(V1_LINE_BYTES_MAX + 2).as_bytes()), Err(RequestFault::ProxyHeaderTooLong));
}

#[test]
fn version_2_names_both_ends() {
    let expected = named("192.0.2.1:12345", "198.51.100.2:443");
    assert_eq!(ends_of(&v2(0x21, 0x11, IPV4)), expected);
    // A proxy that was spoken to over QUIC says so (HAProxy 2.9).
    assert_eq!(ends_of(&v2(0x21, 0x12, IPV4)), expected);
    let mut ipv6 = [0; 36];
    (ipv6[15], ipv6[31], ipv6[33], ipv6[35]) = (1, 2, 3, 4);
    assert_eq!(ends_of(&v2(0x21, 0x21, &ipv6)), named("[::1]:3", "[::2]:4"));
    (ipv6[10], ipv6[11], ipv6[12]) = (0xff, 0xff, 192);
    assert_eq!(ends_of(&v2(0x21, 0x21, &ipv6)), named("192.0.0.1:3", "[::2]:4"));
}

#[test]
fn version_2_may_name_none() {
    assert_eq!(ends_of(&v2(0x20, 0x00, b"")), None, "a health check");
    assert_eq!(ends_of(&v2(0x20, 0x11, IPV4)), None, "a health check that has addresses, to be ignored");
    assert_eq!(ends_of(&v2(0x20, 0xff, b"anything")), None, "whose block has no form");
    assert_eq!(ends_of(&v2(0x21, 0x00, b"anything")), None, "an unspecified family");
    assert_eq!(ends_of(&v2(0x21, 0x10, IPV4)), None, "an unspecified protocol");
    assert_eq!(ends_of(&v2(0x21, 0x31, &[0; V2_UNIX_BYTES])), None, "a unix socket");
}

#[test]
fn version_2_that_is_malformed_is_refused() {
    for (header, why) in [
        (v2(0x11, 0x11, IPV4), "version 1"),
        (v2(0x31, 0x11, IPV4), "version 3"),
        (v2(0x22, 0x11, IPV4), "an unknown command"),
        (v2(0x21, 0x13, IPV4), "an unknown protocol"),
        (v2(0x21, 0x41, IPV4), "an unknown family"),
        (v2(0x21, 0x11, &IPV4[..11]), "too short for IPv4"),
        (v2(0x21, 0x21, IPV4), "too short for IPv6"),
        (v2(0x21, 0x31, &[0; V2_UNIX_BYTES - 1]), "too short for a unix socket"),
        (v2(0x21, 0x11, &[IPV4, &[4]].concat()), "a vector without a length"),
        (v2(0x21, 0x11, &[IPV4, &[4, 0, 1]].concat()), "a vector longer than the header"),
        (v2(0x21, 0x11, &[IPV4, &tlv(TLV_SSL, b"")].concat()), "an empty vector of TLS"),
        (v2(0x21, 0x11, &[IPV4, &tlv(TLV_CRC32C, b"abc")].concat()), "a checksum of three bytes"),
        (v2(0x21, 0x11, &[IPV4, &tlv(TLV_CRC32C, b"abcd")].concat()), "a wrong checksum"),
    ] {
        assert_eq!(parse(&header), Err(RequestFault::ProxyHeader), "{why}");
    }
}

#[test]
fn version_2_at_its_limit_passes_and_one_more_does_not() {
    let padding = |length: usize| tlv(0x04, &vec![0; length - V2_FIXED_BYTES - IPV4.len() - 3]);
    let header = v2(0x21, 0x11, &[IPV4, &padding(PROXY_HEADER_BYTES_MAX)].concat());
    assert_eq!(header.len(), PROXY_HEADER_BYTES_MAX);
    assert!(parse(&header).unwrap().is_some());
    let header = v2(0x21, 0x11, &[IPV4, &padding(PROXY_HEADER_BYTES_MAX + 1)].concat());
    assert_eq!(parse(&header), Err(RequestFault::ProxyHeaderTooLong));
    assert_eq!(parse(&header[..V2_FIXED_BYTES]), Err(RequestFault::ProxyHeaderTooLong), "before it arrives");
}

#[test]
fn version_2_may_say_that_the_client_spoke_tls() {
    let is_tls =
        |vectors: &[u8]| parse(&v2(0x21, 0x11, &[IPV4, vectors].concat())).unwrap().unwrap().0.is_tls;
    assert!(!is_tls(b""));
    assert!(is_tls(&tlv(TLV_SSL, &[1, 0, 0, 0, 0])));
    assert!(is_tls(&[tlv(0x01, b"h2"), tlv(TLV_SSL, &[7, 0, 0, 0, 0])].concat()));
    assert!(!is_tls(&tlv(TLV_SSL, &[0, 0, 0, 0, 0])));
}

#[test]
fn version_2_may_carry_a_checksum() {
    // The check value of the algorithm, as catalogues of them give it.
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    let mut header = v2(0x21, 0x11, &[IPV4, &tlv(TLV_CRC32C, &[0; 4]), &tlv(0x04, b"x")].concat());
    let sum = crc32c(header.iter().copied()).to_be_bytes();
    let at = V2_FIXED_BYTES + IPV4.len() + 3;
    header[at..at + 4].copy_from_slice(&sum);
    assert!(parse(&header).unwrap().is_some());
    header[V2_FIXED_BYTES] ^= 1;
    assert_eq!(parse(&header), Err(RequestFault::ProxyHeader));
}

#[test]
fn what_is_no_header_is_told_at_its_first_byte() {
    for bytes in [
        &b"G"[..],
        b"POST / HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"\r\n\r\n\r",
        b"proxy tcp4",
        b"PROXYTCP4",
        b"\x16",
    ] {
        assert_eq!(parse(bytes), Err(RequestFault::ProxyHeaderMissing), "{bytes:?}");
    }
    for bytes in [&b""[..], b"P", b"PROXY", b"PROXY T", b"\r", b"\r\n\r\n\0\r\nQUIT\n"] {
        assert_eq!(parse(bytes), Ok(None), "{bytes:?}");
    }
    let v1 = b"PROXY UNKNOWN\r\n";
    assert_eq!(ProxyHeader::parse(v1, ProxyVersions::V2), Err(RequestFault::ProxyHeaderMissing));
    assert_eq!(
        ProxyHeader::parse(&v2(0x20, 0, b""), ProxyVersions::V1),
        Err(RequestFault::ProxyHeaderMissing)
    );
}

/// Headers, and bytes near to them.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        bytes(),
        "PROXY (TCP4|TCP6|UNKNOWN)?[ 0-9.:a-f]{0,60}(\r\n)?".prop_map(String::into_bytes),
        (0x20_u8..0x23, 0_u8..0x34, bytes()).prop_map(|(command, family, block)| v2(command, family, &block)),
        (bytes(), bytes()).prop_map(|(value, rest)| {
            v2(0x21, 0x11, &[IPV4, &tlv(value.first().copied().unwrap_or(3), &value), &rest].concat())
        }),
    ]
}

proptest! {
    #[test]
    fn the_answer_never_depends_on_how_much_has_arrived(bytes in any_header(), rest in any::<[u8; 3]>()) {
        let bytes = [bytes.as_slice(), &rest].concat();
        let answer = parse(&bytes);
        for length in 0..bytes.len() {
            let early = parse(&bytes[..length]);
            prop_assert!(early == Ok(None) || early == answer, "{early:?} of {length} bytes, {answer:?} of all");
        }
        if let Ok(Some((_, length))) = answer {
            prop_assert_eq!(parse(&bytes[..length]), answer);
            prop_assert_eq!(parse(&bytes[..length - 1]), Ok(None));
        }
    }

    #[test]
    fn every_address_is_read_back(source: (u128, u16), destination: (u128, u16)) {
        let v6 = |(address, port): (u128, u16)| SocketAddr::new(Ipv6Addr::from(address).into(), port);
        let (source, destination) = (v6(source), v6(destination));
        let line = format!(
            "PROXY TCP6 {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port()
        );
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        let ends = ProxiedEnds { source: canonical(source), destination: canonical(destination) };
        let header = ProxyHeader { ends: Some(ends), is_tls: false };
        prop_assert_eq!(parse(line.as_bytes()), Ok(Some((header, line.len()))));
    }
}
