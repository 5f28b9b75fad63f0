//! A whole connection: the same events and bounded memory, however its bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spawning::limits::{CHUNK_LINE_BYTES_MAX, TRAILER_BYTES_MAX};
use spawning_fuzz::driver::{Driver, Seen, limits};
use spawning_fuzz::pieces;

fuzz_target!(|input: &[u8]| {
    let Some((seed, bytes)) = input.split_first() else { return };
    let whole = run(std::iter::once(bytes));
    assert_eq!(whole, run(pieces(bytes, *seed)));
    assert_eq!(whole, run(bytes.chunks(1)));
});

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    let limits = limits();
    let head_bytes_max = limits.request_line_bytes_max + limits.header_bytes_max + 4;
    let buffered_bytes_max = head_bytes_max.max(CHUNK_LINE_BYTES_MAX + 2).max(TRAILER_BYTES_MAX + 2);
    let mut driver = Driver::new();
    for piece in pieces {
        driver.send(piece);
        if driver.is_over() {
            break;
        }
        assert!(driver.connection.buffered_bytes() <= buffered_bytes_max + piece.len());
    }
    let seen = driver.finish();
    let body_bytes_max = usize::try_from(limits.body_bytes_max).unwrap();
    assert!(seen.iter().all(|seen| !matches!(seen, Seen::Body(body) if body.len() > body_bytes_max)));
    seen
}
