//! One line of the access log, as its format says.

use std::borrow::Cow;
use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use crate::config::{AccessLogFormat, LogPart};
use crate::gateway::Outcome;
use crate::http::{RequestHead, Version};
use crate::sys::calendar;

/// What a line tells of.
pub(super) struct AccessLogLine<'a> {
    pub(super) client: Option<IpAddr>,
    pub(super) head: Option<&'a RequestHead>,
    /// The response's head as sent, if it is known.
    pub(super) response_head: Option<&'a [u8]>,
    pub(super) status: u16,
    pub(super) body_bytes: u64,
    pub(super) taken: Duration,
    /// How the response ended; one that ended before its end, because the client left or the application failed, is
    /// broken.
    pub(super) outcome: Outcome,
}

impl AccessLogLine<'_> {
    fn is_cut(&self) -> bool {
        self.outcome == Outcome::Broken
    }

    /// Whether the request was answered in full and without error.
    pub(super) fn is_ok(&self) -> bool {
        (100..400).contains(&self.status) && !self.is_cut()
    }
}

/// The time as lines write it, formatted once a second.
#[derive(Debug, Default)]
pub(super) struct FormattedTime {
    unix_s: i64,
    /// `10/Oct/2000:13:55:36 -0700`
    local: String,
    /// `2000-10-10T20:55:36Z`
    utc: String,
}

impl FormattedTime {
    pub(super) fn renew(&mut self) {
        let unix_s = calendar::unix_s();
        if unix_s != self.unix_s || self.local.is_empty() {
            let (local, utc) = (calendar::local_time(unix_s), calendar::rfc_3339(unix_s));
            *self = Self { unix_s, local, utc };
        }
    }
}

/// Appends a line, its line feed included.
pub(super) fn write(
    out: &mut Vec<u8>,
    format: &AccessLogFormat,
    line: &AccessLogLine<'_>,
    stamp: &FormattedTime,
) {
    match format {
        AccessLogFormat::Text(parts) => parts.iter().for_each(|part| write_part(out, part, line, stamp)),
        // A vector takes it all, and no key can be refused.
        AccessLogFormat::Json => drop(serde_json::to_writer(&mut *out, &JsonLine::of(line, stamp))),
    }
    out.push(b'\n');
}

fn write_part(out: &mut Vec<u8>, part: &LogPart, line: &AccessLogLine<'_>, stamp: &FormattedTime) {
    let head = line.head;
    // Writing into a vector cannot fail.
    let _ = match part {
        LogPart::Literal(text) => out.write_all(text.as_bytes()),
        LogPart::Client => match line.client {
            Some(address) => write!(out, "{address}"),
            None => out.write_all(b"-"),
        },
        LogPart::Nothing => out.write_all(b"-"),
        LogPart::Time => write!(out, "[{}]", stamp.local),
        LogPart::RequestLine => return write_request_line(out, head),
        LogPart::Method => return escape_or_dash(out, head.map(RequestHead::method)),
        LogPart::Path => return escape_or_dash(out, head.map(RequestHead::path)),
        LogPart::Query => return escape_or_dash(out, head.map(RequestHead::query)),
        LogPart::Target => return escape_or_dash(out, head.map(RequestHead::target)),
        LogPart::Protocol => return escape_or_dash(out, head.map(|head| protocol(head).as_bytes())),
        LogPart::Status => write!(out, "{}", line.status),
        LogPart::BytesOrDash if line.body_bytes == 0 => out.write_all(b"-"),
        LogPart::Bytes | LogPart::BytesOrDash => write!(out, "{}", line.body_bytes),
        LogPart::TakenS => write!(out, "{}", line.taken.as_secs()),
        LogPart::TakenDecimalS => write!(out, "{:.6}", line.taken.as_secs_f64()),
        LogPart::TakenMs => write!(out, "{}", line.taken.as_millis()),
        LogPart::TakenUs => write!(out, "{}", line.taken.as_micros()),
        LogPart::Cut if line.is_cut() => out.write_all(b" cut"),
        LogPart::Cut => Ok(()),
        LogPart::Connection => out.write_all(match line.outcome {
            Outcome::Broken => b"X",
            Outcome::KeepAlive => b"+",
            Outcome::Close => b"-",
        }),
        LogPart::Pid => write!(out, "{}", std::process::id()),
        LogPart::User => {
            let user = head.and_then(|head| head.header(b"authorization")).and_then(basic_user);
            return escape_or_dash(out, user.as_deref());
        }
        LogPart::RequestField(name) => {
            return escape_or_dash(out, head.and_then(|head| head.header(name.as_bytes())));
        }
        LogPart::ResponseField(name) => {
            let value = line.response_head.and_then(|head| response_field(head, name.as_bytes()));
            return escape_or_dash(out, value);
        }
    };
}

