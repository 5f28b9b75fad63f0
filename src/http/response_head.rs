//! The head of a response: what the application says, checked, and what the server adds.

use std::fmt;

use super::framing::parse_content_length;
use super::head::{RequestFacts, Version};
use super::syntax::{is_field_value, is_token, trim_ows};

/// What is known of a response's body before its head is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// All of it is there: this many bytes.
    Exactly(u64),
    /// It comes in pieces.
    Unknown,
}

/// How a response's body is sent (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// No body is sent, whatever the application gives.
    None,
    /// Exactly this many bytes: no more may be sent, and after fewer the connection must close.
    Length(u64),
    /// In chunks, ended by [`super::LAST_CHUNK`].
    Chunked,
    /// As it is; closing the connection ends it.
    UntilClose,
}

/// What a finished head has promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePlan {
    /// How the body is to be sent.
    pub framing: ResponseFraming,
    /// Whether the connection lives on; what to tell [`super::Connection::respond_done`].
    pub keep_alive: bool,
}

/// A response head that an application may not send. The fault is the application's: 500 and a log line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseFault {
    /// The status is not a code from 200 to 599, a space and a reason.
    Status(String),
    /// The head was finished before it was started.
    StatusMissing,
    /// A field name is not a token.
    HeaderName(String),
    /// The value of the field `name` holds the control character `byte`.
    HeaderValue {
        /// The name of the field.
        name: String,
        /// The first byte that may not be sent.
        byte: u8,
    },
    /// The field belongs to the connection, hence to the server (PEP 3333, "Other HTTP Features").
    HopByHop(String),
    /// Content-Length is not a number.
    ContentLength(String),
    /// Content-Length is given twice, with these values.
    ContentLengthRepeated(u64, u64),
}

impl fmt::Display for ResponseFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(
                formatter,
                "status `{}`: not a code from 200 to 599, a space and a reason",
                status.escape_debug()
            ),
            Self::StatusMissing => formatter.write_str("no status: start_response was not called"),
            Self::HeaderName(name) => write!(formatter, "header name `{}`: not a token", name.escape_debug()),
            Self::HeaderValue { name, byte } => {
                write!(formatter, "header `{name}`: value contains {}", ControlCharacter(*byte))
            }
            Self::HopByHop(name) => {
                write!(formatter, "header `{name}`: belongs to the server, not to an application (PEP 3333)")
            }
            Self::ContentLength(value) => {
                write!(formatter, "header `Content-Length`: `{}` is not a number", value.escape_debug())
            }
            Self::ContentLengthRepeated(first, second) => {
                write!(formatter, "header `Content-Length`: given twice, as {first} and as {second}")
            }
        }
    }
}

impl std::error::Error for ResponseFault {}

struct ControlCharacter(u8);

impl fmt::Display for ControlCharacter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            b'\n' => formatter.write_str("a line feed"),
            b'\r' => formatter.write_str("a carriage return"),
            0 => formatter.write_str("a NUL"),
            byte => write!(formatter, "the control character {byte:#04x}"),
        }
    }
}

/// Assembles a response head in a buffer of its own.
#[derive(Clone, Debug, Default)]
pub struct HeadWriter {
    bytes: Vec<u8>,
    status_code: u16,
    content_length: Option<u64>,
    has_date: bool,
    has_server: bool,
    close: bool,
}

