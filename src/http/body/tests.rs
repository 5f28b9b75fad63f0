use super::*;

const BODY_BYTES_MAX: u64 = 1000;

/// A body, and the bytes that follow it.
type BodyAndRest = (Vec<u8>, Vec<u8>);

/// Decodes `coded` to its end; `None` if that is not there.
fn decode(coded: &[u8]) -> Result<Option<BodyAndRest>, RequestFault> {
    let mut decoder = ChunkedDecoder::new(BODY_BYTES_MAX);
    let (mut body, mut rest) = (Vec::new(), coded);
    loop {
        let step = decoder.decode(rest)?;
        body.extend_from_slice(&rest[step.data.clone()]);
        rest = &rest[step.consumed..];
        if decoder.is_done() {
            return Ok(Some((body, rest.to_vec())));
        }
        if step.data.is_empty() {
            return Ok(None);
        }
    }
}

fn fault(coded: impl AsRef<[u8]>) -> Option<RequestFault> {
    decode(coded.as_ref()).err()
}

fn body(coded: impl AsRef<[u8]>) -> Vec<u8> {
    decode(coded.as_ref()).unwrap().expect("the body is complete").0
}

#[test]
fn chunks_are_joined_and_what_follows_is_left() {
    let decoded = decode(b"4\r\nWiki\r\n5\r\npedia\r\n0\r\n\r\nGET /").unwrap();
    assert_eq!(decoded, Some((b"Wikipedia".to_vec(), b"GET /".to_vec())));
    assert_eq!(body("0\r\n\r\n"), b"");
}

#[test]
fn chunk_size_in_any_case_and_with_leading_zeros() {
    assert_eq!(body("A\r\n0123456789\r\n00\r\n\r\n").len(), 10);
    assert_eq!(body("000000000000000a\r\n0123456789\r\n0\r\n\r\n").len(), 10);
}

/// CVE-2022-24761: `int(size, 16)` takes more for a number than RFC 9112 does.
#[test]
fn chunk_size_with_sign_space_radix_or_separator() {
    for size in ["+1", "-1", "0x1", " 1", "1 ", "\t1", "1\t", "1_0", "g", "", "1,0", "\u{661}", "1\0"] {
        assert_eq!(fault(format!("{size}\r\na\r\n0\r\n\r\n")), Some(RequestFault::ChunkSize), "{size:?}");
    }
}

#[test]
fn chunk_size_that_overflows() {
    assert_eq!(fault("10000000000000000\r\n"), Some(RequestFault::ChunkSize));
    assert_eq!(fault("00000000000000001\r\n"), Some(RequestFault::ChunkSize));
    assert_eq!(fault("ffffffffffffffff\r\n"), Some(RequestFault::BodyTooLarge));
    assert_eq!(fault("1\r\na\r\nffffffffffffffff\r\n"), Some(RequestFault::BodyTooLarge));
}

#[test]
fn body_at_its_limit_passes_and_one_byte_more_does_not() {
    let half = format!("1f4\r\n{}\r\n", "a".repeat(500));
    assert_eq!(body(format!("{half}{half}0\r\n\r\n")).len(), 1000);
    assert_eq!(fault(format!("{half}{half}1\r\n")), Some(RequestFault::BodyTooLarge));
}

#[test]
fn chunk_extensions_are_dropped() {
    assert_eq!(body("1;a\r\nx\r\n1 ; b=c;d=\"e f\"\t;\te\t=\t\"\\\"\u{e9};\"\r\ny\r\n0;z\r\n\r\n"), b"xy");
}

/// CVE-2022-24761, and gunicorn 25.3: a CR, LF or other control in an extension.
#[test]
fn chunk_extension_with_controls() {
    for extension in [
        ";",
        ";;a",
        ";a;",
        "; ",
        ";a ",
        ";a=",
        ";a==b",
        ";=b",
        ";a b",
        ";a,b",
        ";a=b c",
        ";a=\"b",
        ";a=\"b\\\"",
        ";a=\"b\"c",
        ";a=\"b\\",
        ";a=[b]",
        ";\"a\"",
        ";a\rb",
        ";a\0",
        ";\x0b",
        " ;\x7f",
        ";a=\"\x0b\"",
        ";a=\"\\\x0b\"",
        ";\u{e9}",
    ] {
        assert_eq!(fault(format!("1{extension}\r\n")), Some(RequestFault::ChunkExtension), "{extension:?}");
    }
    assert_eq!(fault("1;a\nx\r\n0\r\n\r\n"), Some(RequestFault::BareLineFeed));
    assert_eq!(fault("1\r;a\r\n"), Some(RequestFault::ChunkSize));
}