fn write_request_line(out: &mut Vec<u8>, head: Option<&RequestHead>) {
    let Some(head) = head else { return out.push(b'-') };
    escape(out, head.method());
    out.push(b' ');
    escape(out, head.target());
    out.push(b' ');
    out.extend_from_slice(protocol(head).as_bytes());
}

fn protocol(head: &RequestHead) -> &'static str {
    match head.version() {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

/// The first value of a field in a head that we have written ourselves.
fn response_field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let lines = head.split(|byte| *byte == b'\n').skip(1).filter_map(|line| line.strip_suffix(b"\r"));
    lines.filter_map(|line| Some((line.get(..name.len())?, line.get(name.len()..)?))).find_map(
        |(candidate, rest)| {
            let value = rest.strip_prefix(b":").filter(|_| candidate.eq_ignore_ascii_case(name))?;
            Some(value.trim_ascii())
        },
    )
}

/// The user of Basic authentication, by what the client says and whatever the application makes of it (RFC 7617).
fn basic_user(authorization: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = authorization.split_at_checked(6)?;
    let decoded = decode_base64(encoded).filter(|_| scheme.eq_ignore_ascii_case(b"basic "))?;
    let user = decoded.split(|byte| *byte == b':').next()?.to_vec();
    Some(user).filter(|user| !user.is_empty())
}

/// RFC 4648 section 4; `None` for what is none.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let (mut decoded, mut bits, mut count) = (Vec::new(), 0_u32, 0_u32);
    for byte in text.trim_ascii().iter().take_while(|byte| **byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            decoded.push((bits >> count & 0xff) as u8);
        }
    }
    Some(decoded)
}

fn escape_or_dash(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes.filter(|bytes| !bytes.is_empty()) {
        Some(bytes) => escape(out, bytes),
        None => out.push(b'-'),
    }
}

/// Writes foreign bytes so that they cannot end the field, the line, or confuse a terminal; as Apache does.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
}

/// A line in JSON. What is not known is `null`.
#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    pid: u32,
    client: Option<IpAddr>,
    method: Option<Cow<'a, str>>,
    target: Option<Cow<'a, str>>,
    protocol: Option<&'static str>,
    status: u16,
    bytes: u64,
    complete: bool,
    taken_us: u64,
    referer: Option<Cow<'a, str>>,
    user_agent: Option<Cow<'a, str>>,
    request_id: Option<Cow<'a, str>>,
}

