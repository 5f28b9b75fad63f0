//! The PROXY protocol, versions 1 and 2: what a proxy says of the connection it relays, before the first request.
//!
//! The specification is `doc/proxy-protocol.txt` of `HAProxy`. A header that is not exactly of its form ends the
//! connection: a proxy must not lend its name to bytes that we do not understand.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::errors::RequestFault;
use super::syntax::{any_byte, find_line};
use crate::limits::PROXY_HEADER_BYTES_MAX;

const V1_START: &[u8] = b"PROXY ";
/// The longest line of version 1, without its CRLF (section 2.1).
const V1_LINE_BYTES_MAX: usize = 105;
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 that is always there (section 2.2).
const V2_FIXED_BYTES: usize = 16;
/// The part of an address block of two UNIX paths (section 2.2).
const V2_UNIX_BYTES: usize = 216;
/// CRC32C of the header (section 2.2.1).
const TLV_CRC32C: u8 = 0x03;
/// TLS (section 2.2.6), and the bit of its first byte that says that the client spoke it.
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// Which versions of the protocol are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersions {
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary.
    V2,
    /// Either, as the proxy likes.
    Both,
}

/// What a proxy says of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Client and server of the relayed connection; `None` when it is the proxy's own, as that of a health check, or of
    /// a kind without such addresses.
    pub ends: Option<ProxiedEnds>,
    /// The client spoke TLS to the proxy; only version 2 can say so.
    pub is_tls: bool,
}

/// The two ends of a relayed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedEnds {
    /// The client's address.
    pub source: SocketAddr,
    /// The address the client connected to.
    pub destination: SocketAddr,
}

impl ProxyHeader {
    /// Reads the header that `bytes` begins with, and its length; `None` if it is not complete.
    ///
    /// # Errors
    /// [`RequestFault::ProxyHeaderMissing`] as soon as the bytes cannot be one of `versions`,
    /// [`RequestFault::ProxyHeaderTooLong`], or [`RequestFault::ProxyHeader`].
    pub fn parse(bytes: &[u8], versions: ProxyVersions) -> Result<Option<(Self, usize)>, RequestFault> {
        let (v1, v2) = (versions != ProxyVersions::V2, versions != ProxyVersions::V1);
        if v2 && begins(bytes, V2_START) {
            parse_v2(bytes)
        } else if v1 && begins(bytes, V1_START) {
            parse_v1(bytes)
        } else {
            Err(RequestFault::ProxyHeaderMissing)
        }
    }
}

/// Whether `bytes` begins with `start`, as far as it has arrived.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, RequestFault> {
    let length = find_line(bytes, 0, V1_LINE_BYTES_MAX, RequestFault::ProxyHeaderTooLong);
    let length = length.map_err(|fault| match fault {
        RequestFault::BareLineFeed => RequestFault::ProxyHeader,
        fault => fault,
    })?;
    let Some(length) = length else { return Ok(None) };
    let line = bytes.get(..length).unwrap_or_default();
    let header = read_line(line).ok_or(RequestFault::ProxyHeader)?;
    Ok(Some((header, length + 2)))
}

/// Reads `PROXY protocol source destination source-port destination-port`.
fn read_line(line: &[u8]) -> Option<ProxyHeader> {
    if any_byte(line, |byte| !(b' '..=b'~').contains(&byte)) {
        return None;
    }
    let words: Vec<&str> = std::str::from_utf8(line).ok()?.split(' ').collect();
    let ends = match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", "TCP4", source, destination, source_port, destination_port] => Some(ProxiedEnds {
            source: end(source.parse::<Ipv4Addr>().ok()?, source_port)?,
            destination: end(destination.parse::<Ipv4Addr>().ok()?, destination_port)?,
        }),
        ["PROXY", "TCP6", source, destination, source_port, destination_port] => Some(ProxiedEnds {
            source: end(source.parse::<Ipv6Addr>().ok()?, source_port)?,
            destination: end(destination.parse::<Ipv6Addr>().ok()?, destination_port)?,
        }),
        _ => return None,
    };
    Some(ProxyHeader { ends, is_tls: false })
}

