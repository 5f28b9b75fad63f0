//! A header of the PROXY protocol, in both versions, and the same wherever its bytes are cut.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use spawning::http::{ProxiedEnds, ProxyHeader, ProxyVersions};

fuzz_target!(|input: &[u8]| {
    let Some((switch, bytes)) = input.split_first() else { return };
    let versions = [ProxyVersions::V1, ProxyVersions::V2, ProxyVersions::Both][usize::from(switch % 3)];
    match ProxyHeader::parse(bytes, versions) {
        Ok(Some((header, length))) => {
            assert!(0 < length && length <= bytes.len());
            assert_eq!(ProxyHeader::parse(&bytes[..length], versions), Ok(Some((header, length))));
            for shorter in [0, length / 2, length - 1] {
                assert_eq!(ProxyHeader::parse(&bytes[..shorter], versions), Ok(None));
            }
            check(&bytes[..length], header);
        }
        Ok(None) => assert_eq!(ProxyHeader::parse(&bytes[..bytes.len() / 2], versions), Ok(None)),
        Err(fault) => {
            let shorter = ProxyHeader::parse(&bytes[..bytes.len() / 2], versions);
            assert!(shorter == Ok(None) || shorter == Err(fault), "{shorter:?}, then {fault:?}");
        }
    }
});

/// What is written from `header` is read as `header`, and for IPv4 there is only one way to write it.
fn check(bytes: &[u8], header: ProxyHeader) {
    let Some(ends) = header.ends else { return };
    let again = ProxyHeader::parse(&line(ends), ProxyVersions::V1);
    assert_eq!(again.map(|read| read.and_then(|(read, _)| read.ends)), Ok(Some(ends)));
    if bytes.starts_with(b"PROXY TCP4 ") {
        assert_eq!(line(ends), bytes);
    }
}

fn line(ends: ProxiedEnds) -> Vec<u8> {
    let both_ipv4 = ends.source.is_ipv4() && ends.destination.is_ipv4();
    let family = if both_ipv4 { "TCP4" } else { "TCP6" };
    let address = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) if !both_ipv4 => format!("{:?}", address.to_ipv6_mapped()),
        address => address.to_string(),
    };
    let (source, destination) = (address(ends.source), address(ends.destination));
    let (source_port, destination_port) = (ends.source.port(), ends.destination.port());
    format!("PROXY {family} {source} {destination} {source_port} {destination_port}\r\n").into_bytes()
}
