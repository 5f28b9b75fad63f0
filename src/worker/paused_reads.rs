//! Reads paused while the queue is full: the kernel holds the bytes, and TCP holds the senders back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::reactor::Registration;

/// Connections and listeners, the one that has waited longest first.
#[derive(Debug, Default)]
pub(super) struct PausedReads {
    waiting: RefCell<VecDeque<(Rc<Registration>, PausedFlag)>>,
}

/// Whether its owner is paused.
#[derive(Clone, Debug, Default)]
pub(super) struct PausedFlag(Rc<Cell<bool>>);

impl PausedReads {
    /// Whether none is paused.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Pauses the task of `registration`, if it is not paused already.
    pub(super) fn add(&self, registration: &Rc<Registration>, paused: &PausedFlag) {
        if !paused.0.replace(true) {
            self.waiting.borrow_mut().push_back((Rc::clone(registration), paused.clone()));
        }
    }

    /// Resumes the first `count`, which check themselves whether there is room.
    pub(super) fn wake(&self, count: usize) {
        let mut waiting = self.waiting.borrow_mut();
        let count = count.min(waiting.len());
        for (registration, paused) in waiting.drain(..count) {
            paused.0.set(false);
            registration.wake();
        }
    }
}
