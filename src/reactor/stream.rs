//! Connections and listeners as tasks see them. A transport is an enum arm here, nothing elsewhere.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Reactor, Registration};
use crate::sys::epoll::Interest;
use crate::sys::fork::PrivateFd;
use crate::sys::{open_files, socket};

/// A listening socket that every worker shares: it is the supervisor's, non-blocking for ever.
#[derive(Debug)]
pub struct Listener {
    fd: Arc<PrivateFd>,
    local: Option<SocketAddr>,
    registration: Rc<Registration>,
    reactor: Reactor,
}

/// A connection that was just accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection, not watched yet.
    pub fd: OwnedFd,
    /// The peer's address; `None` for a unix socket.
    pub peer: Option<SocketAddr>,
    /// The address the peer connected to; `None` for a unix socket.
    pub local: Option<SocketAddr>,
}

impl Listener {
    /// Watches an inherited listening socket.
    ///
    /// # Errors
    /// The kernel's, when it cannot be watched.
    pub fn new(reactor: &Reactor, fd: Arc<PrivateFd>) -> io::Result<Self> {
        let registration = reactor.register(fd.as_fd(), Interest::Input)?;
        // Connections inherit it.
        socket::set_nodelay(fd.as_fd());
        let local = socket::local_address(fd.as_fd());
        Ok(Self { fd, local, registration, reactor: reactor.clone() })
    }

    /// The readiness of this listener, and the way to wake its task.
    pub fn registration(&self) -> &Rc<Registration> {
        &self.registration
    }

    /// Whether it is a unix socket.
    pub fn is_unix(&self) -> bool {
        self.local.is_none()
    }

    /// Where a connection arrived: the listener's own address, unless that is every address of the machine.
    fn local_of(&self, connection: &OwnedFd) -> Option<SocketAddr> {
        match self.local {
            Some(address) if address.ip().is_unspecified() => socket::local_address(connection.as_fd()),
            known => known,
        }
    }

    /// Takes the next connection, `None` when none is waiting.
    ///
    /// # Errors
    /// The kernel's, for example when descriptors run out; a connection that was reset while it waited is skipped.
    pub fn accept(&self) -> io::Result<Option<Accepted>> {
        loop {
            match socket::accept(self.fd.as_fd()) {
                Ok((fd, peer)) => {
                    let local = self.local_of(&fd);
                    return Ok(Some(Accepted { fd, peer, local }));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.registration.clear_readable();
                    return Ok(None);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.reactor.deregister(&self.registration, self.fd.as_fd());
    }
}

/// A connection: non-blocking reads and writes, and the readiness to try them again.
#[derive(Debug)]
pub struct Stream {
    socket: Arc<Socket>,
    registration: Rc<Registration>,
    watch: Cell<Watch>,
    written_bytes: Cell<u64>,
    reactor: Reactor,
}

/// A connection's descriptor, as this executor and an application thread share it.
#[derive(Debug)]
struct Socket {
    fd: PrivateFd,
    /// Whether the peer has been told that nothing more will come. Only spares a call, so any order will do.
    has_ended: AtomicBool,
}

impl Socket {
    fn shut_down_write(&self) {
        self.has_ended.store(true, Ordering::Relaxed);
        socket::shut_down_write(self.fd.as_fd());
    }

    /// See [`Stream::try_write_last`].
    fn send_last(&self, bytes: &[u8]) -> io::Result<usize> {
        let sent = socket::send_held_back(self.fd.as_fd(), bytes)?;
        if sent == bytes.len() {
            self.shut_down_write();
        }
        Ok(sent)
    }
}

/// What the kernel tells us of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    /// Nothing yet.
    NotYet,
    /// Its readiness.
    On,
    /// Nothing any more: somebody else reads and writes.
    GivenAway,
}

impl Stream {
    /// An accepted connection, which is not watched yet: what can be read and answered at once costs no call for that.
    /// It counts as readable until a read says otherwise.
    pub fn new(reactor: &Reactor, accepted: Accepted) -> Self {
        let fd = PrivateFd::new(accepted.fd);
        let socket = Arc::new(Socket { fd, has_ended: AtomicBool::new(false) });
        let registration = reactor.reserve(Interest::Both);
        registration.set_readable();
        let (watch, written_bytes) = (Cell::new(Watch::NotYet), Cell::new(0));
        Self { socket, registration, watch, written_bytes, reactor: reactor.clone() }
    }

    /// Watches the connection, if it is not watched yet. Needed before waiting for its peer. One that cannot be
    /// watched, as memory or the number of watches is exhausted, is ended, and its peer reads so.
    pub fn watch(&self) {
        if self.watch.get() != Watch::NotYet {
            return;
        }
        self.watch.set(Watch::On);
        if let Err(error) = self.reactor.watch(&self.registration, self.socket.fd.as_fd()) {
            tracing::warn!(%error, "cannot watch a connection; it is closed");
            self.shut_down();
            self.registration.give_up();
            self.registration.wake();
        }
    }

    /// Whether the peer's doings are reported.
    pub fn is_watched(&self) -> bool {
        self.watch.get() == Watch::On
    }

    /// Ends the watch, for good: somebody else reads and writes from now on.
    pub fn unwatch(&mut self) {
        self.end_watch();
        self.watch.set(Watch::GivenAway);
    }

    fn end_watch(&self) {
        match self.watch.get() {
            Watch::NotYet => self.reactor.forget(&self.registration),
            Watch::On => self.reactor.deregister(&self.registration, self.socket.fd.as_fd()),
            Watch::GivenAway => {}
        }
    }

    /// Whether bytes, or an end of file, wait to be read; of a connection that is not watched the kernel is asked.
    pub fn has_input(&self) -> bool {
        if self.watch.get() == Watch::NotYet && socket::has_input(self.socket.fd.as_fd()) {
            self.registration.set_readable();
        }
        self.registration.is_readable()
    }

    /// An end for another thread to send through, while this executor does not.
    pub fn sender(&self) -> Sender {
        Sender(Arc::clone(&self.socket))
    }

    /// The readiness of this connection, and the way to wake its task.
    pub fn registration(&self) -> &Rc<Registration> {
        &self.registration
    }

    /// Reads what is there, `None` when that is nothing yet; 0 is the peer's end of file.
    ///
    /// # Errors
    /// The kernel's, when the connection is broken.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.registration.is_readable() {
            return Ok(None);
        }
        match socket::receive(self.socket.fd.as_fd(), buffer) {
            // A short read emptied the socket: the next bytes raise a new edge, which saves a call that says
            // `WouldBlock`. An end of file that came with these bytes raises none.
            Ok(count) => {
                if count < buffer.len() && !self.registration.has_peer_ended() {
                    self.registration.clear_readable();
                }
                Ok(Some(count))
            }
            Err(error) => would_block(error, || self.registration.clear_readable()),
        }
    }

