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
    key: usize,
    token: Token,
    interest: Interest,
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

    /// A read may succeed, whatever the kernel has reported.
    pub(super) fn set_readable(&self) {
        self.readable.set(true);
    }

    /// Nothing will be reported: all that is left is to end.
    pub(super) fn give_up(&self) {
        self.readable.set(true);
        self.writable.set(true);
        self.peer_ended.set(true);
        self.hung_up.set(true);
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

/// By what the kernel reports a registration: its place, and a number that tells it from others that had this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token {
    generation: u32,
    key: u32,
}

impl Token {
    fn bits(self) -> u64 {
        u64::from(self.generation) << u32::BITS | u64::from(self.key)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    fn from_bits(bits: u64) -> Self {
        Self { generation: (bits >> u32::BITS) as u32, key: bits as u32 }
    }
}

/// All registrations of an executor.
#[derive(Debug)]
pub(super) struct Readiness {
    epoll: Epoll,
    registrations: RefCell<Slab<Rc<Registration>>>,
    /// Tokens given out.
    generation: Cell<u32>,
    events: RefCell<Vec<EpollEvent>>,
}

impl Readiness {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            registrations: RefCell::new(Slab::new()),
            generation: Cell::new(0),
            events: RefCell::new(vec![EpollEvent::EMPTY; EVENTS_PER_WAIT_MAX]),
        })
    }

    /// Has the kernel report on `fd` from now on.
    pub(super) fn register(
        &self,
        fd: BorrowedFd<'_>,
        interest: Interest,
        runnable: &Rc<Cell<bool>>,
    ) -> io::Result<Rc<Registration>> {
        let registration = self.reserve(interest, runnable);
        let watched = self.watch(&registration, fd);
        if watched.is_err() {
            self.forget(&registration);
        }
        watched.map(|()| registration)
    }

    /// A registration that the kernel does not know of yet: see [`Readiness::watch`].
    pub(super) fn reserve(&self, interest: Interest, runnable: &Rc<Cell<bool>>) -> Rc<Registration> {
        let mut registrations = self.registrations.borrow_mut();
        let entry = registrations.vacant_entry();
        let token = self.new_token(entry.key());
        let registration = Rc::new(Registration {
            key: entry.key(),
            token,
            interest,
            readable: Cell::new(false),
            writable: Cell::new(interest == Interest::Both),
            peer_ended: Cell::new(false),
            hung_up: Cell::new(false),
            waker: RefCell::new(None),
            runnable: Rc::clone(runnable),
        });
        entry.insert(Rc::clone(&registration));
        registration
    }

    /// Has the kernel report on `fd`, the descriptor of a reserved registration: first on what is ready already.
    pub(super) fn watch(&self, registration: &Registration, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.epoll.add(fd, registration.token.bits(), registration.interest)
    }

    /// Forgets a registration that the kernel does not know of.
    pub(super) fn forget(&self, registration: &Registration) {
        self.registrations.borrow_mut().try_remove(registration.key);
    }

    /// Ends the watch of `fd`, which is about to be closed, and forgets its registration. Closing would do only for
    /// the last holder: an application thread may hold the descriptor, or a process that the application forked.
    pub(super) fn deregister(&self, registration: &Registration, fd: BorrowedFd<'_>) {
        let _ = self.epoll.remove(fd);
        self.forget(registration);
    }

    /// A token that was never given out, for the registration of that key: news of one that is gone must not be taken
    /// for news of its successor.
    fn new_token(&self, key: usize) -> Token {
        let generation = self.generation.get().wrapping_add(1);
        self.generation.set(generation);
        Token { generation, key: u32::try_from(key).unwrap_or(u32::MAX) }
    }

    /// Waits at most `timeout` and wakes the tasks of everything that became ready. Returns whether anything did.
    pub(super) fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut events = self.events.borrow_mut();
        let found = self.epoll.wait(&mut events, timeout)?;
        let registrations = self.registrations.borrow();
        for event in events.iter().take(found) {
            let token = Token::from_bits(event.token());
            if let Some(registration) = registrations.get(token.key as usize)
                && registration.token == token
            {
                registration.note(*event);
                registration.wake();
            }
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn watched(readiness: &Readiness, socket: &UnixStream) -> Rc<Registration> {
        readiness.register(socket.as_fd(), Interest::Both, &Rc::default()).unwrap()
    }

    #[test]
    fn a_token_survives_the_kernel() {
        let token = Token { generation: u32::MAX - 1, key: 7 };
        assert_eq!(Token::from_bits(token.bits()), token);
    }

    #[test]
    fn news_of_a_registration_that_is_gone_is_not_taken_for_its_successors() {
        let readiness = Readiness::new().unwrap();
        let (first, mut first_peer) = UnixStream::pair().unwrap();
        let registration = watched(&readiness, &first);
        // As a process that was forked by hand would keep it: open, and in the set.
        let _copy = first.try_clone().unwrap();
        readiness.registrations.borrow_mut().remove(registration.key);
        drop(first);
        let (second, _second_peer) = UnixStream::pair().unwrap();
        let successor = watched(&readiness, &second);
        assert_eq!(successor.key, registration.key);
        readiness.wait(Some(Duration::ZERO)).unwrap();
        first_peer.write_all(b"news").unwrap();
        drop(first_peer);
        readiness.wait(Some(Duration::ZERO)).unwrap();
        assert!(!successor.is_readable() && !successor.is_hung_up());
    }

    #[test]
    fn what_is_deregistered_raises_no_more_events_though_a_copy_is_open() {
        let readiness = Readiness::new().unwrap();
        let (socket, mut peer) = UnixStream::pair().unwrap();
        let _copy = socket.try_clone().unwrap();
        let registration = watched(&readiness, &socket);
        readiness.wait(Some(Duration::ZERO)).unwrap();
        readiness.deregister(&registration, socket.as_fd());
        peer.write_all(b"news").unwrap();
        assert!(!readiness.wait(Some(Duration::ZERO)).unwrap());
    }
}
