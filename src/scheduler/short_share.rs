//! Whether a request that waits would probably be short. Pure.
//!
//! When one request takes long, letting the others overtake it on one more thread helps them, if they are short. If all
//! take long, it only makes the threads fight over the interpreter.

use std::time::Duration;

use crate::limits::LONG_REQUEST;

/// How much one request weighs against all before it: a thirty-second part.
const WEIGHT_SHIFT: u32 = 5;
/// The share of an application all of whose requests are short.
const WHOLE: u32 = 1 << 16;

/// The share of short requests among the recent ones. Of an application that has answered nothing yet, half are
/// expected to be.
#[derive(Debug)]
pub(super) struct ShortShare(u32);

impl Default for ShortShare {
    fn default() -> Self {
        Self(WHOLE / 2)
    }
}

impl ShortShare {
    /// Learns that a thread was busy with a request for `taken`.
    pub(super) fn note(&mut self, taken: Duration) {
        self.0 -= self.0 >> WEIGHT_SHIFT;
        if taken < LONG_REQUEST {
            self.0 += WHOLE >> WEIGHT_SHIFT;
        }
    }

    /// Whether at least one in four requests is short.
    pub(super) fn is_substantial(&self) -> bool {
        self.0 >= WHOLE / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_micros(10);

    fn share(times: impl IntoIterator<Item = Duration>) -> ShortShare {
        let mut share = ShortShare::default();
        for taken in times {
            share.note(taken);
        }
        share
    }

    #[test]
    fn an_unknown_application_is_trusted_for_a_few_requests() {
        assert!(ShortShare::default().is_substantial());
        assert!(share([LONG_REQUEST; 10]).is_substantial());
        assert!(!share([LONG_REQUEST; 30]).is_substantial());
    }

    #[test]
    fn a_few_long_requests_among_many_short_ones_change_nothing() {
        let round = || [SHORT; 60].into_iter().chain([LONG_REQUEST; 4]);
        assert!(share(round().chain(round())).is_substantial());
    }

    #[test]
    fn an_application_that_always_takes_long_is_not_short_and_never_overflows() {
        assert!(!share(std::iter::repeat_n(LONG_REQUEST, 100_000)).is_substantial());
        assert!(share(std::iter::repeat_n(SHORT, 100_000)).is_substantial());
        assert!(!share([SHORT; 1000].into_iter().chain([LONG_REQUEST; 100])).is_substantial());
    }
}
