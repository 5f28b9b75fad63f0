use super::*;

const DATE: &[u8; 29] = b"Thu, 01 Jan 1970 00:00:00 GMT";
const GET: RequestFacts = RequestFacts { version: Version::Http11, is_head: false, keep_alive: true };
const HEAD: RequestFacts = RequestFacts { is_head: true, ..GET };
const GET_HTTP10: RequestFacts = RequestFacts { version: Version::Http10, ..GET };

type Fields<'a> = &'a [(&'a str, &'a str)];

/// The lines of a finished head, sorted below the status line, and its plan.
fn finish(
    status: &str,
    fields: Fields,
    facts: RequestFacts,
    body: BodyLength,
) -> (Vec<String>, ResponsePlan) {
    let mut writer = HeadWriter::default();
    writer.start(status.as_bytes()).unwrap();
    for (name, value) in fields {
        writer.header(name.as_bytes(), value.as_bytes()).unwrap();
    }
    let plan = writer.finish(facts, body, true, DATE).unwrap();
    let text = String::from_utf8(writer.into_inner()).unwrap();
    let lines = text.strip_suffix("\r\n\r\n").expect("an empty line ends the head").split("\r\n");
    (lines.map(str::to_owned).collect(), plan)
}

fn header_fault(name: &str, value: &str) -> Option<ResponseFault> {
    let mut writer = HeadWriter::default();
    writer.start(b"200 OK").unwrap();
    writer.header(name.as_bytes(), value.as_bytes()).err()
}

fn has(lines: &[String], name: &str) -> bool {
    lines.iter().any(|line| line.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase())))
}

#[test]
fn head_of_a_known_body() {
    let (lines, plan) = finish("200 OK", &[("X-A", "b")], GET, BodyLength::Exactly(5));
    let expected = [
        "HTTP/1.1 200 OK",
        "X-A: b",
        "Content-Length: 5",
        "Date: Thu, 01 Jan 1970 00:00:00 GMT",
        "Server: Spawning",
    ];
    assert_eq!(lines, expected);
    assert_eq!(plan, ResponsePlan { framing: ResponseFraming::Length(5), keep_alive: true });
}

#[test]
fn date_and_server_of_the_application_stay() {
    let (lines, _) = finish("200 OK", &[("date", "a"), ("SERVER", "b")], GET, BodyLength::Exactly(0));
    assert_eq!(lines, ["HTTP/1.1 200 OK", "date: a", "SERVER: b", "Content-Length: 0"]);
}

#[test]
fn body_that_comes_in_pieces() {
    let (lines, plan) = finish("200 OK", &[], GET, BodyLength::Unknown);
    assert!(lines.contains(&"Transfer-Encoding: chunked".to_owned()));
    assert_eq!(plan, ResponsePlan { framing: ResponseFraming::Chunked, keep_alive: true });
}

#[test]
fn body_that_comes_in_pieces_to_http_1_0() {
    let (lines, plan) = finish("200 OK", &[], GET_HTTP10, BodyLength::Unknown);
    assert!(!has(&lines, "Transfer-Encoding") && !has(&lines, "Content-Length"));
    assert!(lines.contains(&"Connection: close".to_owned()));
    assert_eq!(plan, ResponsePlan { framing: ResponseFraming::UntilClose, keep_alive: false });
}

#[test]
fn declared_length_wins() {
    for body in [BodyLength::Unknown, BodyLength::Exactly(7)] {
        let (lines, plan) = finish("200 OK", &[("content-length", "42")], GET, body);
        assert_eq!(lines.iter().filter(|line| *line == "Content-Length: 42").count(), 1);
        assert!(!has(&lines, "Transfer-Encoding"));
        assert_eq!(plan.framing, ResponseFraming::Length(42));
    }
}

#[test]
fn empty_body_has_a_length_and_no_framing() {
    for (fields, body) in
        [([].as_slice(), BodyLength::Exactly(0)), ([("Content-Length", "0")].as_slice(), BodyLength::Unknown)]
    {
        let (lines, plan) = finish("200 OK", fields, GET, body);
        assert!(lines.contains(&"Content-Length: 0".to_owned()));
        assert_eq!(plan.framing, ResponseFraming::None);
    }
}

