//! Bytes that change as a whole though they lie in many words: behind a sequence lock.
//!
//! The words are a sequence number, odd while the bytes are being written, then their length, then the bytes. There is
//! one writer. A reader that meets it again and again reports nothing rather than wait.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::fence;

const WORD_BYTES: usize = size_of::<u64>();
/// Words before the first byte.
pub(super) const HEAD_WORDS: usize = 2;
/// How often a reader tries to find the bytes at rest.
const READ_ATTEMPTS: usize = 100;

/// How many words hold this many bytes.
pub(super) const fn words_for(bytes: usize) -> usize {
    HEAD_WORDS + bytes.div_ceil(WORD_BYTES)
}

/// How many bytes `words` hold.
pub(super) const fn capacity_bytes(words: usize) -> usize {
    words.saturating_sub(HEAD_WORDS) * WORD_BYTES
}

/// Replaces the bytes; what is beyond the capacity is dropped. For the one writer alone.
pub(super) fn write(words: &[AtomicU64], bytes: impl IntoIterator<Item = u8>) {
    let [sequence, length, text @ ..] = words else { return };
    let before = sequence.load(Relaxed) | 1;
    sequence.store(before, Relaxed);
    fence(Release);
    let (mut bytes, mut count) = (bytes.into_iter(), 0);
    for word in text {
        let mut padded = [0; WORD_BYTES];
        let mut filled = 0;
        for (to, from) in padded.iter_mut().zip(&mut bytes) {
            *to = from;
            filled += 1;
        }
        if filled == 0 {
            break;
        }
        word.store(u64::from_ne_bytes(padded), Relaxed);
        count += filled;
    }
    length.store(count, Relaxed);
    sequence.store(before.wrapping_add(1), Release);
}

/// The bytes, as they were at one moment; `None` when they are always being written.
pub(super) fn read(words: &[AtomicU64]) -> Option<Vec<u8>> {
    let [sequence, length, text @ ..] = words else { return None };
    (0..READ_ATTEMPTS).find_map(|_| {
        let before = sequence.load(Acquire);
        if before % 2 == 1 {
            return None;
        }
        let length = usize::try_from(length.load(Relaxed)).unwrap_or(usize::MAX);
        let words = text.iter().take(length.div_ceil(WORD_BYTES));
        let mut bytes =
            words.map(|word| word.load(Relaxed).to_ne_bytes()).collect::<Vec<_>>().into_flattened();
        bytes.truncate(length);
        fence(Acquire);
        (sequence.load(Relaxed) == before).then_some(bytes)
    })
}

/// Keeps the beginning and the end of `text`, where a traceback says most, in about `bytes_max` bytes.
pub fn cut_in_the_middle(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let (head, rest) = text.split_at(char_boundary_before(text, bytes_max / 2));
    let (middle, tail) = rest.split_at(char_boundary_before(rest, rest.len().saturating_sub(bytes_max / 2)));
    format!("{head}\n[... {} bytes cut ...]\n{tail}", middle.len())
}

fn char_boundary_before(text: &str, mut index: usize) -> usize {
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<const N: usize>() -> [AtomicU64; N] {
        [const { AtomicU64::new(0) }; N]
    }

    #[test]
    fn the_bytes_written_last_are_read() {
        let words = words::<{ words_for(20) }>();
        assert_eq!(read(&words), Some(Vec::new()));
        for text in ["twenty bytes are here", "short", "", "exactly8"] {
            write(&words, text.bytes());
            let kept = text.len().min(capacity_bytes(words.len()));
            assert_eq!(read(&words), Some(text.as_bytes()[..kept].to_vec()));
        }
    }

    #[test]
    fn bytes_that_are_always_being_written_are_not_waited_for() {
        let words = words::<4>();
        words[0].store(7, Relaxed);
        assert_eq!(read(&words), None);
        write(&words, *b"next");
        assert_eq!(read(&words), Some(b"next".to_vec()));
        assert_eq!(read(&[]), None);
    }
}
