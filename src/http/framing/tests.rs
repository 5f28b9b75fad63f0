//! One test for each shape of request smuggling, named after what it tries; CVEs where one is known for it.

use super::*;
use crate::http::RequestHead;
use crate::limits::HttpLimits;

const LIMITS_BODY_BYTES_MAX: u64 = 1000;

fn parse(version: &str, fields: &str) -> Result<RequestHead, RequestFault> {
    let limits = HttpLimits { body_bytes_max: LIMITS_BODY_BYTES_MAX, ..HttpLimits::default() };
    let head = format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n");
    RequestHead::parse(head.into_bytes(), &limits).map(|head| head.expect("the head is complete"))
}

fn framing(fields: &str) -> Result<BodyFraming, RequestFault> {
    parse("1.1", fields).map(|head| head.framing())
}

#[test]
fn no_field_means_no_body() {
    assert_eq!(framing(""), Ok(BodyFraming::None));
}

#[test]
fn content_length_is_digits() {
    assert_eq!(framing("Content-Length: 0\r\n"), Ok(BodyFraming::Length(0)));
    assert_eq!(framing("content-LENGTH:\t42 \r\n"), Ok(BodyFraming::Length(42)));
    assert_eq!(framing("Content-Length: 0000000000000000000000042\r\n"), Ok(BodyFraming::Length(42)));
}

#[test]
fn content_length_at_its_limit_passes_and_one_more_does_not() {
    assert_eq!(framing("Content-Length: 1000\r\n"), Ok(BodyFraming::Length(LIMITS_BODY_BYTES_MAX)));
    assert_eq!(framing("Content-Length: 1001\r\n"), Err(RequestFault::BodyTooLarge));
}

#[test]
fn a_second_content_type_is_refused() {
    assert!(parse("1.1", "Content-Type: text/plain\r\n").is_ok());
    for second in ["text/plain", "text/html"] {
        let fields = format!("Content-Type: text/plain\r\ncontent-type: {second}\r\n");
        assert_eq!(parse("1.1", &fields).err(), Some(RequestFault::ContentTypeRepeated), "{second}");
    }
}

#[test]
fn an_upgrade_is_asked_for_by_two_fields_and_in_http_1_1() {
    let asks = |version, fields| parse(version, fields).unwrap().asks_upgrade();
    assert!(asks("1.1", "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"));
    assert!(!asks("1.1", "Upgrade: websocket\r\n"), "a proxy that hands it on does not mean it");
    assert!(!asks("1.1", "Connection: Upgrade\r\n"));
    assert!(!asks("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n"));
}

/// CVE-2022-24761: `int()` takes more for a number than RFC 9110 does.
#[test]
fn content_length_with_sign_space_radix_or_separator() {
    for value in
        ["+10", "-1", "0x10", "1_000", "1 0", "1,000", "10.0", "1e1", "ten", "", "10;", "\"10\"", "\u{661}"]
    {
        assert_eq!(
            framing(&format!("Content-Length: {value}\r\n")),
            Err(RequestFault::ContentLength),
            "{value}"
        );
    }
}

#[test]
fn content_length_that_overflows() {
    for value in ["18446744073709551616", "184467440737095516150", "99999999999999999999999999"] {
        assert_eq!(framing(&format!("Content-Length: {value}\r\n")), Err(RequestFault::ContentLength));
    }
    assert_eq!(framing("Content-Length: 18446744073709551615\r\n"), Err(RequestFault::BodyTooLarge));
}

/// CVE-2019-16792: a repeated Content-Length became 0, and the body a second request.
#[test]
fn content_length_repeated() {
    for fields in ["Content-Length: 4\r\nContent-Length: 5\r\n", "Content-Length: 4\r\ncontent-length: 4\r\n"]
    {
        assert_eq!(framing(fields), Err(RequestFault::ContentLengthRepeated));
    }
    assert_eq!(framing("Content-Length: 4, 4\r\n"), Err(RequestFault::ContentLength));
}

#[test]
fn chunked_in_any_case() {
    assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Ok(BodyFraming::Chunked));
    assert_eq!(framing("transfer-encoding: \t CHUNKED \r\n"), Ok(BodyFraming::Chunked));
}

#[test]
fn content_length_and_transfer_encoding() {
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 4\r\n",
        "Transfer-Encoding:\r\nContent-Length: 4\r\n",
    ] {
        assert_eq!(framing(fields), Err(RequestFault::ContentLengthAndTransferEncoding));
    }
}

