//! What classes of requests took the last times. Pure, and bounded: the class that was longest out of use is forgotten.

use std::collections::HashMap;

use super::request_class::RequestClass;
use crate::limits::LONG_CLASSES_MAX;

/// A class counts as long if so many more of its requests computed for long than did not: a single one may be an
/// exception.
const LONG_FROM: u8 = 2;
/// So much is remembered of either, so that a class that has changed is soon known to have.
const BALANCE_MAX: u8 = 4;

/// The classes of which requests have computed for long.
#[derive(Debug, Default)]
pub(super) struct ClassHistory {
    long: HashMap<RequestClass, Record>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug, Default)]
struct Record {
    /// Requests that computed for long, less those that did not.
    balance: u8,
    used_at: u64,
}

impl ClassHistory {
    /// Whether the next request of `class` will probably compute for long.
    pub(super) fn is_long(&mut self, class: RequestClass) -> bool {
        // Mostly there is none.
        if self.long.is_empty() {
            return false;
        }
        self.clock += 1;
        let Some(record) = self.long.get_mut(&class) else { return false };
        record.used_at = self.clock;
        record.balance >= LONG_FROM
    }

    /// A request of `class` has ended, which computed for long or not. Returns the class that was forgotten for it.
    pub(super) fn note(&mut self, class: RequestClass, is_long: bool) -> Option<RequestClass> {
        if !is_long {
            self.note_short(class);
            return None;
        }
        let is_new = !self.long.contains_key(&class);
        let forgotten = if is_new { self.make_room() } else { None };
        self.clock += 1;
        let record = self.long.entry(class).or_default();
        record.balance = (record.balance + 1).min(BALANCE_MAX);
        record.used_at = self.clock;
        forgotten
    }

    fn note_short(&mut self, class: RequestClass) {
        if self.long.is_empty() {
            return;
        }
        if let Some(record) = self.long.get_mut(&class) {
            record.balance -= 1;
            if record.balance == 0 {
                self.long.remove(&class);
            }
        }
    }

    fn make_room(&mut self) -> Option<RequestClass> {
        if self.long.len() < LONG_CLASSES_MAX {
            return None;
        }
        let oldest = self.long.iter().min_by_key(|(_, record)| record.used_at).map(|(class, _)| *class)?;
        self.long.remove(&oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(number: usize) -> RequestClass {
        RequestClass::numbered(number as u64)
    }

    #[test]
    fn one_that_was_long_once_may_be_an_exception() {
        let mut history = ClassHistory::default();
        for is_long in [true, false, true] {
            history.note(class(0), is_long);
            assert!(!history.is_long(class(0)));
        }
        history.note(class(0), true);
        assert!(history.is_long(class(0)));
    }

    #[test]
    fn a_class_that_has_changed_is_soon_known_to_have() {
        let mut history = ClassHistory::default();
        for _ in 0..1000 {
            history.note(class(0), true);
        }
        let until_short = (0..).take_while(|_| {
            history.note(class(0), false);
            history.is_long(class(0))
        });
        assert!(until_short.count() < usize::from(BALANCE_MAX));
    }

    #[test]
    fn what_was_longest_out_of_use_is_forgotten() {
        let mut history = ClassHistory::default();
        for number in 0..LONG_CLASSES_MAX {
            for _ in 0..LONG_FROM {
                assert_eq!(history.note(class(number), true), None);
            }
        }
        assert!(history.is_long(class(0)), "and so it is in use");
        assert_eq!(history.note(class(LONG_CLASSES_MAX), true), Some(class(1)));
        assert_eq!(history.long.len(), LONG_CLASSES_MAX);
        assert!(history.is_long(class(0)) && history.is_long(class(2)) && !history.is_long(class(1)));
    }
}
