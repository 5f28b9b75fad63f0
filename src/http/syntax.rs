//! The grammar that heads, chunks, trailers and responses share (RFC 9110 section 5.6, RFC 9112 section 2.2).

use super::errors::RequestFault;

/// Whether `byte` is a `tchar`.
pub(super) fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'z' | b'|' | b'~')
}

/// Whether `bytes` is a `token`: one or more `tchar`.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Whether `byte` may stand in a field value: HTAB, SP, VCHAR and `obs-text`.
pub(super) fn is_field_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Whether all `bytes` may stand in a field value.
pub(super) fn is_field_value(bytes: &[u8]) -> bool {
    !any_byte(bytes, |byte| !is_field_value_byte(byte))
}

/// Whether any of `bytes` is one that `matches`. It has no early end, so that it compiles to vector code.
pub(super) fn any_byte(bytes: &[u8], matches: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(0, |found, &byte| found | u8::from(matches(byte))) != 0
}

/// `bytes` without the SP and HTAB at both ends (`OWS`), and nothing else: a smuggler's white space stays.
pub(super) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Length, CRLF excluded, of the line that `bytes` begins with; `None` if its end has not arrived.
///
/// The first `scanned` bytes are known to hold no LF. What is found depends on the bytes alone, never on how
/// many of them have arrived: a line of more than `bytes_max` bytes is `too_long` even if its end is there.
///
/// # Errors
/// `too_long`, or [`RequestFault::BareLineFeed`].
pub(super) fn find_line(
    bytes: &[u8],
    scanned: usize,
    bytes_max: usize,
    too_long: RequestFault,
) -> Result<Option<usize>, RequestFault> {
    let window_bytes_max = bytes_max.saturating_add(2);
    let window = bytes.get(..window_bytes_max).unwrap_or(bytes);
    let Some(line_feed) =
        window.get(scanned..).and_then(|window| find_byte(window, b'\n')).map(|index| scanned + index)
    else {
        return if window.len() == window_bytes_max { Err(too_long) } else { Ok(None) };
    };
    match window.get(..line_feed) {
        Some([line @ .., b'\r']) => Ok(Some(line.len())),
        _ => Err(RequestFault::BareLineFeed),
    }
}

/// Bytes looked at together: a few vector instructions.
const BLOCK_BYTES: usize = 32;

/// Index of the first byte that equals `wanted`.
pub(super) fn find_byte(bytes: &[u8], wanted: u8) -> Option<usize> {
    let blocks = bytes.as_chunks::<BLOCK_BYTES>().0.iter();
    let skipped = BLOCK_BYTES * blocks.take_while(|block| !any_byte(*block, |byte| byte == wanted)).count();
    let index = bytes.get(skipped..)?.iter().position(|&byte| byte == wanted)?;
    Some(skipped + index)
}

/// Index of the first LF that ends a section of lines: the line is empty, or the LF has no CR before it.
///
/// `bytes` begins with the CRLF of the line before the section, or with two later bytes to resume at.
pub(super) fn find_section_end(bytes: &[u8]) -> Option<usize> {
    let mut skipped = 0;
    while let Some(block) = bytes.get(skipped..).and_then(<[u8]>::first_chunk)
        && !has_section_end(block)
    {
        skipped += BLOCK_BYTES;
    }
    let is_end = |window: &[u8]| matches!(window, &[a, b, c] if ends_section(a, b, c) != 0);
    let index = bytes.get(skipped..)?.windows(3).position(is_end)?;
    Some(skipped + index + 2)
}

fn has_section_end(block: &[u8; BLOCK_BYTES + 2]) -> bool {
    let triples = block.iter().zip(block.iter().skip(1)).zip(block.iter().skip(2));
    triples.fold(0, |found, ((&a, &b), &c)| found | ends_section(a, b, c)) != 0
}

/// 1 if a section ends with the LF `byte` and 0 otherwise; without branches, for vector code.
fn ends_section(second_last: u8, last: u8, byte: u8) -> u8 {
    u8::from(byte == b'\n') & (u8::from(second_last == b'\n') | u8::from(last != b'\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_rfc_9110() {
        let expected = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        for byte in 0..=255 {
            assert_eq!(is_token_byte(byte), expected(byte), "{byte:#x}");
        }
        assert!(!is_token(b""));
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trim_ows(b" \t a b\t "), b"a b");
        assert_eq!(trim_ows(b" \t "), b"");
        assert_eq!(trim_ows(b"\x0ba\xa0"), b"\x0ba\xa0");
    }

    #[test]
    fn line_is_found_wherever_its_end_lies() {
        for length in 0..100 {
            let bytes = [vec![b'a'; length], b"\r\nrest\n".to_vec()].concat();
            for scanned in 0..=length {
                assert_eq!(find_line(&bytes, scanned, 100, RequestFault::RequestLine), Ok(Some(length)));
            }
        }
    }

    #[test]
    fn line_at_its_limit_passes_and_one_byte_more_does_not() {
        let find = |bytes: &[u8]| find_line(bytes, 0, 3, RequestFault::RequestLineTooLong);
        assert_eq!(find(b"abc\r\n"), Ok(Some(3)));
        assert_eq!(find(b"abcd"), Ok(None));
        assert_eq!(find(b"abcd\r"), Err(RequestFault::RequestLineTooLong));
        assert_eq!(find(b"abcd\r\n"), Err(RequestFault::RequestLineTooLong));
        assert_eq!(find(b"abcd\n"), Err(RequestFault::BareLineFeed));
    }

    #[test]
    fn section_ends_at_its_empty_line_or_at_a_bare_line_feed() {
        assert_eq!(find_section_end(b"\r\n\r\nrest"), Some(3));
        assert_eq!(find_section_end(b"\r\n\r"), None);
        for length in 1..100 {
            let line = vec![b'a'; length];
            let complete = [b"\r\n", line.as_slice(), b"\r\n\r\n"].concat();
            assert_eq!(find_section_end(&complete), Some(length + 5));
            let bare = [b"\r\n", line.as_slice(), b"\n\r\n\r\n"].concat();
            assert_eq!(find_section_end(&bare), Some(length + 2));
        }
    }
}
