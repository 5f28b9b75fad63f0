//! Who waits unread for room in the queue: the kernel holds their bytes, and TCP holds back who sends more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::reactor::Registration;

/// Connections and listeners, the one that has waited longest first.
#[derive(Debug, Default)]
pub(super) struct PausedReads {
    waiting: RefCell<VecDeque<(Rc<Registration>, PausedFlag)>>,
}

/// Whether its owner is among those that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct PausedFlag(Rc<Cell<bool>>);

impl PausedReads {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Has the task of `registration` wait, if it does not already.
    pub(super) fn add(&self, registration: &Rc<Registration>, paused: &PausedFlag) {
        if !paused.0.replace(true) {
            self.waiting.borrow_mut().push_back((Rc::clone(registration), paused.clone()));
        }
    }

    /// Wakes the first `count`, who look for themselves whether there is room.
    pub(super) fn wake(&self, count: usize) {
        let mut waiting = self.waiting.borrow_mut();
        let count = count.min(waiting.len());
        for (registration, paused) in waiting.drain(..count) {
            paused.0.set(false);
            registration.wake();
        }
    }
}
