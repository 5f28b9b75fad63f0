//! What proxies say of a request: `Forwarded` (RFC 7239) and the older `X-Forwarded-For`, `-Proto`, `-Host`, `-Port`.
//!
//! Each proxy on the way adds whom it heard from at the end of a list. So the list is read from its end, as long as
//! those who wrote it are trusted: the first address that is not belongs to the client, and all before it is hearsay.
//! Scheme, host and port are taken from the same place: of a list, as proxies that append write it, from the entry of
//! the proxy that heard from the client. Such a field is one line, and where both families of fields speak they must
//! agree.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::errors::RequestFault;
use super::head::RequestHead;
use super::syntax::{is_token, is_token_byte, trim_ows};
use super::target::check_host;

/// A scheme of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    fn parse(value: &[u8]) -> Result<Self, RequestFault> {
        match value {
            _ if value.eq_ignore_ascii_case(b"http") => Ok(Self::Http),
            _ if value.eq_ignore_ascii_case(b"https") => Ok(Self::Https),
            _ => Err(RequestFault::Forwarded),
        }
    }

    /// The port of a URL that names none (RFC 9110 section 4.2).
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What trusted proxies say of a request; `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client: of those whom a trusted proxy heard from the one farthest away.
    pub client: Option<Node>,
    /// The scheme the client used.
    pub scheme: Option<Scheme>,
    /// The host the client asked for, perhaps with a port.
    pub host: Option<Vec<u8>>,
    /// The port the client connected to.
    pub port: Option<u16>,
    /// The path below which the proxy has mounted the application, as sent, without a slash at its end.
    pub prefix: Option<Vec<u8>>,
}

/// A client as a proxy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its address.
    pub address: IpAddr,
    /// Its port, which few proxies tell.
    pub port: Option<u16>,
}

/// Whether a field is one by which proxies tell whom they speak for.
fn is_forwarded_field(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    let is = |expected: &[u8]| name.eq_ignore_ascii_case(expected);
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
        || is(b"forwarded")
        || is(b"x-real-ip")
}

impl Forwarded {
    /// Takes all such fields out of `head`: the peer that has sent them is not to be believed.
    pub fn forget(head: &mut RequestHead) {
        head.forget_fields(is_forwarded_field);
    }

    /// Reads the fields of `head`, which a trusted peer has sent; `None` if there are none.
    ///
    /// # Errors
    /// [`RequestFault::Forwarded`] for a field, or a part of one that counts, that is malformed;
    /// [`RequestFault::ForwardedRepeated`] and [`RequestFault::ForwardedContradictory`].
    pub fn read(
        head: &RequestHead,
        is_trusted: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Option<Self>, RequestFault> {
        let mut elements = Vec::new();
        let mut clients = Vec::new();
        let (mut scheme, mut host, mut port, mut prefix) = (None, None, None, None);
        for (name, value) in head.headers().filter(|(name, _)| is_forwarded_field(name)) {
            let is = |expected: &[u8]| name.eq_ignore_ascii_case(expected);
            match name.len() {
                9 if is(b"forwarded") => read_elements(value, &mut elements)?,
                15 if is(b"x-forwarded-for") => clients.extend(list(value)),
                16 if is(b"x-forwarded-host") => once(&mut host, value)?,
                16 if is(b"x-forwarded-port") => once(&mut port, value)?,
                17 if is(b"x-forwarded-proto") => once(&mut scheme, value)?,
                18 if is(b"x-forwarded-prefix") => once(&mut prefix, value)?,
                _ => {}
            }
        }
        let standard = of_elements(&elements, is_trusted)?;
        let (client, hops) = walk(clients.into_iter().map(Some), is_trusted)?;
        let older = Self {
            client,
            scheme: scheme.map(|value| Scheme::parse(entry(value, hops))).transpose()?,
            host: host.map(|value| read_host(entry(value, hops))).transpose()?,
            port: port.map(|value| read_port(entry(value, hops))).transpose()?,
            prefix: prefix.map(|value| read_prefix(entry(value, hops))).transpose()?,
        };
        let all = standard.agreed(older)?;
        Ok((all != Self::default()).then_some(all))
    }

    /// The port the client used, as far as proxies tell anything of it: that of the host, or the one named by itself,
    /// or that of the scheme. `host_field` is the request's own Host; `scheme` counts if no proxy tells one.
    pub fn server_port(&self, host_field: Option<&[u8]>, scheme: Scheme) -> Option<u16> {
        if self.scheme.is_none() && self.host.is_none() {
            return self.port;
        }
        let host = self.host.as_deref().or(host_field);
        let of_scheme = self.scheme.unwrap_or(scheme).default_port();
        host.and_then(|host| split_host(host).1).or(self.port).or(Some(of_scheme))
    }

    /// The name of the host without its port, if a proxy tells it.
    pub fn server_name(&self) -> Option<&[u8]> {
        self.host.as_deref().map(|host| split_host(host).0)
    }

    /// Both together, if they do not contradict each other.
    fn agreed(self, other: Self) -> Result<Self, RequestFault> {
        let client = match (self.client, other.client) {
            (Some(one), Some(two)) if one.address != two.address => {
                return Err(RequestFault::ForwardedContradictory);
            }
            (Some(one), Some(two)) => Some(Node { port: agreed(one.port, two.port)?, ..one }),
            (one, two) => one.or(two),
        };
        let lower = |host: Option<Vec<u8>>| host.map(|host| host.to_ascii_lowercase());
        agreed(lower(self.host.clone()), lower(other.host.clone()))?;
        Ok(Self {
            client,
            scheme: agreed(self.scheme, other.scheme)?,
            host: self.host.or(other.host),
            port: agreed(self.port, other.port)?,
            prefix: agreed(self.prefix, other.prefix)?,
        })
    }
}

fn agreed<T: PartialEq>(one: Option<T>, two: Option<T>) -> Result<Option<T>, RequestFault> {
    match (one, two) {
        (Some(one), Some(two)) if one != two => Err(RequestFault::ForwardedContradictory),
        (one, two) => Ok(one.or(two)),
    }
}

/// Takes the value of a field that may occur once: a second line is somebody else's.
fn once<'a>(place: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), RequestFault> {
    match place.replace(value) {
        Some(_) => Err(RequestFault::ForwardedRepeated),
        None => Ok(()),
    }
}

/// The entry of a list that is `hops` from its end, each trusted proxy having added one; the first of a shorter list.
/// Without hops, the last: the peer's own.
fn entry(value: &[u8], hops: usize) -> &[u8] {
    let entries: Vec<&[u8]> = list(value).collect();
    let index = entries.len().saturating_sub(hops.max(1));
    entries.get(index).copied().unwrap_or_default()
}

/// Goes from the last entry to the first, as long as those named are trusted. Returns the last one named, and how many
/// entries were passed.
fn walk<'a>(
    entries: impl DoubleEndedIterator<Item = Option<&'a [u8]>>,
    is_trusted: &dyn Fn(IpAddr) -> bool,
) -> Result<(Option<Node>, usize), RequestFault> {
    let (mut client, mut passed) = (None, 0);
    for entry in entries.rev() {
        passed += 1;
        // Somebody whose name is withheld is not trusted: what he says counts for nothing.
        let Some(node) = entry.map(read_node).transpose()?.flatten() else { break };
        client = Some(node);
        if !is_trusted(node.address) {
            break;
        }
    }
    Ok((client, passed))
}

/// Reads `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80` or, as only X-Forwarded-For has it,
/// `2001:db8::1`; `None` for `unknown` and for the `_names` that hide an address (RFC 7239 section 6).
fn read_node(text: &[u8]) -> Result<Option<Node>, RequestFault> {
    let text = std::str::from_utf8(text).map_err(|_| RequestFault::Forwarded)?;
    let host = text.split(':').next().unwrap_or_default();
    if host.eq_ignore_ascii_case("unknown") || host.starts_with('_') {
        return Ok(None);
    }
    let node = |address: IpAddr, port| Some(Node { address: address.to_canonical(), port });
    let found = if let Ok(address) = text.parse() {
        node(address, None)
    } else if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        inner.parse::<Ipv6Addr>().ok().and_then(|address| node(address.into(), None))
    } else {
        // A port may be hidden as well.
        let (start, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let text = if port.starts_with('_') { format!("{start}:0") } else { text.to_owned() };
        let named = text.parse::<SocketAddr>().ok();
        named.and_then(|named| node(named.ip(), Some(named.port()).filter(|port| *port != 0)))
    };
    found.map(Some).ok_or(RequestFault::Forwarded)
}

fn read_host(value: &[u8]) -> Result<Vec<u8>, RequestFault> {
    if value.is_empty() {
        return Err(RequestFault::Forwarded);
    }
    check_host(value).map_err(|_| RequestFault::Forwarded)?;
    Ok(value.to_vec())
}

fn read_port(value: &[u8]) -> Result<u16, RequestFault> {
    let is_number = value.iter().all(u8::is_ascii_digit);
    let port = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    port.filter(|port| is_number && *port != 0).ok_or(RequestFault::Forwarded)
}

/// A path, whose beginning must not pass for another host when an application makes a URL of it.
fn read_prefix(value: &[u8]) -> Result<Vec<u8>, RequestFault> {
    let length = value.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let path = value.get(..length).unwrap_or_default();
    let is_forbidden = |byte: &u8| !byte.is_ascii_graphic() && byte.is_ascii() || b"?#\\".contains(byte);
    let is_path = value.starts_with(b"/") && !path.starts_with(b"//") && !path.iter().any(is_forbidden);
    if value.is_empty() || is_path { Ok(path.to_vec()) } else { Err(RequestFault::Forwarded) }
}

/// The name of a valid host, and its port if it has one.
fn split_host(host: &[u8]) -> (&[u8], Option<u16>) {
    let is_digits = |port: &[u8]| port.iter().all(u8::is_ascii_digit);
    match host.iter().rposition(|&byte| byte == b':').and_then(|colon| host.split_at_checked(colon)) {
        Some((name, [_, port @ ..])) if is_digits(port) => (name, read_port(port).ok()),
        _ => (host, None),
    }
}

/// The entries of a comma-separated list (RFC 9110 section 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|entry| !entry.is_empty())
}

/// What one proxy says in `Forwarded`.
#[derive(Debug, Default)]
struct Element {
    heard_from: Option<Vec<u8>>,
    scheme: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
}

fn of_elements(elements: &[Element], is_trusted: &dyn Fn(IpAddr) -> bool) -> Result<Forwarded, RequestFault> {
    let (client, passed) = walk(elements.iter().map(|element| element.heard_from.as_deref()), is_trusted)?;
    // Who wrote this element is trusted, and speaks of what the client has said to him.
    let farthest = elements.len().checked_sub(passed.max(1)).and_then(|index| elements.get(index));
    let Some(farthest) = farthest else { return Ok(Forwarded::default()) };
    Ok(Forwarded {
        client,
        scheme: farthest.scheme.as_deref().map(Scheme::parse).transpose()?,
        host: farthest.host.as_deref().map(read_host).transpose()?,
        port: None,
        prefix: None,
    })
}

/// Reads one field. Malformed anywhere is malformed: a quote that a client left open must not swallow what its proxy
/// added.
fn read_elements(mut rest: &[u8], elements: &mut Vec<Element>) -> Result<(), RequestFault> {
    let mut element = Element::default();
    let mut has_pairs = false;
    loop {
        rest = trim_ows(rest);
        match rest {
            [] | [b',', ..] => {
                if std::mem::take(&mut has_pairs) {
                    elements.push(std::mem::take(&mut element));
                }
                let [_, after @ ..] = rest else { return Ok(()) };
                rest = after;
            }
            [b';', after @ ..] if has_pairs => rest = after,
            _ => {
                let (name, value, after) = read_pair(rest).ok_or(RequestFault::Forwarded)?;
                element.set(name, value)?;
                has_pairs = true;
                rest = trim_ows(after);
                if !matches!(rest, [] | [b',' | b';', ..]) {
                    return Err(RequestFault::Forwarded);
                }
            }
        }
    }
}

impl Element {
    /// Takes a parameter, which may not occur twice (RFC 7239 section 4).
    fn set(&mut self, name: &[u8], value: Vec<u8>) -> Result<(), RequestFault> {
        let place = match name {
            _ if name.eq_ignore_ascii_case(b"for") => &mut self.heard_from,
            _ if name.eq_ignore_ascii_case(b"proto") => &mut self.scheme,
            _ if name.eq_ignore_ascii_case(b"host") => &mut self.host,
            _ => return Ok(()),
        };
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(RequestFault::ForwardedRepeated),
        }
    }
}

/// Reads `token "=" ( token / quoted-string )`; returns name, value without its quotes, and what follows.
fn read_pair(text: &[u8]) -> Option<(&[u8], Vec<u8>, &[u8])> {
    let equals = text.iter().position(|&byte| byte == b'=')?;
    let (name, rest) = text.split_at_checked(equals).filter(|(name, _)| is_token(name))?;
    match rest {
        [_, b'"', quoted @ ..] => {
            let (value, after) = read_quoted(quoted)?;
            Some((name, value, after))
        }
        [_, rest @ ..] => {
            let length = rest.iter().take_while(|byte| is_token_byte(**byte)).count();
            let (value, after) = rest.split_at_checked(length).filter(|(value, _)| !value.is_empty())?;
            Some((name, value.to_vec(), after))
        }
        [] => None,
    }
}

/// Reads a quoted string (RFC 9110 section 5.6.4) behind its opening quote.
fn read_quoted(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut value = Vec::new();
    loop {
        match rest {
            [b'"', after @ ..] => return Some((value, after)),
            [b'\\', byte, after @ ..] | [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests;
