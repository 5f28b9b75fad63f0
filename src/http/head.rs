//! The head of a request: where it ends, what it says, and whether it may be believed.
//!
//! httparse takes the header section apart. It forgives what RFC 9112 lets a server forgive (a bare LF, for
//! one), so [`HeadScan`] checks line ends first, and the request line is read here, strictly.

use std::ops::Range;

use super::errors::RequestFault;
use super::framing::{BodyFraming, ControlFields, Once};
use super::syntax::{find_line, find_section_end, is_token, is_token_byte};
use super::target::{Target, check_host, parse_target};
use crate::limits::{HttpLimits, METHOD_BYTES_MAX};

/// The version of HTTP/1 a request speaks; a higher minor version than 1 counts as 1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
}

/// What must be known of a request to frame its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// The version the client speaks.
    pub version: Version,
    /// The method is HEAD: the response has no body whatever its head says.
    pub is_head: bool,
    /// The connection may outlive this request, as far as client and connection are concerned.
    pub keep_alive: bool,
}

/// A complete and valid head, in one buffer of its own.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is what a part of the head says")]
pub struct RequestHead {
    bytes: Vec<u8>,
    method: Span,
    target: Span,
    path: Span,
    query: Span,
    host: Option<Span>,
    is_https: bool,
    fields: Vec<FieldSpans>,
    framing: BodyFraming,
    version: Version,
    keep_alive: bool,
    expects_continue: bool,
    asks_upgrade: bool,
}

#[derive(Clone, Copy, Debug)]
struct FieldSpans {
    name: Span,
    value: Span,
}

/// A part of a head's bytes.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The place of `part`, which lies within `whole`.
    fn of(part: &[u8], whole: &[u8]) -> Self {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(start.wrapping_add(part.len())) }
    }

    fn slice(self, whole: &[u8]) -> &[u8] {
        whole.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl RequestHead {
    /// Reads the head that `bytes` begins with; `None` if it is not complete. Bytes after it are dropped.
    ///
    /// # Errors
    /// Whatever is wrong with the head.
    pub fn parse(mut bytes: Vec<u8>, limits: &HttpLimits) -> Result<Option<Self>, RequestFault> {
        let Some(extent) = HeadScan::default().advance(&bytes, limits)? else { return Ok(None) };
        bytes.truncate(extent.end);
        Self::from_complete(bytes, extent, limits).map(Some)
    }

    /// Reads the head that `bytes` consists of.
    pub(super) fn from_complete(
        bytes: Vec<u8>,
        extent: HeadExtent,
        limits: &HttpLimits,
    ) -> Result<Self, RequestFault> {
        let (line, section) = bytes.split_at_checked(extent.line_end).ok_or(RequestFault::RequestLine)?;
        let request_line = RequestLine::parse(line.strip_suffix(b"\r\n").unwrap_or(line))?;
        let RequestLine { method, target, version } = request_line;
        let parts = parse_target(method, target, limits.non_ascii_target)?;

        let mut control = ControlFields::default();
        let fields = parse_fields(section, limits.header_count_max, |name, value| {
            control.add(name, value);
            FieldSpans { name: Span::of(name, &bytes), value: Span::of(value, &bytes) }
        })?;
        control.check_content_type()?;
        let host = effective_host(&parts, control.host, version)?.map(|host| Span::of(host, &bytes));

        Ok(Self {
            method: Span::of(method, &bytes),
            target: Span::of(target, &bytes),
            path: Span::of(parts.path, &bytes),
            query: Span::of(parts.query, &bytes),
            host,
            is_https: parts.is_https,
            fields,
            framing: control.framing(version, limits.body_bytes_max)?,
            asks_upgrade: control.asks_upgrade(version),
            version,
            keep_alive: control.keep_alive(version),
            expects_continue: control.expects_continue(version)?,
            bytes,
        })
    }

    /// The length of the head as sent, in bytes.
    pub fn length_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The method token, as sent.
    pub fn method(&self) -> &[u8] {
        self.method.slice(&self.bytes)
    }

    /// The request target, as sent.
    pub fn target(&self) -> &[u8] {
        self.target.slice(&self.bytes)
    }

    /// The path, still percent-encoded; never empty, and `*` if the request is for the server as a whole.
    pub fn path(&self) -> &[u8] {
        match self.path.slice(&self.bytes) {
            // An absolute target that ends with its authority (RFC 9112 section 3.2.4, RFC 9110 section 4.2.3).
            [] if self.method() == b"OPTIONS" && self.query().is_empty() => b"*",
            [] => b"/",
            path => path,
        }
    }

    /// The query, still percent-encoded and without its `?`; empty if there is none.
    pub fn query(&self) -> &[u8] {
        self.query.slice(&self.bytes)
    }

    /// The version the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Names as sent and values without surrounding white space, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.fields.iter().map(|field| (field.name.slice(&self.bytes), field.value.slice(&self.bytes)))
    }

    /// The first value of the field `name`, whatever the case of either.
    pub fn header(&self, name: &[u8]) -> Option<&[u8]> {
        self.headers().find_map(|(candidate, value)| candidate.eq_ignore_ascii_case(name).then_some(value))
    }

    /// The host and port the client asked for: an absolute target's authority, else the Host field
    /// (RFC 9112 section 3.2.2).
    pub fn host(&self) -> Option<&[u8]> {
        self.host.map(|host| host.slice(&self.bytes))
    }

    /// Whether the target is in absolute form and has the scheme `https`.
    pub fn is_https_target(&self) -> bool {
        self.is_https
    }

    /// Whether the client wants to speak another protocol on this connection (RFC 9110 section 7.8).
    pub fn asks_upgrade(&self) -> bool {
        self.asks_upgrade
    }

    /// How the body ends.
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// Whether the connection may outlive this request, as far as client and connection are concerned.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.expects_continue
    }

    /// What must be known of this request to frame its response.
    pub fn facts(&self) -> RequestFacts {
        RequestFacts { version: self.version, is_head: self.method() == b"HEAD", keep_alive: self.keep_alive }
    }

    /// Forgets the fields whose name `is_unwanted`; what was concluded from them stays.
    pub(super) fn forget_fields(&mut self, is_unwanted: impl Fn(&[u8]) -> bool) {
        let bytes = &self.bytes;
        self.fields.retain(|field| !is_unwanted(field.name.slice(bytes)));
    }

    /// The connection ends with this request, whatever the client wants.
    pub(super) fn deny_keep_alive(&mut self) {
        self.keep_alive = false;
    }
}