#[test]
fn chunk_line_at_its_limit_passes_and_one_byte_more_does_not() {
    let line = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length - 2));
    assert_eq!(body(line(CHUNK_LINE_BYTES_MAX)), b"x");
    assert_eq!(fault(line(CHUNK_LINE_BYTES_MAX + 1)), Some(RequestFault::ChunkLineTooLong));
    assert_eq!(fault("1".repeat(CHUNK_LINE_BYTES_MAX + 2)), Some(RequestFault::ChunkLineTooLong));
}

/// CVE-2023-39326 of Go: extensions on every small chunk made a body cost a thousand times its size.
#[test]
fn chunk_extensions_together_are_bounded() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(1023));
    let count_max = CHUNK_EXTENSION_BYTES_MAX / 1024;
    assert_eq!(body(format!("{}0\r\n\r\n", chunk.repeat(count_max))).len(), count_max);
    assert_eq!(
        fault(format!("{}0;z\r\n\r\n", chunk.repeat(count_max))),
        Some(RequestFault::ChunkLineTooLong)
    );
}

#[test]
fn chunk_data_must_be_followed_by_its_end() {
    for coded in ["1\r\nab\r\n", "1\r\na\n0\r\n\r\n", "1\r\na\r0\r\n\r\n", "1\r\na0\r\n\r\n"] {
        assert_eq!(fault(coded), Some(RequestFault::ChunkEnd), "{coded:?}");
    }
}

#[test]
fn bare_line_feed_ends_nothing() {
    for coded in ["1\na\r\n0\r\n\r\n", "0\n\r\n", "0\r\n\n", "0\r\nA: b\n\r\n"] {
        assert_eq!(fault(coded), Some(RequestFault::BareLineFeed), "{coded:?}");
    }
}

#[test]
fn final_line_end_is_demanded() {
    assert_eq!(decode(b"1\r\na\r\n0\r\n"), Ok(None));
    assert_eq!(decode(b"1\r\na\r\n0\r\n\r"), Ok(None));
    assert_eq!(fault("1\r\na\r\n0\r\nGET / HTTP/1.1\r\n"), Some(RequestFault::Trailer));
}

#[test]
fn trailers_are_checked_and_dropped() {
    assert_eq!(body("1\r\na\r\n0\r\nA: b\r\nContent-Length:\r\n\r\n"), b"a");
    for line in ["A", ": b", "A : b", " A: b", "A: b\0", "A: b\rC: d", "A\u{e4}: b"] {
        assert_eq!(fault(format!("0\r\n{line}\r\n\r\n")), Some(RequestFault::Trailer), "{line:?}");
    }
}

#[test]
fn trailer_section_at_its_limit_passes_and_one_byte_more_does_not() {
    let section = |length: usize| format!("0\r\nA: b\r\nC:{}\r\n\r\n", "d".repeat(length - 10));
    assert_eq!(body(section(TRAILER_BYTES_MAX)), b"");
    assert_eq!(fault(section(TRAILER_BYTES_MAX + 1)), Some(RequestFault::TrailerTooLarge));
    assert_eq!(
        fault(format!("0\r\n{}", "A:b\r\n".repeat(TRAILER_BYTES_MAX))),
        Some(RequestFault::TrailerTooLarge)
    );
}

#[test]
fn data_is_handed_out_as_it_arrives() {
    let mut decoder = ChunkedDecoder::new(BODY_BYTES_MAX);
    assert_eq!(decoder.decode(b"5\r\nab"), Ok(Decoded { consumed: 5, data: 3..5 }));
    assert_eq!(decoder.decode(b""), Ok(Decoded { consumed: 0, data: 0..0 }));
    assert_eq!(decoder.decode(b"cde\r"), Ok(Decoded { consumed: 3, data: 0..3 }));
    assert_eq!(decoder.decode(b"\r"), Ok(Decoded { consumed: 0, data: 0..0 }));
    assert_eq!(decoder.decode(b"\r\n0\r\n\r\n"), Ok(Decoded { consumed: 7, data: 7..7 }));
    assert!(decoder.is_done());
}

#[test]
fn chunk_heads() {
    let encode = |length| {
        let mut out = b"x".to_vec();
        encode_chunk_head(&mut out, length);
        String::from_utf8(out).unwrap()
    };
    for length in [1, 9, 10, 15, 16, 255, 4096, 65_535, 65_536, usize::MAX] {
        assert_eq!(encode(length), format!("x{length:x}\r\n"));
    }
}