/// RFC 9110 section 8.6.
#[test]
fn no_content_has_neither_length_nor_coding() {
    for body in [BodyLength::Exactly(0), BodyLength::Exactly(5), BodyLength::Unknown] {
        let (lines, plan) = finish("204 No Content", &[("Content-Length", "5")], GET, body);
        assert!(!has(&lines, "Content-Length") && !has(&lines, "Transfer-Encoding"));
        assert_eq!(plan, ResponsePlan { framing: ResponseFraming::None, keep_alive: true });
    }
}

#[test]
fn not_modified_keeps_only_the_length_the_application_gave() {
    let (lines, plan) = finish("304 Not Modified", &[("Content-Length", "5")], GET, BodyLength::Exactly(0));
    assert!(lines.contains(&"Content-Length: 5".to_owned()));
    assert_eq!(plan.framing, ResponseFraming::None);
    let (lines, _) = finish("304 Not Modified", &[], GET, BodyLength::Exactly(0));
    assert!(!has(&lines, "Content-Length"));
    let (lines, _) = finish("304 Not Modified", &[], GET, BodyLength::Unknown);
    assert!(!has(&lines, "Transfer-Encoding"));
}

#[test]
fn response_to_head_has_the_length_of_get_if_it_is_known() {
    let length = |fields: Fields, body| {
        let (lines, plan) = finish("200 OK", fields, HEAD, body);
        assert_eq!(plan, ResponsePlan { framing: ResponseFraming::None, keep_alive: true });
        assert!(!has(&lines, "Transfer-Encoding"));
        lines.iter().find_map(|line| line.strip_prefix("Content-Length: ").map(str::to_owned))
    };
    assert_eq!(length(&[("Content-Length", "42")], BodyLength::Exactly(0)).as_deref(), Some("42"));
    assert_eq!(length(&[], BodyLength::Exactly(5)).as_deref(), Some("5"));
    assert_eq!(length(&[], BodyLength::Exactly(0)), None);
    assert_eq!(length(&[], BodyLength::Unknown), None);
}

#[test]
fn connection_says_what_the_client_cannot_assume() {
    let connection = |facts, fields: Fields| {
        let (lines, plan) = finish("200 OK", fields, facts, BodyLength::Exactly(1));
        (lines.iter().find_map(|line| line.strip_prefix("Connection: ").map(str::to_owned)), plan.keep_alive)
    };
    let closing = (Some("close".to_owned()), false);
    assert_eq!(connection(GET, &[]), (None, true));
    assert_eq!(connection(GET_HTTP10, &[]), (Some("keep-alive".to_owned()), true));
    assert_eq!(connection(RequestFacts { keep_alive: false, ..GET }, &[]), closing);
    assert_eq!(connection(RequestFacts { keep_alive: false, ..GET_HTTP10 }, &[]), closing);
    assert_eq!(connection(GET, &[("Connection", "Close")]), closing);
}

#[test]
fn server_may_end_the_connection() {
    let mut writer = HeadWriter::default();
    writer.start(b"200 OK").unwrap();
    let plan = writer.finish(GET, BodyLength::Exactly(1), false, DATE).unwrap();
    assert!(!plan.keep_alive);
    assert!(writer.bytes().ends_with(b"\r\nConnection: close\r\n\r\n"));
}

#[test]
fn statuses() {
    for (status, line) in [
        ("200 OK", "HTTP/1.1 200 OK"),
        ("200", "HTTP/1.1 200 "),
        ("404 ", "HTTP/1.1 404 "),
        ("599 A\tb \u{e9}", "HTTP/1.1 599 A\tb \u{e9}"),
    ] {
        let (lines, _) = finish(status, &[], GET, BodyLength::Exactly(0));
        assert_eq!(lines.first().map(String::as_str), Some(line));
    }
    for status in [
        "",
        "OK",
        "20 OK",
        "2000 OK",
        "200OK",
        "100 Continue",
        "101 Switching",
        "600 No",
        "999 No",
        "-20 OK",
        "20x OK",
    ] {
        let fault = HeadWriter::default().start(status.as_bytes());
        assert_eq!(fault, Err(ResponseFault::Status(status.to_owned())));
    }
}

