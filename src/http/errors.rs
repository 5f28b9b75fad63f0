//! What can be wrong with a request, and the answer to it. The fault is the peer's, never the application's.

use std::fmt;

use crate::limits::RETRY_AFTER_S;

/// A request that is refused, one variant for each reason an operator would want to tell apart in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestFault {
    /// The request line is not `token SP target SP HTTP-version CRLF` (RFC 9112 section 3).
    RequestLine,
    /// A line ends in a bare LF, which RFC 9112 section 2.2 lets a server accept and smuggling depends on.
    BareLineFeed,
    /// The target has none of the four forms of RFC 9112 section 3.2, or one its method does not allow.
    Target,
    /// The request line is longer than `request_line_bytes_max`.
    RequestLineTooLong,
    /// The version is not `HTTP/` DIGIT `.` DIGIT.
    Version,
    /// The major version is not 1 (RFC 9110 section 15.6.6).
    VersionUnsupported,
    /// The method is longer than [`crate::limits::METHOD_BYTES_MAX`].
    MethodTooLong,
    /// CONNECT asks for a tunnel, which an origin server has no use for.
    Connect,
    /// A field name is empty, holds a byte that no token may, or is followed by white space; or a line is folded.
    FieldName,
    /// A field value holds a control character.
    FieldValue,
    /// The header section is longer than `header_bytes_max`.
    HeaderTooLarge,
    /// There are more header fields than `header_count_max`.
    HeaderTooManyFields,
    /// HTTP/1.1 demands a Host field (RFC 9112 section 3.2).
    HostMissing,
    /// More than one Host field.
    HostRepeated,
    /// Host, or the authority of an absolute target, is not `uri-host [ ":" port ]`.
    HostInvalid,
    /// Content-Length is not 1*DIGIT, or more than 64 bits hold.
    ContentLength,
    /// More than one Content-Length field, even if they agree.
    ContentLengthRepeated,
    /// More than one Content-Type field.
    ContentTypeRepeated,
    /// The target is of the scheme `https`, over a connection that is neither encrypted nor vouched for by a trusted
    /// proxy (RFC 9110 section 7.4).
    Misdirected,
    /// Both Transfer-Encoding and Content-Length: the classic of request smuggling (RFC 9112 section 6.1).
    ContentLengthAndTransferEncoding,
    /// Transfer-Encoding is malformed, or `chunked` is not its last coding or not its only one of that name.
    TransferEncoding,
    /// More than one Transfer-Encoding field.
    TransferEncodingRepeated,
    /// Transfer-Encoding in an HTTP/1.0 request, where no two recipients agree what it means.
    TransferEncodingInHttp10,
    /// A well-formed transfer coding other than `chunked` (RFC 9112 section 6.1).
    TransferCodingUnknown,
    /// Expect asks for something other than `100-continue` (RFC 9110 section 10.1.1).
    Expectation,
    /// The body is longer than `body_bytes_max`.
    BodyTooLarge,
    /// A chunk size is not 1*HEXDIG, or more than 64 bits hold.
    ChunkSize,
    /// A chunk extension is malformed.
    ChunkExtension,
    /// A line that introduces a chunk, or all extensions together, are longer than their limit.
    ChunkLineTooLong,
    /// The data of a chunk is not followed by CRLF.
    ChunkEnd,
    /// A trailer field is malformed.
    Trailer,
    /// The trailer section is longer than [`crate::limits::TRAILER_BYTES_MAX`].
    TrailerTooLarge,
    /// The head was not complete within `header_timeout`.
    HeaderTimeout,
    /// The body made no progress for `body_timeout`, or came slower than `body_bytes_per_s_min`.
    BodyTimeout,
    /// A proxy that must say whom it speaks for before its first request has not.
    ProxyHeaderMissing,
    /// A header of the PROXY protocol is malformed.
    ProxyHeader,
    /// A header of the PROXY protocol is longer than its version, or [`crate::limits::PROXY_HEADER_BYTES_MAX`], allows.
    ProxyHeaderTooLong,
    /// A trusted proxy's Forwarded or X-Forwarded field is malformed.
    Forwarded,
    /// A trusted proxy's field that can have one value has several.
    ForwardedRepeated,
    /// A trusted proxy says one thing in Forwarded and another in X-Forwarded fields.
    ForwardedContradictory,
    /// The server has no room for the body: the fault is its own, and passes.
    NoStorage,
    /// The request has waited too long for the application: the fault is the server's, and passes.
    Overloaded,
    /// The application has worked on the request for too long: the fault is its own.
    Overdue,
}

