//! Which requests should take equally long: those of one method whose paths have the same shape.
//!
//! `/user/17` and `/user/18` ask for the same thing of two users. So whatever in a path may name one of many counts as
//! present and no more: numbers, dates, UUIDs, hashes and other identifiers, slugs and whatever is percent-encoded.
//! Words stay what they are. A word with a hyphen may be a slug, and counts as one: that two pages share a class by
//! mistake costs little, that nothing is ever learnt of a thousand pages costs more.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use crate::limits::CLASS_PATH_BYTES_MAX;

/// So that no client can choose paths that are taken for each other.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));

/// Stands for what may name one of many.
const ONE_OF_MANY: u8 = 0;
/// Stands for digits within a word.
const DIGITS: u8 = 1;
/// The shortest hash, in digits of base 16: what version control shows.
const HASH_DIGITS_MIN: usize = 7;
/// A word in which letters and digits take turns more often than this is an identifier.
const TURNS_MAX: usize = 2;

/// The requests of one method and shape of path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestClass(u64);

impl RequestClass {
    /// The class of a request. Allocates nothing.
    pub fn of(method: &[u8], path: &[u8]) -> Self {
        let mut hash = Hash(*SEED);
        for byte in method {
            hash.add(*byte);
        }
        let path = path.get(..CLASS_PATH_BYTES_MAX).unwrap_or(path);
        for segment in path.split(|byte| *byte == b'/') {
            hash.add(b'/');
            add_segment(&mut hash, segment);
        }
        Self(hash.0)
    }

    /// One that is told from others by a number.
    #[cfg(test)]
    pub(super) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// FNV-1a (Fowler, Noll, Vo), seeded: a few bytes, one after the other.
struct Hash(u64);

impl Hash {
    fn add(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
}

/// Parts between dots are looked at on their own: `17.json`, `app.3f2a1b9c.css`, `52.37`.
fn add_segment(hash: &mut Hash, segment: &[u8]) {
    let mut follows_one_of_many = false;
    for (index, part) in segment.split(|byte| *byte == b'.').enumerate() {
        let is_one_of_many = names_one_of_many(part);
        // A number with a point is one number.
        if is_one_of_many && follows_one_of_many {
            continue;
        }
        if index > 0 {
            hash.add(b'.');
        }
        if is_one_of_many {
            hash.add(ONE_OF_MANY);
        } else {
            add_word(hash, part);
        }
        follows_one_of_many = is_one_of_many;
    }
}

fn add_word(hash: &mut Hash, word: &[u8]) {
    let mut follows_digit = false;
    for byte in word {
        let is_digit = byte.is_ascii_digit();
        if !is_digit {
            hash.add(*byte);
        } else if !follows_digit {
            hash.add(DIGITS);
        }
        follows_digit = is_digit;
    }
}

/// Whether a part of a path is a number, a date, an identifier or a slug.
fn names_one_of_many(part: &[u8]) -> bool {
    let (mut digits, mut turns, mut is_hexadecimal) = (0, 0, true);
    let mut last = None;
    for byte in part {
        let is_digit = byte.is_ascii_digit();
        if !is_digit && !byte.is_ascii_alphabetic() && *byte != b'_' && *byte != b'~' {
            return true;
        }
        digits += usize::from(is_digit);
        turns += usize::from(last.replace(is_digit).is_some_and(|last| last != is_digit));
        is_hexadecimal &= byte.is_ascii_hexdigit();
    }
    let is_number = digits > 0 && digits == part.len();
    let is_hash = is_hexadecimal && digits > 0 && part.len() >= HASH_DIGITS_MIN;
    is_number || is_hash || turns > TURNS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(path: &str) -> RequestClass {
        RequestClass::of(b"GET", path.as_bytes())
    }

    #[test]
    fn paths_that_name_one_of_many_are_of_one_class() {
        for alike in [
            &["/user/17", "/user/18", "/user/0", "/user/184467440737095516150"][..],
            &["/user/17/orders/3", "/user/4/orders/12345"],
            &["/u/9f1c2a64-3b5e-4c8d-9a7b-0e1f2d3c4b5a", "/u/00000000-0000-0000-0000-000000000000"],
            &["/u/9f1c2a643b5e4c8d9a7b0e1f2d3c4b5a", "/u/ffffffffffffffffffffffffffffff00"],
            &["/day/2026-11-28", "/day/1999-01-01", "/day/20261128", "/day/2026-11-28T05:04:00Z"],
            &["/2026/11/28/a-title-of-many-words", "/1999/1/2/another-title"],
            &["/blog/hello-world", "/blog/second-post", "/blog/%D0%BF%D1%80%D0%B8"],
            &["/commit/3f2a1b9", "/commit/da39a3ee5e6b4b0d3255bfef95601890afd80709"],
            &["/watch/dQw4w9WgXcQ", "/watch/01ARZ3NDEKTSV4RRFFQ69G5FAV"],
            &["/17.json", "/18.json"],
            &["/static/app.3f2a1b9c.css", "/static/app.00d1e2f3.css"],
            &["/map/52.37/4.9", "/map/52/4", "/map/-1.5/0.25"],
            &["/item17/edit", "/item18/edit"],
            &["/tag/caf\u{e9}", "/tag/\u{4f60}\u{597d}"],
        ] {
            let classes: Vec<_> = alike.iter().map(|path| class(path)).collect();
            assert!(classes.windows(2).all(|pair| pair[0] == pair[1]), "{alike:?}");
        }
    }

    #[test]
    fn words_methods_and_depth_tell_classes_apart() {
        let paths = [
            "/",
            "",
            "/user",
            "/user/",
            "/users",
            "/user/17",
            "/user/17/",
            "/user/me",
            "/user/17/edit",
            "/User",
            "/17",
            "/orders/17",
            "/user/17.json",
            "/user/17.xml",
            "/a/b",
            "/ab",
            "/deadbeef",
            "/facade",
            "/item17",
            "/index.html",
            "/index",
            "/favicon.ico",
            "/quick",
            "/long",
        ];
        for (index, one) in paths.iter().enumerate() {
            for other in paths.iter().skip(index + 1) {
                assert_ne!(class(one), class(other), "{one} {other}");
            }
        }
        assert_ne!(RequestClass::of(b"GET", b"/"), RequestClass::of(b"POST", b"/"));
        assert_ne!(RequestClass::of(b"GET", b"/a"), RequestClass::of(b"GE", b"T/a"));
    }

    #[test]
    fn of_a_path_without_end_only_the_beginning_counts() {
        let path = "/a".repeat(CLASS_PATH_BYTES_MAX);
        assert_eq!(class(&path), class(&format!("{path}b")));
        assert_ne!(class(&path[..CLASS_PATH_BYTES_MAX - 1]), class(&path));
    }
}
