//! A second opinion on the chunked transfer coding (RFC 9112 section 7.1): all bytes at once, no state, no limits.

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub enum Coding {
    /// A whole body, and the offset behind it.
    Complete(Vec<u8>, usize),
    /// The beginning of one.
    Incomplete,
    /// Nothing that a strict recipient takes for one.
    Invalid,
}

/// Reads a chunked body. `announced_max` bytes of data may be announced in all; more is invalid.
pub fn read(bytes: &[u8], announced_max: u64) -> Coding {
    let mut body = Vec::new();
    let mut announced = 0_u64;
    let mut offset = 0;
    loop {
        let line = match line_at(bytes, offset) {
            Ok(line) => line,
            Err(coding) => return coding,
        };
        offset += line.len() + 2;
        let Some(size) = size_of(line) else { return Coding::Invalid };
        announced = announced.saturating_add(size);
        if announced > announced_max {
            return Coding::Invalid;
        }
        if size == 0 {
            return trailers(bytes, offset, body);
        }
        let size = usize::try_from(size).unwrap();
        let Some(data) = bytes.get(offset..).and_then(|rest| rest.get(..size)) else {
            return Coding::Incomplete;
        };
        body.extend_from_slice(data);
        offset += size;
        match bytes.get(offset..).unwrap_or_default() {
            [b'\r', b'\n', ..] => offset += 2,
            [] | [b'\r'] => return Coding::Incomplete,
            _ => return Coding::Invalid,
        }
    }
}

fn line_at(bytes: &[u8], offset: usize) -> Result<&[u8], Coding> {
    let rest = &bytes[offset..];
    let end = rest.iter().position(|&byte| byte == b'\n').ok_or(Coding::Incomplete)?;
    rest[..end].strip_suffix(b"\r").ok_or(Coding::Invalid)
}

/// `chunk-size [ chunk-ext ]`.
fn size_of(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line).ok();
    // Only an extension may hold bytes beyond ASCII.
    let (size, extension) = match line.iter().position(|byte| !byte.is_ascii_hexdigit()) {
        Some(end) => line.split_at(end),
        None => (text?.as_bytes(), [].as_slice()),
    };
    if size.len() > 16 || !is_extension(extension) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`, by an automaton that goes byte by byte.
fn is_extension(text: &[u8]) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum At {
        Start,
        Blank,
        Semicolon,
        Name,
        BlankAfterName,
        Equals,
        Value,
        Quoted,
        Escape,
        QuotedEnd,
    }
    let is_text = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.iter().try_fold(At::Start, |at, &byte| match (at, byte) {
        (At::Start | At::Value | At::QuotedEnd | At::Blank, b' ' | b'\t') => Some(At::Blank),
        (At::Start | At::Value | At::QuotedEnd | At::Blank | At::Name | At::BlankAfterName, b';') => {
            Some(At::Semicolon)
        }
        (At::Semicolon, b' ' | b'\t') => Some(At::Semicolon),
        (At::Semicolon | At::Name, byte) if is_tchar(byte) => Some(At::Name),
        (At::Name | At::BlankAfterName, b' ' | b'\t') => Some(At::BlankAfterName),
        (At::Name | At::BlankAfterName, b'=') => Some(At::Equals),
        (At::Equals, b' ' | b'\t') => Some(At::Equals),
        (At::Equals, b'"') => Some(At::Quoted),
        (At::Equals | At::Value, byte) if is_tchar(byte) => Some(At::Value),
        (At::Quoted, b'"') => Some(At::QuotedEnd),
        (At::Quoted, b'\\') => Some(At::Escape),
        (At::Quoted | At::Escape, byte) if is_text(byte) => Some(At::Quoted),
        _ => None,
    });
    matches!(end, Some(At::Start | At::Name | At::Value | At::QuotedEnd))
}

fn trailers(bytes: &[u8], mut offset: usize, body: Vec<u8>) -> Coding {
    loop {
        let line = match line_at(bytes, offset) {
            Ok(line) => line,
            Err(coding) => return coding,
        };
        offset += line.len() + 2;
        if line.is_empty() {
            return Coding::Complete(body, offset);
        }
        if crate::head::field(line).is_none() {
            return Coding::Invalid;
        }
    }
}
