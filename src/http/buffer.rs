//! The bytes that have arrived and are not used up.

use std::ops::Range;

#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// Bytes at the front that are used up.
    start: usize,
}

impl Buffer {
    /// What is not used up.
    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start >= self.bytes.len()
    }

    /// Appends `bytes`. What is used up makes room first, so places in the buffer change only here.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start.min(self.bytes.len()));
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Uses up `length` bytes and returns their place for [`Self::get`].
    pub(super) fn consume(&mut self, length: usize) -> Range<usize> {
        let place = self.start..self.start.saturating_add(length).min(self.bytes.len());
        self.start = place.end;
        place
    }

    /// Bytes used up since the last [`Self::append`], by their place.
    pub(super) fn get(&self, place: Range<usize>) -> &[u8] {
        self.bytes.get(place).unwrap_or_default()
    }

    /// Uses up `length` bytes and gives them away, without a copy if they are all there is.
    pub(super) fn take(&mut self, length: usize) -> Vec<u8> {
        if self.start == 0 && length == self.bytes.len() {
            return std::mem::take(&mut self.bytes);
        }
        let place = self.consume(length);
        self.get(place).to_vec()
    }

    /// Returns memory that an idle connection need not hold.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_there_is_is_given_away_without_a_copy() {
        let mut buffer = Buffer::default();
        buffer.append(b"abc");
        let place = buffer.unread().as_ptr();
        let taken = buffer.take(3);
        assert_eq!((taken.as_slice(), taken.as_ptr()), (b"abc".as_slice(), place));
        assert!(buffer.is_empty());
    }

    #[test]
    fn part_of_it_is_copied_and_the_rest_stays() {
        let mut buffer = Buffer::default();
        buffer.append(b"abcdef");
        assert_eq!(buffer.take(2), b"ab");
        let place = buffer.consume(1);
        assert_eq!(buffer.get(place), b"c");
        buffer.append(b"g");
        assert_eq!(buffer.unread(), b"defg");
        assert_eq!(buffer.take(4), b"defg");
    }
}
