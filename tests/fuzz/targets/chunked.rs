//! A chunked body, whole and in pieces, against a second opinion.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawning::http::ChunkedDecoder;
use spawning_fuzz::chunks::{self, Coding};
use spawning_fuzz::pieces;

/// So that inputs cross it.
const BODY_BYTES_MAX: u64 = 256;

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = input.split_first() else { return };
    let expected = chunks::read(bytes, BODY_BYTES_MAX);
    assert_eq!(decode(std::iter::once(bytes)), expected);
    assert_eq!(decode(pieces(bytes, *seed)), expected);
});

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Coding {
    let mut decoder = ChunkedDecoder::new(BODY_BYTES_MAX);
    let (mut body, mut pending, mut end) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        pending.extend_from_slice(piece);
        loop {
            let Ok(decoded) = decoder.decode(&pending) else { return Coding::Invalid };
            assert!(decoded.data.end <= decoded.consumed && decoded.consumed <= pending.len());
            body.extend_from_slice(&pending[decoded.data.clone()]);
            pending.drain(..decoded.consumed);
            end += decoded.consumed;
            if decoded.data.is_empty() {
                break;
            }
        }
    }
    if decoder.is_done() { Coding::Complete(body, end) } else { Coding::Incomplete }
}
