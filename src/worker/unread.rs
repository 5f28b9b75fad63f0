//! Who waits unread for room in the queue: the kernel holds their bytes, and TCP holds back who sends more.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::reactor::Registration;

/// Connections and listeners, the one that has waited longest first.
#[derive(Debug, Default)]
pub(super) struct Unread {
    waiting: RefCell<VecDeque<(Rc<Registration>, Ticket)>>,
}

/// Whether its owner is among those that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Ticket(Rc<Cell<bool>>);

impl Unread {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Has the task of `registration` wait, if it does not already.
    pub(super) fn add(&self, registration: &Rc<Registration>, ticket: &Ticket) {
        if !ticket.0.replace(true) {
            self.waiting.borrow_mut().push_back((Rc::clone(registration), ticket.clone()));
        }
    }

    /// Wakes the first `count`, who look for themselves whether there is room.
    pub(super) fn wake(&self, count: usize) {
        let mut waiting = self.waiting.borrow_mut();
        let count = count.min(waiting.len());
        for (registration, ticket) in waiting.drain(..count) {
            ticket.0.set(false);
            registration.wake();
        }
    }
}