/// CVE-2018-1000164: a line end in a value begins another field, or another response.
#[test]
fn line_ends_split_nothing() {
    for text in ["\r\nSet-Cookie: a", "\n", "\r", "\0", "\x0b", "\x7f", "\x1b"] {
        assert!(HeadWriter::default().start(format!("200 OK{text}").as_bytes()).is_err(), "{text:?}");
        assert!(matches!(header_fault("X-A", &format!("b{text}")), Some(ResponseFault::HeaderValue { .. })));
        assert!(matches!(header_fault(&format!("X-A{text}"), "b"), Some(ResponseFault::HeaderName(_))));
    }
    assert!(matches!(header_fault("", "b"), Some(ResponseFault::HeaderName(_))));
    assert!(matches!(header_fault("X A", "b"), Some(ResponseFault::HeaderName(_))));
    assert_eq!(header_fault("X-A", ""), None);
    assert_eq!(header_fault("X-A", "a\tb \u{e9}"), None);
}

#[test]
fn hop_by_hop_fields_belong_to_the_server() {
    for name in [
        "Keep-Alive",
        "Proxy-Authenticate",
        "proxy-authorization",
        "TE",
        "Trailer",
        "Trailers",
        "Transfer-Encoding",
        "UPGRADE",
    ] {
        assert_eq!(header_fault(name, "a"), Some(ResponseFault::HopByHop(name.to_owned())));
    }
    assert_eq!(
        header_fault("Connection", "keep-alive"),
        Some(ResponseFault::HopByHop("Connection".to_owned()))
    );
    assert_eq!(header_fault("Connection", " close "), None);
}

#[test]
fn content_length_of_the_application() {
    for value in ["", "-1", "+1", "1.0", "1, 1", "0x1", "18446744073709551616"] {
        assert_eq!(
            header_fault("Content-Length", value),
            Some(ResponseFault::ContentLength(value.to_owned()))
        );
    }
    let mut writer = HeadWriter::default();
    writer.start(b"200 OK").unwrap();
    assert_eq!(writer.content_length(), None);
    assert_eq!(writer.header(b"Content-Length", b"5"), Ok(()));
    assert_eq!(writer.header(b"content-length", b"5"), Ok(()));
    assert_eq!(writer.content_length(), Some(5));
    assert_eq!(writer.header(b"Content-Length", b"6"), Err(ResponseFault::ContentLengthRepeated(5, 6)));
}

#[test]
fn head_that_was_not_started_is_not_finished() {
    let fault = HeadWriter::default().finish(GET, BodyLength::Exactly(0), true, DATE);
    assert_eq!(fault, Err(ResponseFault::StatusMissing));
}

#[test]
fn starting_again_forgets_the_first_head() {
    let mut writer = HeadWriter::new(b"left over".to_vec());
    writer.start(b"200 OK").unwrap();
    writer.header(b"Content-Length", b"5").unwrap();
    writer.header(b"Connection", b"close").unwrap();
    writer.start(b"500 Oops").unwrap();
    let plan = writer.finish(GET, BodyLength::Exactly(1), true, DATE).unwrap();
    assert_eq!(writer.status_code(), 500);
    assert_eq!(plan, ResponsePlan { framing: ResponseFraming::Length(1), keep_alive: true });
    assert!(writer.bytes().starts_with(b"HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n"));
}

#[test]
fn faults_name_the_field_and_what_is_wrong() {
    let text = |fault: Option<ResponseFault>| fault.unwrap().to_string();
    assert_eq!(text(header_fault("X-A", "b\nc")), "header `X-A`: value contains a line feed");
    assert_eq!(
        text(header_fault("X-A", "b\x1bc")),
        "header `X-A`: value contains the control character 0x1b"
    );
    assert_eq!(text(header_fault("X\rA", "b")), "header name `X\\rA`: not a token");
}

#[test]
fn numbers_in_decimal() {
    for number in [0, 1, 9, 10, 99, 100, 1_234_567_890, u64::MAX - 1, u64::MAX] {
        assert_eq!(Decimal::new(number).digits(), number.to_string().as_bytes());
    }
}