fn end(address: impl Into<IpAddr>, port: &str) -> Option<SocketAddr> {
    let is_canonical = port == "0" || !port.starts_with('0');
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| is_canonical && is_number)?;
    Some(SocketAddr::new(address.into().to_canonical(), port))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, RequestFault> {
    let Some(&[.., version_and_command, family, high, low]) = bytes.first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(None);
    };
    let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if length > PROXY_HEADER_BYTES_MAX {
        return Err(RequestFault::ProxyHeaderTooLong);
    }
    let Some(whole) = bytes.get(..length) else { return Ok(None) };
    let header = match version_and_command {
        0x20 => Some(ProxyHeader::default()),
        0x21 => read_block(whole, family),
        _ => None,
    };
    header.map(|header| Some((header, length))).ok_or(RequestFault::ProxyHeader)
}

/// Reads what follows the fixed part of a version 2 header: addresses, then type-length-value vectors.
fn read_block(whole: &[u8], family: u8) -> Option<ProxyHeader> {
    let block = whole.get(V2_FIXED_BYTES..)?;
    let (ends, vectors) = match family {
        // Nothing is known of the connection, and so nothing of what follows (section 2.2).
        0x00..=0x02 => return Some(ProxyHeader::default()),
        0x10..=0x12 => {
            let (addresses, rest) = block.split_first_chunk::<8>()?;
            let (source, destination) = addresses.split_first_chunk::<4>()?;
            let destination: [u8; 4] = destination.try_into().ok()?;
            ends(Ipv4Addr::from(*source), Ipv4Addr::from(destination), rest)?
        }
        0x20..=0x22 => {
            let (addresses, rest) = block.split_first_chunk::<32>()?;
            let (source, destination) = addresses.split_first_chunk::<16>()?;
            let destination: [u8; 16] = destination.try_into().ok()?;
            ends(Ipv6Addr::from(*source), Ipv6Addr::from(destination), rest)?
        }
        0x30..=0x32 => (None, block.get(V2_UNIX_BYTES..)?),
        _ => return None,
    };
    // An unspecified protocol has no ports, so what stands in their place is not to be believed.
    let ends = ends.filter(|_| family & 0x0f != 0);
    Some(ProxyHeader { ends, is_tls: read_vectors(whole, vectors)? })
}

fn ends(
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    rest: &[u8],
) -> Option<(Option<ProxiedEnds>, &[u8])> {
    let (&[a, b, c, d], vectors) = rest.split_first_chunk::<4>()?;
    let source = SocketAddr::new(source.into().to_canonical(), u16::from_be_bytes([a, b]));
    let destination = SocketAddr::new(destination.into().to_canonical(), u16::from_be_bytes([c, d]));
    Some((Some(ProxiedEnds { source, destination }), vectors))
}

/// Reads the vectors at the end of `whole`; returns whether the client spoke TLS, `None` if one is malformed or the
/// checksum among them is wrong. Types that mean nothing here are skipped.
fn read_vectors(whole: &[u8], mut vectors: &[u8]) -> Option<bool> {
    let mut is_tls = false;
    while !vectors.is_empty() {
        let (&[kind, high, low], rest) = vectors.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        match kind {
            TLV_SSL => is_tls = value.first()? & CLIENT_SSL != 0,
            TLV_CRC32C => {
                let sent = u32::from_be_bytes(value.try_into().ok()?);
                let at = whole.len() - rest.len() - value.len();
                if sent
                    != crc32c(whole.iter().enumerate().map(|(index, &byte)| {
                        let is_checksum = (at..at + value.len()).contains(&index);
                        if is_checksum { 0 } else { byte }
                    }))
                {
                    return None;
                }
            }
            _ => {}
        }
        vectors = rest;
    }
    Some(is_tls)
}

/// The checksum of RFC 4960 appendix B, bit by bit: a header is short, and rarely has one.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (POLYNOMIAL & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests;