/// Where a complete head lies in the bytes it was found in.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeadExtent {
    /// Offset behind the request line's CRLF.
    line_end: usize,
    /// Offset behind the empty line.
    pub(super) end: usize,
}

/// Looks for the end of a head while its bytes arrive, at each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeadScan {
    /// Bytes in which no end was found.
    scanned: usize,
    /// Offset behind the request line's CRLF, once that is found.
    line_end: Option<usize>,
}

impl HeadScan {
    /// Continues with `bytes`: all bytes since the start of the head, those of the last call first.
    ///
    /// # Errors
    /// As soon as a limit is passed or a line ends wrongly, and always at the same byte, however they arrive.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &HttpLimits,
    ) -> Result<Option<HeadExtent>, RequestFault> {
        let line_end = match self.line_end {
            Some(line_end) => line_end,
            None => match self.find_line_end(bytes, limits)? {
                Some(line_end) => line_end,
                None => return Ok(None),
            },
        };
        let window_end = line_end.saturating_add(limits.header_bytes_max).saturating_add(2);
        let window = bytes.get(..window_end).unwrap_or(bytes);
        let resume_at = self.scanned.saturating_sub(2);
        let Some(line_feed) =
            window.get(resume_at..).and_then(find_section_end).map(|index| resume_at + index)
        else {
            self.scanned = window.len();
            return if window.len() == window_end { Err(RequestFault::HeaderTooLarge) } else { Ok(None) };
        };
        match window.get(..line_feed) {
            Some([.., b'\r']) => Ok(Some(HeadExtent { line_end, end: line_feed + 1 })),
            _ => Err(RequestFault::BareLineFeed),
        }
    }

    fn find_line_end(&mut self, bytes: &[u8], limits: &HttpLimits) -> Result<Option<usize>, RequestFault> {
        // A client that speaks TLS here learns so at once, not at the timeout.
        if bytes.first().is_some_and(|&byte| !is_token_byte(byte)) {
            return Err(RequestFault::RequestLine);
        }
        let too_long = RequestFault::RequestLineTooLong;
        let length = find_line(bytes, self.scanned, limits.request_line_bytes_max, too_long)?;
        self.line_end = length.map(|length| length + 2);
        self.scanned = self.line_end.unwrap_or(bytes.len());
        Ok(self.line_end)
    }
}

