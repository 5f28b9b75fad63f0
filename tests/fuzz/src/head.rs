//! A second opinion on request heads: what no accepted head may hold, and what its framing must follow from.

use spawning::http::{BodyFraming, RequestHead, Version};

/// Name in lower case and value of a field line without its CRLF; `None` for what is no such line.
pub fn field(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_text = |&byte: &u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    let valid = !name.is_empty() && name.iter().all(is_token) && value.iter().all(is_text);
    valid.then(|| (String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()))
}

/// Panics if `head`, accepted from `bytes`, should not have been, or says something else than `bytes`.
pub fn check(head: &RequestHead, bytes: &[u8]) {
    let whole = &bytes[..head.length_bytes()];
    let lines = whole.strip_suffix(b"\r\n\r\n").expect("an empty line ends a head");
    let lines: Vec<_> = lines.split(|&byte| byte == b'\n').collect();
    let lines: Vec<_> = lines
        .iter()
        .enumerate()
        .map(|(index, line)| match line.strip_suffix(b"\r") {
            Some(line) => line,
            None if index + 1 == lines.len() => line,
            None => panic!("a bare line feed was accepted"),
        })
        .collect();
    let (request_line, fields) = lines.split_first().expect("a head has a request line");
    let fields: Vec<_> = fields.iter().map(|line| field(line).expect("a line is no field")).collect();

    check_request_line(head, request_line);
    let accepted = head.headers().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()));
    let expected = fields.iter().map(|(name, value)| (name.clone().into_bytes(), trimmed(value)));
    assert!(accepted.eq(expected), "fields were lost, invented or changed");
    check_framing(head, &fields);
}

fn check_request_line(head: &RequestHead, line: &[u8]) {
    let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words.as_slice() else {
        panic!("a request line of other than three words")
    };
    assert_eq!((head.method(), head.target()), (*method, *target));
    let is_allowed = |&byte: &u8| byte > b' ' && byte != 0x7f && byte != b'#';
    assert!(target.iter().all(is_allowed), "a control, a space or a fragment in a target");
    assert_eq!(*version == b"HTTP/1.0", head.version() == Version::Http10);
    assert!(version.starts_with(b"HTTP/1.") && version.len() == 8);
    assert!(!head.path().is_empty());
}

fn check_framing(head: &RequestHead, fields: &[(String, Vec<u8>)]) {
    let named = |wanted: &str| -> Vec<Vec<u8>> {
        fields.iter().filter(|(name, _)| name == wanted).map(|(_, value)| trimmed(value)).collect()
    };
    let (lengths, codings, hosts) = (named("content-length"), named("transfer-encoding"), named("host"));
    match head.framing() {
        BodyFraming::None => assert!(lengths.is_empty() && codings.is_empty()),
        BodyFraming::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1);
            let digits = &lengths[0];
            assert!(!digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
            assert_eq!(std::str::from_utf8(digits).unwrap().parse(), Ok(length));
        }
        BodyFraming::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1 && head.version() == Version::Http11);
            assert_eq!(codings[0].to_ascii_lowercase(), b"chunked");
        }
    }
    assert!(hosts.len() <= 1 && (hosts.len() == 1 || head.version() == Version::Http10));
}

fn trimmed(value: &[u8]) -> Vec<u8> {
    let is_space = |byte: &u8| b" \t".contains(byte);
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    value[start..end].to_vec()
}
