//! Non-blocking socket calls: accept, receive, send, sendfile. None ever blocks, whatever the socket's mode.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::socket::{self, MsgFlags, Shutdown, SockaddrLike, SockaddrStorage, sockopt};

use super::open_files;

/// Takes the next connection from a listener's queue, closed on exec and non-blocking, with the peer's address
/// (`None` for a unix socket). It takes none of the numbers that the application may need.
///
/// # Errors
/// `WouldBlock` when none is waiting; otherwise the kernel's (accept4(2)).
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (connection, peer) = open_files::beyond_limit(|| accept_with_any_number(listener))?;
    Ok((open_files::make_way(connection), peer))
}

fn accept_with_any_number(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    // SAFETY: an all-zero sockaddr_storage is a valid value of the type.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = SOCKADDR_STORAGE_BYTES;
    // SAFETY: `address` has room for `length` bytes, and both outlive the call.
    let fd = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut length,
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and it has no other owner.
    let connection = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the kernel filled in `length` bytes of an address of the family it names.
    let peer = unsafe { SockaddrStorage::from_raw((&raw const address).cast(), Some(length)) };
    Ok((connection, peer.as_ref().and_then(internet_address)))
}

#[expect(clippy::cast_possible_truncation, reason = "128 bytes")]
const SOCKADDR_STORAGE_BYTES: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

/// The local address of a socket, `None` for a unix socket.
pub fn local_address(socket: BorrowedFd<'_>) -> Option<SocketAddr> {
    internet_address(&socket::getsockname::<SockaddrStorage>(socket.as_raw_fd()).ok()?)
}

fn internet_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(IpAddr::V4(v4.ip()), v4.port()));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddr::new(IpAddr::V6(v6.ip()), v6.port()))
}

/// Sends small segments at once instead of waiting for an acknowledgement (`TCP_NODELAY`, RFC 9293 section 3.7.4).
pub fn set_nodelay(socket: BorrowedFd<'_>) {
    // A unix socket has no such option, and a TCP socket without it is merely slower.
    let _ = socket::setsockopt(&socket, sockopt::TcpNoDelay, &true);
}

/// Receives what is there, at most `buffer.len()` bytes; 0 is the peer's end of file.
///
/// # Errors
/// `WouldBlock` when nothing is there; otherwise the kernel's (recv(2)).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| socket::recv(socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT))
}

/// Sends as much of `bytes` as the send buffer takes.
///
/// # Errors
/// `WouldBlock` when it takes nothing; otherwise the kernel's (send(2)). Never raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    retry(|| socket::send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL))
}

/// As [`send`], from several buffers in one call.
///
/// # Errors
/// As [`send`].
pub fn send_vectored(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    retry(|| socket::sendmsg::<()>(socket.as_raw_fd(), parts, &[], flags, None))
}

/// As [`send`], but the last segment waits, for a fifth of a second at most, to be completed by what follows
/// (`MSG_MORE`, send(2)).
///
/// # Errors
/// As [`send`].
pub fn send_held_back(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let more = MsgFlags::from_bits_retain(libc::MSG_MORE);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | more;
    retry(|| socket::send(socket.as_raw_fd(), bytes, flags))
}

/// Sends up to `count` bytes of `file` from `offset`, which it advances (sendfile(2)); 0 is the file's end.
///
/// # Errors
/// `WouldBlock` when the send buffer takes nothing (the socket must be non-blocking); otherwise the kernel's.
pub fn send_file(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: &mut i64,
    count: usize,
) -> io::Result<usize> {
    retry(|| nix::sys::sendfile::sendfile64(socket, file, Some(offset), count))
}

/// Bytes in the send buffer that the peer has not acknowledged (`SIOCOUTQ`, tcp(7)); 0 when that is not known.
pub fn queued_bytes(socket: BorrowedFd<'_>) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int, which `bytes` is.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if asked == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Whether bytes wait to be read (`SIOCINQ`, tcp(7) and unix(7)); false when that is not known.
pub fn has_input(socket: BorrowedFd<'_>) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int, which `bytes` is.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    asked == 0 && bytes > 0
}

/// Ends our sending direction: the peer reads an end of file.
pub fn shut_down_write(socket: BorrowedFd<'_>) {
    // A peer that is gone already needs no goodbye.
    let _ = socket::shutdown(socket.as_raw_fd(), Shutdown::Write);
}

/// Ends both directions, even if others hold the socket open: the peer reads an end of file after what was sent, and is
/// refused whatever it sends from now on.
pub fn shut_down(socket: BorrowedFd<'_>) {
    // A connection that is broken has ended already.
    let _ = socket::shutdown(socket.as_raw_fd(), Shutdown::Both);
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn connected(prepare: impl Fn(&TcpListener)) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        prepare(&listener);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, client)
    }

    #[test]
    fn connections_inherit_nodelay() {
        assert!(!connected(|_| {}).0.nodelay().unwrap());
        assert!(connected(|listener| set_nodelay(listener.as_fd())).0.nodelay().unwrap());
    }

    #[test]
    fn what_is_held_back_goes_with_the_end_though_the_socket_stays_open() {
        let (server, mut client) = connected(|_| {});
        assert_eq!(send_held_back(server.as_fd(), b"last words").unwrap(), 10);
        shut_down_write(server.as_fd());
        let mut heard = String::new();
        client.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "last words");
    }
}
