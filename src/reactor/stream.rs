//! Connections and listeners as tasks see them. A transport is an enum arm here, nothing elsewhere.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use super::{Reactor, Registration};
use crate::sys::epoll::Interest;
use crate::sys::fork::PrivateFd;
use crate::sys::socket;

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

    /// Where a connection arrived: the listener's own address, unless that is every address of the machine.
    fn local_of(&self, connection: &OwnedFd) -> Option<SocketAddr> {
        match self.local {
            Some(address) if address.ip().is_unspecified() => socket::local_address(connection.as_fd()),
            known => known,
        }
    }

    /// Takes the next connection, `None` when nobody waits any more.
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
    fd: Arc<PrivateFd>,
    registration: Rc<Registration>,
    is_watched: bool,
    reactor: Reactor,
}

impl Stream {
    /// Watches an accepted connection.
    ///
    /// # Errors
    /// The kernel's, when it cannot be watched.
    pub fn new(reactor: &Reactor, accepted: Accepted) -> io::Result<Self> {
        let fd = Arc::new(PrivateFd::new(accepted.fd));
        let registration = reactor.register(fd.as_fd(), Interest::Both)?;
        Ok(Self { fd, registration, is_watched: true, reactor: reactor.clone() })
    }

    /// Ends the watch, for good: somebody else reads and writes from now on.
    pub fn unwatch(&mut self) {
        if std::mem::take(&mut self.is_watched) {
            self.reactor.deregister(&self.registration, self.fd.as_fd());
        }
    }

    /// An end for another thread to send through, while this executor does not.
    pub fn sender(&self) -> Sender {
        Sender(Arc::clone(&self.fd))
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
        match socket::receive(self.fd.as_fd(), buffer) {
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
        let sent = socket::send(self.fd.as_fd(), bytes);
        self.written(sent)
    }

    /// As [`Stream::try_write`], from two buffers in one call.
    ///
    /// # Errors
    /// As [`Stream::try_write`].
    pub fn try_write_both(&self, first: &[u8], second: &[u8]) -> io::Result<Option<usize>> {
        let sent = socket::send_vectored(self.fd.as_fd(), &[IoSlice::new(first), IoSlice::new(second)]);
        self.written(sent)
    }

    /// As [`Stream::try_write`], for our last words: if the send buffer takes them all, the peer is told so by the same
    /// packet ([`Stream::shut_down_write`]), which spares both sides another.
    ///
    /// # Errors
    /// As [`Stream::try_write`].
    pub fn try_write_last(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let sent = send_last(self.fd.as_fd(), bytes);
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
        let sent = socket::send_file(self.fd.as_fd(), file, offset, count);
        self.written(sent)
    }

    fn written(&self, sent: io::Result<usize>) -> io::Result<Option<usize>> {
        sent.map(Some).or_else(|error| would_block(error, || self.registration.clear_writable()))
    }

    /// Bytes written that the peer has not taken yet.
    pub fn queued_bytes(&self) -> usize {
        socket::queued_bytes(self.fd.as_fd())
    }

    /// Ends the connection in both directions, for everybody who holds it.
    pub fn shut_down(&self) {
        socket::shut_down(self.fd.as_fd());
    }

    /// Tells the peer that nothing more will come.
    pub fn shut_down_write(&self) {
        socket::shut_down_write(self.fd.as_fd());
    }
}

/// See [`Stream::try_write_last`].
fn send_last(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let sent = socket::send_held_back(socket, bytes)?;
    if sent == bytes.len() {
        socket::shut_down_write(socket);
    }
    Ok(sent)
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
        if !self.is_watched {
            return;
        }
        self.reactor.deregister(&self.registration, self.fd.as_fd());
        // A process that the application forked may hold a copy: what ends the connection is this, not the close.
        socket::shut_down(self.fd.as_fd());
    }
}

/// See [`Stream::sender`]. Keeps the connection open.
#[derive(Clone, Debug)]
pub struct Sender(Arc<PrivateFd>);

impl Sender {
    /// Sends what the socket takes without waiting, and returns how many bytes that was; 0 also when it is broken,
    /// which the executor will find.
    pub fn send(&self, bytes: &[u8]) -> usize {
        socket::send(self.0.as_fd(), bytes).unwrap_or(0)
    }

    /// Another descriptor of the connection.
    ///
    /// # Errors
    /// The kernel's, when there are no more.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    /// As [`Sender::send`], for our last words: see [`Stream::try_write_last`].
    pub fn send_last(&self, bytes: &[u8]) -> usize {
        send_last(self.0.as_fd(), bytes).unwrap_or(0)
    }
}