impl<'a> JsonLine<'a> {
    fn of(line: &AccessLogLine<'a>, stamp: &'a FormattedTime) -> Self {
        let field = |name: &[u8]| line.head.and_then(|head| head.header(name)).map(String::from_utf8_lossy);
        Self {
            time: &stamp.utc,
            pid: std::process::id(),
            client: line.client,
            method: line.head.map(|head| String::from_utf8_lossy(head.method())),
            target: line.head.map(|head| String::from_utf8_lossy(head.target())),
            protocol: line.head.map(protocol),
            status: line.status,
            bytes: line.body_bytes,
            complete: !line.is_cut(),
            taken_us: u64::try_from(line.taken.as_micros()).unwrap_or(u64::MAX),
            referer: field(b"referer"),
            user_agent: field(b"user-agent"),
            request_id: field(b"x-request-id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::limits::HttpLimits;

    const REQUEST: &[u8] =
        b"GET /a%20b?c=%22 HTTP/1.1\r\nHost: x\r\nReferer: \"r\"\r\nX-Request-ID: \xff7\r\n\
                             Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX-B: 1\r\nX-B: 2\r\n\r\n";

    fn written(format: &str) -> String {
        written_of(format, Outcome::KeepAlive)
    }

    fn written_of(format: &str, outcome: Outcome) -> String {
        let words = ["--access-log-format", format, "app"].map(str::to_owned);
        let format = crate::cli::configure(&words, 1).unwrap().access_log_format;
        let head = RequestHead::parse(REQUEST.to_vec(), &HttpLimits::default()).unwrap().unwrap();
        let line = AccessLogLine {
            client: Some("192.0.2.1".parse().unwrap()),
            head: Some(&head),
            response_head: Some(RESPONSE),
            status: 200,
            body_bytes: 42,
            taken: Duration::from_micros(1_234_567),
            outcome,
        };
        let mut stamp = FormattedTime::default();
        stamp.renew();
        let mut out = Vec::new();
        write(&mut out, &format, &line, &stamp);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_atom_tells_what_it_stands_for() {
        for (format, text) in [
            ("%h %l %u", "192.0.2.1 - Aladdin\n"),
            ("%r", "GET /a%20b?c=%22 HTTP/1.1\n"),
            ("%m %U %q %H", "GET /a%20b c=%22 HTTP/1.1\n"),
            ("%s %>s %b %B", "200 200 42 42\n"),
            ("%T %D %L %M", "1 1234567 1.234567 1234\n"),
            ("%f|%{REFERER}i|%{HTTP_REFERER}e", "\\\"r\\\"|\\\"r\\\"|\\\"r\\\"\n"),
            ("%a %{Nothing}i %{Nothing}o", "- - -\n"),
            ("%{content-type}o %{X-B}o %{X}o", "a/b 1 -\n"),
            ("%{X-Request-ID}i", "\\xff7\n"),
            ("%{REQUEST_URI}e %{REMOTE_ADDR}e", "/a%20b?c=%22 192.0.2.1\n"),
        ] {
            assert_eq!(written(format), text, "{format}");
        }
        assert_eq!(written("%p"), format!("{}\n", std::process::id()));
        assert!(written("%t").starts_with('['));
    }

    #[test]
    fn what_was_cut_is_marked() {
        for (outcome, mark, letter) in
            [(Outcome::KeepAlive, "", "+"), (Outcome::Close, "", "-"), (Outcome::Broken, " cut", "X")]
        {
            assert_eq!(written_of("%s%{cut}x", outcome), format!("200{mark}\n"));
            assert_eq!(written_of("%X", outcome), format!("{letter}\n"));
        }
        let object: Value = serde_json::from_str(&written_of("json", Outcome::Broken)).unwrap();
        assert_eq!(object["complete"], false);
    }

    #[test]
    fn json_holds_the_same() {
        let mut object: Value = serde_json::from_str(&written("json")).unwrap();
        assert!(object["time"].as_str().unwrap().ends_with('Z'));
        object["time"].take();
        let expected = json!({
            "time": null, "pid": std::process::id(), "client": "192.0.2.1", "method": "GET",
            "target": "/a%20b?c=%22", "protocol": "HTTP/1.1", "status": 200, "bytes": 42, "complete": true, "taken_us": 1_234_567,
            "referer": "\"r\"", "user_agent": null, "request_id": "\u{fffd}7",
        });
        assert_eq!(object, expected);
    }

    #[test]
    fn a_user_is_one_of_basic_authentication() {
        for (field, user) in [
            ("basic dTpw", Some("u")),
            ("Basic dQ==", Some("u")),
            ("Basic OnA=", None),
            ("Basic !!", None),
            ("Bearer dTpw", None),
            ("Basic", None),
        ] {
            assert_eq!(basic_user(field.as_bytes()), user.map(|user| user.as_bytes().to_vec()), "{field}");
        }
    }
}