#[derive(Debug)]
struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
}

impl<'a> RequestLine<'a> {
    /// Reads `method SP request-target SP HTTP-version` (RFC 9112 section 3), given without its CRLF.
    fn parse(line: &'a [u8]) -> Result<Self, RequestFault> {
        let is_space = |&byte: &u8| byte == b' ';
        let method_end = line.iter().position(is_space).ok_or(RequestFault::RequestLine)?;
        let version_start = 1 + line.iter().rposition(is_space).ok_or(RequestFault::RequestLine)?;
        let part = |range: Range<usize>| line.get(range).unwrap_or_default();
        let method = part(0..method_end);
        let target = part(method_end + 1..version_start.saturating_sub(1));
        let version = part(version_start..line.len());
        if !is_token(method) || target.is_empty() {
            return Err(RequestFault::RequestLine);
        }
        // The version first: HTTP/2's preface is `PRI * HTTP/2.0`, and its target is not what is wrong with it.
        let version = match version {
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => Version::Http11,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                return Err(RequestFault::VersionUnsupported);
            }
            _ => return Err(RequestFault::Version),
        };
        if method.len() > METHOD_BYTES_MAX {
            return Err(RequestFault::MethodTooLong);
        }
        Ok(Self { method, target, version })
    }
}

/// Takes a header section apart whose lines are known to end in CRLF; gives each name and value to `field`.
fn parse_fields<'a>(
    section: &'a [u8],
    count_max: usize,
    field: impl FnMut(&'a [u8], &'a [u8]) -> FieldSpans,
) -> Result<Vec<FieldSpans>, RequestFault> {
    /// Room on the stack for what nearly all requests hold.
    const COUNT_USUAL: usize = 32;
    let mut usual = [httparse::EMPTY_HEADER; COUNT_USUAL];
    let usual = usual.get_mut(..count_max.min(COUNT_USUAL)).unwrap_or_default();
    match httparse::parse_headers(section, usual) {
        Err(httparse::Error::TooManyHeaders) if count_max > COUNT_USUAL => {
            let mut many = vec![httparse::EMPTY_HEADER; count_max];
            collect_fields(&httparse::parse_headers(section, &mut many), field)
        }
        parsed => collect_fields(&parsed, field),
    }
}

fn collect_fields<'a>(
    parsed: &httparse::Result<(usize, &[httparse::Header<'a>])>,
    mut field: impl FnMut(&'a [u8], &'a [u8]) -> FieldSpans,
) -> Result<Vec<FieldSpans>, RequestFault> {
    match parsed {
        Ok(httparse::Status::Complete((_, headers))) => {
            Ok(headers.iter().map(|header| field(header.name.as_bytes(), header.value)).collect())
        }
        Err(httparse::Error::TooManyHeaders) => Err(RequestFault::HeaderTooManyFields),
        Err(httparse::Error::HeaderValue) => Err(RequestFault::FieldValue),
        // `Partial` cannot be: the empty line that ends the section was found beforehand.
        Ok(httparse::Status::Partial) | Err(_) => Err(RequestFault::FieldName),
    }
}

/// The host a request is for, `None` only in HTTP/1.0 (RFC 9112 section 3.2).
fn effective_host<'a>(
    target: &Target<'a>,
    field: Once<'a>,
    version: Version,
) -> Result<Option<&'a [u8]>, RequestFault> {
    let host = match field {
        Once::Given(value) => {
            check_host(value)?;
            Some(value)
        }
        Once::Never if version == Version::Http10 => None,
        Once::Never => return Err(RequestFault::HostMissing),
        Once::Repeated => return Err(RequestFault::HostRepeated),
    };
    Ok(target.authority.or(host))
}

#[cfg(test)]
mod tests;