    /// Writes as much as the send buffer takes, `None` when that is nothing.
    ///
    /// # Errors
    /// The kernel's, when the connection is broken.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let sent = socket::send(self.socket.fd.as_fd(), bytes);
        self.written(sent)
    }

    /// As [`Stream::try_write`], from two buffers in one call.
    ///
    /// # Errors
    /// As [`Stream::try_write`].
    pub fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<Option<usize>> {
        let sent =
            socket::send_vectored(self.socket.fd.as_fd(), &[IoSlice::new(first), IoSlice::new(second)]);
        self.written(sent)
    }

    /// As [`Stream::try_write`], for our last words: if the send buffer takes them all, the peer is told so by the same
    /// packet ([`Stream::shut_down_write`]), which spares both sides another.
    ///
    /// # Errors
    /// As [`Stream::try_write`].
    pub fn try_write_last(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let sent = self.socket.send_last(bytes);
        self.written(sent)
    }

    /// Writes up to `count` bytes of `file` from `offset`, which it advances; `Some(0)` is the file's end.
    ///
    /// # Errors
    /// As [`Stream::try_write`].
    pub fn try_write_file(
        &self,
        file: BorrowedFd<'_>,
        offset: &mut i64,
        count: usize,
    ) -> io::Result<Option<usize>> {
        let sent = socket::send_file(self.socket.fd.as_fd(), file, offset, count);
        self.written(sent)
    }

    fn written(&self, sent: io::Result<usize>) -> io::Result<Option<usize>> {
        if let Ok(count) = sent {
            self.written_bytes.set(self.written_bytes.get() + count as u64);
        }
        sent.map(Some).or_else(|error| would_block(error, || self.registration.clear_writable()))
    }

    /// Bytes written here so far, those of a [`Sender`] not among them.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.get()
    }

    /// Bytes written that the peer has not taken yet.
    pub fn queued_bytes(&self) -> usize {
        socket::queued_bytes(self.socket.fd.as_fd())
    }

    /// Ends the connection in both directions, for everybody who holds it.
    pub fn shut_down(&self) {
        socket::shut_down(self.socket.fd.as_fd());
    }

    /// Tells the peer that nothing more will come.
    pub fn shut_down_write(&self) {
        self.socket.shut_down_write();
    }
}

fn would_block(error: io::Error, clear: impl FnOnce()) -> io::Result<Option<usize>> {
    if error.kind() == io::ErrorKind::WouldBlock {
        clear();
        return Ok(None);
    }
    Err(error)
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end_watch();
        if self.watch.get() == Watch::GivenAway || self.socket.has_ended.load(Ordering::Relaxed) {
            return;
        }
        // A process that the application forked may hold a copy: what ends the connection is this, not the close.
        socket::shut_down(self.socket.fd.as_fd());
    }
}

/// See [`Stream::sender`]. Keeps the connection open.
#[derive(Clone, Debug)]
pub struct Sender(Arc<Socket>);

impl Sender {
    /// Sends what the socket takes without waiting, and returns how many bytes that was; 0 also when it is broken,
    /// which the executor will find.
    pub fn send(&self, bytes: &[u8]) -> usize {
        socket::send(self.0.fd.as_fd(), bytes).unwrap_or(0)
    }

    /// Another descriptor of the connection.
    ///
    /// # Errors
    /// The kernel's, when there are no more.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        open_files::duplicate(self.0.fd.as_fd())
    }

    /// As [`Sender::send`], for our last words: see [`Stream::try_write_last`].
    pub fn send_last(&self, bytes: &[u8]) -> usize {
        self.0.send_last(bytes).unwrap_or(0)
    }
}