/// CVE-2024-1135: of several Transfer-Encoding fields one said `chunked`.
#[test]
fn transfer_encoding_repeated() {
    for other in ["chunked", "identity", "gzip", "xchunked"] {
        let fields = format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: {other}\r\n");
        assert_eq!(framing(&fields), Err(RequestFault::TransferEncodingRepeated), "{other}");
    }
}

/// CVE-2024-6827, CVE-2019-16786: an unknown coding or a list fell back to Content-Length or to no body.
#[test]
fn transfer_coding_unknown() {
    for value in
        ["gzip", "gzip, chunked", "identity", "xchunked", "chunkedx", "gzip;level=1, chunked", "chunk"]
    {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(framing(&fields), Err(RequestFault::TransferCodingUnknown), "{value}");
    }
}

#[test]
fn transfer_encoding_malformed() {
    for value in [
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked, gzip",
        "chunked, identity",
        "chunked;q=1",
        "chunked ;",
        "chun ked",
        "\"chunked\"",
        "chunked\u{a0}",
        "[chunked]",
        "gzip, , chunked",
    ] {
        let fields = format!("Transfer-Encoding: {value}\r\n");
        assert_eq!(framing(&fields), Err(RequestFault::TransferEncoding), "{value}");
    }
}

/// CVE-2019-16789: white space other than SP and HTAB around `chunked`.
#[test]
fn transfer_encoding_with_special_white_space() {
    for value in ["\x0bchunked", "chunked\x0c", "\x00chunked", "chunked\x7f", "chunked\x1f"] {
        assert_eq!(
            framing(&format!("Transfer-Encoding: {value}\r\n")),
            Err(RequestFault::FieldValue),
            "{value:?}"
        );
    }
}

#[test]
fn transfer_encoding_with_a_disguised_name() {
    for field in [
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer\x0b-Encoding: chunked",
        ": chunked",
    ] {
        assert_eq!(framing(&format!("{field}\r\n")), Err(RequestFault::FieldName), "{field:?}");
    }
}

#[test]
fn transfer_encoding_on_a_folded_line() {
    assert_eq!(framing("Transfer-Encoding:\r\n chunked\r\n"), Err(RequestFault::FieldName));
    assert_eq!(framing("X: a\r\n\tTransfer-Encoding: chunked\r\n"), Err(RequestFault::FieldName));
}

#[test]
fn transfer_encoding_in_http_1_0() {
    let parsed = parse("1.0", "Transfer-Encoding: chunked\r\n").map(|head| head.framing());
    assert_eq!(parsed, Err(RequestFault::TransferEncodingInHttp10));
}

#[test]
fn similar_names_are_other_fields() {
    for name in
        ["Transfer_Encoding", "Content_Length", "Transfer-Encodings", "Content-Lengths", "X-Content-Length"]
    {
        assert_eq!(framing(&format!("{name}: chunked\r\n")), Ok(BodyFraming::None), "{name}");
    }
}

#[test]
fn keep_alive_follows_version_and_connection() {
    let keep_alive = |version, fields| parse(version, fields).map(|head| head.keep_alive());
    assert_eq!(keep_alive("1.1", ""), Ok(true));
    assert_eq!(keep_alive("1.0", ""), Ok(false));
    assert_eq!(keep_alive("1.0", "Connection: Keep-Alive\r\n"), Ok(true));
    assert_eq!(keep_alive("1.1", "Connection: CLOSE\r\n"), Ok(false));
    assert_eq!(keep_alive("1.1", "Connection: upgrade ,\tclose\r\n"), Ok(false));
    assert_eq!(keep_alive("1.1", "Connection: te\r\nConnection: close\r\n"), Ok(false));
    assert_eq!(keep_alive("1.0", "Connection: keep-alive, close\r\n"), Ok(false));
    assert_eq!(keep_alive("1.1", "Connection: closed\r\n"), Ok(true));
}

#[test]
fn expectation_is_100_continue_or_refused() {
    let expects = |version, fields| parse(version, fields).map(|head| head.expects_continue());
    assert_eq!(expects("1.1", ""), Ok(false));
    assert_eq!(expects("1.1", "Expect: 100-Continue\r\n"), Ok(true));
    assert_eq!(expects("1.0", "Expect: 100-continue\r\n"), Ok(false));
    for fields in [
        "Expect:\r\n",
        "Expect: 200-ok\r\n",
        "Expect: 100-continue\r\nExpect: 100-continue\r\n",
        "Expect: a=b\r\n",
    ] {
        assert_eq!(expects("1.1", fields), Err(RequestFault::Expectation), "{fields}");
    }
}