impl RequestFault {
    /// The status code and reason phrase this fault is answered with.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Self::RequestLineTooLong => (414, "URI Too Long"),
            Self::HeaderTooLarge | Self::HeaderTooManyFields | Self::TrailerTooLarge => {
                (431, "Request Header Fields Too Large")
            }
            Self::BodyTooLarge => (413, "Content Too Large"),
            Self::Misdirected => (421, "Misdirected Request"),
            Self::HeaderTimeout | Self::BodyTimeout => (408, "Request Timeout"),
            Self::Expectation => (417, "Expectation Failed"),
            Self::MethodTooLong | Self::Connect | Self::TransferCodingUnknown => (501, "Not Implemented"),
            Self::VersionUnsupported => (505, "HTTP Version Not Supported"),
            Self::NoStorage => (507, "Insufficient Storage"),
            Self::Overloaded => (503, "Service Unavailable"),
            Self::Overdue => (504, "Gateway Timeout"),
            _ => (400, "Bad Request"),
        }
    }

    /// A complete response that says so in plain text and closes the connection.
    ///
    /// `head_only` leaves the text out, as HEAD demands. `date` comes from [`super::DateCache`].
    pub fn response(&self, head_only: bool, date: &[u8; 29]) -> Vec<u8> {
        let (code, reason) = self.status();
        let text = format!("{code} {reason}: {self}\n");
        let date = String::from_utf8_lossy(date);
        let body = if head_only { "" } else { text.as_str() };
        let retry = match self {
            Self::Overloaded => format!("Retry-After: {RETRY_AFTER_S}\r\n"),
            _ => String::new(),
        };
        format!(
            "HTTP/1.1 {code} {reason}\r\nDate: {date}\r\nServer: Spawning\r\n{retry}Content-Type: text/plain\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            text.len()
        )
        .into_bytes()
    }

    fn description(self) -> &'static str {
        match self {
            Self::NoStorage => "no room to store the request body",
            Self::Overloaded => "every application thread is busy",
            Self::Overdue => "the application took too long",
            Self::ProxyHeaderMissing => "no PROXY protocol header, which this proxy must send",
            Self::ProxyHeader => "malformed PROXY protocol header",
            Self::ProxyHeaderTooLong => "PROXY protocol header too long",
            Self::Forwarded => "malformed Forwarded or X-Forwarded field",
            Self::ForwardedRepeated => "more than one value of a Forwarded or X-Forwarded field",
            Self::ForwardedContradictory => "Forwarded and X-Forwarded fields contradict each other",
            Self::RequestLine => "malformed request line",
            Self::BareLineFeed => "a line does not end in CR LF",
            Self::Target => "malformed request target",
            Self::RequestLineTooLong => "request line too long",
            Self::Version => "malformed HTTP version",
            Self::VersionUnsupported => "only HTTP/1.0 and HTTP/1.1 are spoken here",
            Self::MethodTooLong => "method too long",
            Self::Connect => "CONNECT is not supported",
            Self::FieldName => "malformed header field name or folded line",
            Self::FieldValue => "control character in a header field value",
            Self::HeaderTooLarge => "header section too large",
            Self::HeaderTooManyFields => "too many header fields",
            Self::HostMissing => "no Host field",
            Self::HostRepeated => "more than one Host field",
            Self::HostInvalid => "malformed host",
            Self::ContentLength => "malformed Content-Length",
            Self::ContentLengthRepeated => "more than one Content-Length field",
            Self::ContentTypeRepeated => "more than one Content-Type field",
            Self::Misdirected => "an https target over a connection that is not",
            Self::ContentLengthAndTransferEncoding => "both Content-Length and Transfer-Encoding",
            Self::TransferEncoding => "malformed Transfer-Encoding",
            Self::TransferEncodingRepeated => "more than one Transfer-Encoding field",
            Self::TransferEncodingInHttp10 => "Transfer-Encoding in an HTTP/1.0 request",
            Self::TransferCodingUnknown => "unknown transfer coding",
            Self::Expectation => "unknown expectation",
            Self::BodyTooLarge => "body too large",
            Self::ChunkSize => "malformed chunk size",
            Self::ChunkExtension => "malformed chunk extension",
            Self::ChunkLineTooLong => "chunk extensions too long",
            Self::ChunkEnd => "chunk data not followed by CR LF",
            Self::Trailer => "malformed trailer field",
            Self::TrailerTooLarge => "trailer section too large",
            Self::HeaderTimeout => "request head not received in time",
            Self::BodyTimeout => "request body not received in time",
        }
    }
}

impl fmt::Display for RequestFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.description())
    }
}

impl std::error::Error for RequestFault {}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn response_is_complete_and_closes() {
        let response = String::from_utf8(RequestFault::BodyTooLarge.response(false, DATE)).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 413 Content Too Large\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
        );
        assert!(head.ends_with("\r\nConnection: close"));
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        assert_eq!(body, "413 Content Too Large: body too large\n");
    }

    #[test]
    fn response_to_head_has_the_length_but_not_the_text() {
        let full = RequestFault::Target.response(false, DATE);
        let head_only = RequestFault::Target.response(true, DATE);
        assert!(head_only.ends_with(b"\r\n\r\n"));
        assert!(full.starts_with(&head_only));
    }
}
