//! The epoll set of an executor: which descriptors are ready, and whom that concerns.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use slab::Slab;

use crate::sys::epoll::{Epoll, EpollEvent, Interest};

/// Events taken from the kernel in one wait.
const EVENTS_PER_WAIT_MAX: usize = 256;

/// The readiness of one descriptor and the one task that cares.
///
/// Readiness is remembered until a call says `WouldBlock` ([`Registration::clear_readable`]), as edge-triggered
/// epoll demands. Anything else that concerns the task (a deadline, a message) wakes it through the same door.
#[derive(Debug)]
pub struct Registration {
    token: usize,
    readable: Cell<bool>,
    writable: Cell<bool>,
    peer_ended: Cell<bool>,
    hung_up: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// The executor's note that a task can run.
    runnable: Rc<Cell<bool>>,
}

impl Registration {
    /// Whether a read may succeed.
    pub fn is_readable(&self) -> bool {
        self.readable.get()
    }

    /// Whether a write may succeed.
    pub fn is_writable(&self) -> bool {
        self.writable.get()
    }

    /// Whether no byte will follow those that can be read now. Its edge has passed: reading goes on to the end.
    pub fn has_peer_ended(&self) -> bool {
        self.peer_ended.get()
    }

    /// Whether both directions are dead.
    pub fn is_hung_up(&self) -> bool {
        self.hung_up.get()
    }

    /// A read said `WouldBlock`: wait for the next edge.
    pub fn clear_readable(&self) {
        self.readable.set(false);
    }

    /// A write said `WouldBlock`: wait for the next edge.
    pub fn clear_writable(&self) {
        self.writable.set(false);
    }

    /// Runs the task that waits here.
    pub fn wake(&self) {
        self.runnable.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Remembers the task that waits here; it replaces the one before.
    pub fn remember(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        match slot.as_ref() {
            Some(known) if known.will_wake(waker) => {}
            _ => *slot = Some(waker.clone()),
        }
    }
}

/// All registrations of an executor.
#[derive(Debug)]
pub(super) struct Readiness {
    epoll: Epoll,
    registrations: RefCell<Slab<Rc<Registration>>>,
    events: RefCell<Vec<EpollEvent>>,
}

impl Readiness {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            registrations: RefCell::new(Slab::new()),
            events: RefCell::new(vec![EpollEvent::EMPTY; EVENTS_PER_WAIT_MAX]),
        })
    }

    pub(super) fn register(
        &self,
        fd: BorrowedFd<'_>,
        interest: Interest,
        runnable: &Rc<Cell<bool>>,
    ) -> io::Result<Rc<Registration>> {
        let mut registrations = self.registrations.borrow_mut();
        let entry = registrations.vacant_entry();
        let registration = Rc::new(Registration {
            token: entry.key(),
            readable: Cell::new(false),
            writable: Cell::new(interest == Interest::Both),
            peer_ended: Cell::new(false),
            hung_up: Cell::new(false),
            waker: RefCell::new(None),
            runnable: Rc::clone(runnable),
        });
        self.epoll.add(fd, registration.token as u64, interest)?;
        entry.insert(Rc::clone(&registration));
        Ok(registration)
    }

    /// Forgets a registration whose descriptor is about to be closed here. A descriptor that someone else still
    /// holds open, `fd`, must be removed from the epoll set, which closing does only for the last holder.
    pub(super) fn deregister(&self, registration: &Registration, fd: Option<BorrowedFd<'_>>) {
        if let Some(fd) = fd {
            let _ = self.epoll.remove(fd);
        }
        self.registrations.borrow_mut().try_remove(registration.token);
    }

    /// Waits at most `timeout` and wakes the tasks of everything that became ready. Returns whether anything did.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut events = self.events.borrow_mut();
        let found = self.epoll.wait(&mut events, timeout)?;
        let registrations = self.registrations.borrow();
        for event in events.iter().take(found) {
            let Some(registration) =
                usize::try_from(event.token()).ok().and_then(|token| registrations.get(token))
            else {
                continue;
            };
            registration.note(*event);
            registration.wake();
        }
        Ok(found > 0)
    }

    pub(super) fn epoll_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.epoll.as_fd()
    }
}

impl Registration {
    fn note(&self, event: EpollEvent) {
        if event.readable() {
            self.readable.set(true);
        }
        if event.writable() {
            self.writable.set(true);
        }
        if event.peer_ended() {
            self.peer_ended.set(true);
        }
        if event.hung_up() {
            self.hung_up.set(true);
        }
    }
}