impl HeadWriter {
    /// A writer that uses the memory of `buffer` and drops what is in it.
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { bytes: buffer, ..Self::default() }
    }

    /// The head, and memory for [`Self::new`].
    pub fn into_inner(self) -> Vec<u8> {
        self.bytes
    }

    /// What has been written; a complete head after [`Self::finish`].
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The status code; 0 before [`Self::start`].
    pub fn status_code(&self) -> u16 {
        self.status_code
    }

    /// The length the application has declared.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Begins a head with a status like `404 Not Found`, and forgets any begun before, as `exc_info` demands.
    ///
    /// # Errors
    /// [`ResponseFault::Status`]. Interim codes (1xx) are refused: the connection would wait for the final one.
    pub fn start(&mut self, status: &[u8]) -> Result<(), ResponseFault> {
        *self = Self::new(std::mem::take(&mut self.bytes));
        let fault = || ResponseFault::Status(String::from_utf8_lossy(status).into_owned());
        let (code, reason) = match status {
            [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => ([*a, *b, *c], rest),
            _ => return Err(fault()),
        };
        let reason = match reason {
            [] => reason,
            [b' ', reason @ ..] if is_field_value(reason) => reason,
            _ => return Err(fault()),
        };
        self.status_code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        self.extend(&[b"HTTP/1.1 ", &code, b" ", reason, b"\r\n"]);
        Ok(())
    }

    /// Adds one field.
    ///
    /// Connection is obeyed where `close` is among its options; else it and the other hop-by-hop fields (those of
    /// `wsgiref.util.is_hop_by_hop`, and Trailer) are refused: the caller may continue without them.
    /// Content-Length is written by [`Self::finish`], which knows whether it may be.
    ///
    /// # Errors
    /// A name that is not a token, a value with control characters, a field the server must write itself.
    pub fn header(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseFault> {
        let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !is_token(name) {
            return Err(ResponseFault::HeaderName(owned(name)));
        }
        if !is_field_value(value) {
            let is_control = |byte: &&u8| !is_field_value(std::slice::from_ref(*byte));
            let byte = value.iter().find(is_control).copied().unwrap_or_default();
            return Err(ResponseFault::HeaderValue { name: owned(name), byte });
        }
        match Field::of(name) {
            Field::Connection if has_option(value, b"close") => {
                self.close = true;
                return Ok(());
            }
            Field::Connection | Field::HopByHop => return Err(ResponseFault::HopByHop(owned(name))),
            Field::ContentLength => return self.declare_length(trim_ows(value)),
            Field::Date => self.has_date = true,
            Field::Server => self.has_server = true,
            Field::Other => {}
        }
        self.extend(&[name, b": ", value, b"\r\n"]);
        Ok(())
    }

    fn declare_length(&mut self, value: &[u8]) -> Result<(), ResponseFault> {
        let length = parse_content_length(value)
            .ok_or_else(|| ResponseFault::ContentLength(String::from_utf8_lossy(value).into_owned()))?;
        match self.content_length.replace(length) {
            Some(first) if first != length => Err(ResponseFault::ContentLengthRepeated(first, length)),
            _ => Ok(()),
        }
    }

    /// Completes the head and says how to send the body.
    ///
    /// `keep_alive` is the server's wish; request and application can only veto it. A declared length wins
    /// over `body`: if they differ, [`Self::content_length`] tells. `date` comes from [`super::DateCache`].
    ///
    /// # Errors
    /// [`ResponseFault::StatusMissing`] if the head was not started.
    pub fn finish(
        &mut self,
        facts: RequestFacts,
        body: BodyLength,
        keep_alive: bool,
        date: &[u8; 29],
    ) -> Result<ResponsePlan, ResponseFault> {
        if self.status_code == 0 {
            return Err(ResponseFault::StatusMissing);
        }
        let framing = self.framing(facts, body);
        if let Some(length) = self.length_to_send(facts, body) {
            self.extend(&[b"Content-Length: ", Decimal::new(length).digits(), b"\r\n"]);
        } else if framing == ResponseFraming::Chunked {
            self.extend(&[b"Transfer-Encoding: chunked\r\n"]);
        }
        if !self.has_date {
            self.extend(&[b"Date: ", date, b"\r\n"]);
        }
        if !self.has_server {
            self.extend(&[b"Server: Spawning\r\n"]);
        }
        let keep_alive =
            keep_alive && facts.keep_alive && !self.close && framing != ResponseFraming::UntilClose;
        match (keep_alive, facts.version) {
            (false, _) => self.extend(&[b"Connection: close\r\n"]),
            (true, Version::Http10) => self.extend(&[b"Connection: keep-alive\r\n"]),
            (true, Version::Http11) => {}
        }
        self.extend(&[b"\r\n"]);
        Ok(ResponsePlan { framing, keep_alive })
    }

    fn framing(&self, facts: RequestFacts, body: BodyLength) -> ResponseFraming {
        if facts.is_head || matches!(self.status_code, 204 | 304) {
            return ResponseFraming::None;
        }
        match (self.content_length, body) {
            (Some(0), _) | (None, BodyLength::Exactly(0)) => ResponseFraming::None,
            (Some(length), _) | (None, BodyLength::Exactly(length)) => ResponseFraming::Length(length),
            (None, BodyLength::Unknown) if facts.version == Version::Http11 => ResponseFraming::Chunked,
            (None, BodyLength::Unknown) => ResponseFraming::UntilClose,
        }
    }

    /// The Content-Length that RFC 9110 section 8.6 allows: none in a 204, and in a response to HEAD or in a 304
    /// that of the body which is not sent. An application that leaves it out for HEAD need not mean 0.
    fn length_to_send(&self, facts: RequestFacts, body: BodyLength) -> Option<u64> {
        match (self.status_code, body) {
            (204, _) => None,
            (304, _) => self.content_length,
            (_, BodyLength::Exactly(length)) if length > 0 || !facts.is_head => {
                self.content_length.or(Some(length))
            }
            _ => self.content_length,
        }
    }

    fn extend(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }
}

/// Whether `option` is in a comma-separated list of them.
fn has_option(value: &[u8], option: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|entry| trim_ows(entry).eq_ignore_ascii_case(option))
}

/// The fields of a response the server takes notice of.
enum Field {
    Connection,
    ContentLength,
    Date,
    HopByHop,
    Server,
    Other,
}

impl Field {
    fn of(name: &[u8]) -> Self {
        let is = |expected: &[u8]| name.eq_ignore_ascii_case(expected);
        match name.len() {
            2 if is(b"te") => Self::HopByHop,
            4 if is(b"date") => Self::Date,
            6 if is(b"server") => Self::Server,
            7 if is(b"trailer") || is(b"upgrade") => Self::HopByHop,
            8 if is(b"trailers") => Self::HopByHop,
            10 if is(b"connection") => Self::Connection,
            10 if is(b"keep-alive") => Self::HopByHop,
            14 if is(b"content-length") => Self::ContentLength,
            17 if is(b"transfer-encoding") => Self::HopByHop,
            18 if is(b"proxy-authenticate") => Self::HopByHop,
            19 if is(b"proxy-authorization") => Self::HopByHop,
            _ => Self::Other,
        }
    }
}

/// A number in decimal digits, without an allocation.
struct Decimal {
    buffer: [u8; 20],
    length: usize,
}

impl Decimal {
    fn new(mut number: u64) -> Self {
        let mut decimal = Self { buffer: [b'0'; 20], length: 0 };
        for place in decimal.buffer.iter_mut().rev() {
            *place += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
            decimal.length += 1;
            if number == 0 {
                break;
            }
        }
        decimal
    }

    fn digits(&self) -> &[u8] {
        self.buffer.get(self.buffer.len() - self.length..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
