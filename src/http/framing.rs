//! Where a request's body ends and whether its connection lives on, as a few header fields decide it.
//!
//! Two recipients that disagree on the end of a body let a request be smuggled past the first of them. So
//! everything that RFC 9112 section 6 merely allows a server to mend is refused here.

use super::errors::RequestFault;
use super::head::Version;
use super::syntax::{is_token, trim_ows};

/// How the end of a request's body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// The body has this many bytes; `Content-Length: 0` gives `Length(0)`.
    Length(u64),
    /// The body is a sequence of chunks.
    Chunked,
}

/// A field that may occur once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Once<'a> {
    #[default]
    Never,
    Given(&'a [u8]),
    Repeated,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match self {
            Self::Never => Self::Given(value),
            Self::Given(_) | Self::Repeated => Self::Repeated,
        };
    }
}

/// The header fields the server itself obeys, gathered in one pass over all of them.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is what one field says")]
pub(super) struct ControlFields<'a> {
    pub(super) host: Once<'a>,
    content_length: Once<'a>,
    transfer_encoding: Once<'a>,
    expect: Once<'a>,
    content_type: Once<'a>,
    close: bool,
    keep_alive: bool,
    /// Connection names Upgrade, and the field is there.
    upgrade_option: bool,
    upgrade_field: bool,
}

impl<'a> ControlFields<'a> {
    /// Takes notice of one field; `value` has no white space at its ends.
    pub(super) fn add(&mut self, name: &[u8], value: &'a [u8]) {
        let is = |expected: &[u8]| name.eq_ignore_ascii_case(expected);
        match name.len() {
            4 if is(b"host") => self.host.add(value),
            6 if is(b"expect") => self.expect.add(value),
            7 if is(b"upgrade") => self.upgrade_field = true,
            10 if is(b"connection") => self.add_connection_options(value),
            12 if is(b"content-type") => self.content_type.add(value),
            14 if is(b"content-length") => self.content_length.add(value),
            17 if is(b"transfer-encoding") => self.transfer_encoding.add(value),
            _ => {}
        }
    }

    fn add_connection_options(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',').map(trim_ows) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Whether the client wants the connection to outlive this request (RFC 9112 section 9.3).
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    /// Whether the client asks for another protocol, which no HTTP/1.0 client can (RFC 9110 section 7.8).
    pub(super) fn asks_upgrade(&self, version: Version) -> bool {
        self.upgrade_option && self.upgrade_field && version == Version::Http11
    }

    /// Content-Type is no list: with two of them, two recipients may read the body as two different things (RFC 9110
    /// section 8.3).
    ///
    /// # Errors
    /// [`RequestFault::ContentTypeRepeated`].
    pub(super) fn check_content_type(&self) -> Result<(), RequestFault> {
        match self.content_type {
            Once::Repeated => Err(RequestFault::ContentTypeRepeated),
            Once::Never | Once::Given(_) => Ok(()),
        }
    }

    /// Whether the client waits for `100 Continue`, which no HTTP/1.0 client may (RFC 9110 section 10.1.1).
    ///
    /// # Errors
    /// [`RequestFault::Expectation`] if it expects anything else.
    pub(super) fn expects_continue(&self, version: Version) -> Result<bool, RequestFault> {
        match self.expect {
            Once::Never => Ok(false),
            Once::Given(value) if value.eq_ignore_ascii_case(b"100-continue") => {
                Ok(version == Version::Http11)
            }
            Once::Given(_) | Once::Repeated => Err(RequestFault::Expectation),
        }
    }

    /// How the body ends.
    ///
    /// # Errors
    /// Everything about which another recipient might think otherwise; a length above `body_bytes_max`.
    pub(super) fn framing(&self, version: Version, body_bytes_max: u64) -> Result<BodyFraming, RequestFault> {
        match (self.transfer_encoding, self.content_length) {
            (Once::Never, Once::Never) => Ok(BodyFraming::None),
            (Once::Never, Once::Given(value)) => match parse_content_length(value) {
                Some(length) if length > body_bytes_max => Err(RequestFault::BodyTooLarge),
                Some(length) => Ok(BodyFraming::Length(length)),
                None => Err(RequestFault::ContentLength),
            },
            (Once::Never, Once::Repeated) => Err(RequestFault::ContentLengthRepeated),
            (_, Once::Given(_) | Once::Repeated) => Err(RequestFault::ContentLengthAndTransferEncoding),
            (_, Once::Never) if version == Version::Http10 => Err(RequestFault::TransferEncodingInHttp10),
            (Once::Repeated, Once::Never) => Err(RequestFault::TransferEncodingRepeated),
            (Once::Given(value), Once::Never) if value.eq_ignore_ascii_case(b"chunked") => {
                Ok(BodyFraming::Chunked)
            }
            (Once::Given(value), Once::Never) => Err(transfer_encoding_fault(value)),
        }
    }
}

/// `1*DIGIT` as a number; `None` for anything else: sign, space, list, other radix, more than 64 bits.
pub(super) fn parse_content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Tells a coding that is not supported from a value that no conforming client sends.
fn transfer_encoding_fault(value: &[u8]) -> RequestFault {
    let mut codings = value.split(|&byte| byte == b',').map(trim_ows).peekable();
    while let Some(coding) = codings.next() {
        let name = trim_ows(coding.split(|&byte| byte == b';').next().unwrap_or_default());
        let is_last = codings.peek().is_none();
        let is_chunked = name.eq_ignore_ascii_case(b"chunked");
        if !is_token(name) || (is_chunked && (!is_last || coding != name)) {
            return RequestFault::TransferEncoding;
        }
    }
    RequestFault::TransferCodingUnknown
}

#[cfg(test)]
mod tests;
