//! Listening sockets, made once and kept for as long as the server lives.

use std::fmt;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::sockopt::{AcceptConn, Ipv6V6Only, ReuseAddr, SockType as TypeOfSocket, TcpNoDelay};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind,
    getsockname, getsockopt, listen, setsockopt, shutdown, socket,
};

use super::process;

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket.
    Path(PathBuf),
    /// The name of a unix socket in the abstract namespace.
    Abstract(String),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "http://{address}"),
            Self::Path(path) => write!(formatter, "unix:{}", path.display()),
            Self::Abstract(name) => write!(formatter, "unix:@{name}"),
        }
    }
}

/// Why a descriptor cannot be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Nothing is open under that number.
    Closed,
    /// It is no socket.
    NotASocket,
    /// It is a socket for datagrams.
    NotAStream,
    /// It is a connection, or a socket that is not listened on yet.
    NotListening,
    /// It is neither TCP nor a unix socket.
    Family,
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Closed => "it is not open",
            Self::NotASocket => "it is not a socket",
            Self::NotAStream => "it is a socket for datagrams, not a stream",
            Self::NotListening => "it is a connection, or listen(2) was not called on it",
            Self::Family => "it is neither a TCP nor a unix socket",
        })
    }
}

/// Binds `address` and listens on it.
///
/// The socket is close-on-exec, and non-blocking for ever: the flag belongs to the open file description that all
/// workers share, and one that cleared it would leave its siblings asleep in accept. Accepted connections inherit
/// `TCP_NODELAY`, which saves a call for each.
///
/// # Errors
/// The operating system's: the address is in use, not ours, or not permitted.
pub fn listen_tcp(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    // A restart must not wait for the connections of the last run to leave TIME_WAIT.
    setsockopt(&fd, ReuseAddr, &true)?;
    setsockopt(&fd, TcpNoDelay, &true)?;
    if address.is_ipv6() {
        // `[::]` and `0.0.0.0` can then both be bound, whatever net.ipv6.bindv6only says.
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(backlog)?)?;
    Ok(fd)
}

/// Takes over a listening socket that this process was started with, non-blocking and close-on-exec from now on.
///
/// The caller vouches for the number, as for [`process::adopt`].
///
/// # Errors
/// See [`Unfit`].
pub fn adopt(fd: RawFd) -> Result<OwnedFd, Unfit> {
    let fd = process::adopt(fd).map_err(|_| Unfit::Closed)?;
    match getsockopt(&fd, TypeOfSocket) {
        Ok(SockType::Stream) => {}
        Err(Errno::ENOTSOCK) => return Err(Unfit::NotASocket),
        _ => return Err(Unfit::NotAStream),
    }
    if !getsockopt(&fd, AcceptConn).unwrap_or(false) {
        return Err(Unfit::NotListening);
    }
    if let Address::Tcp(_) = local_address(&fd).map_err(|_| Unfit::Family)? {
        // What its connections will inherit; without it they are merely slower.
        let _ = setsockopt(&fd, TcpNoDelay, &true);
    }
    set_nonblocking(fd.as_fd()).map_err(|_| Unfit::Closed)?;
    Ok(fd)
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Lets nobody in any more, while those who wait already can still be accepted.
///
/// Closing a socket resets who waits there, and between the last accept and the end somebody may come. So a TCP socket
/// first drops the segments that open a connection (`SO_ATTACH_FILTER`, socket(7)): their senders repeat them a second
/// later, and are refused. A unix socket refuses at once.
///
/// # Errors
/// The operating system's; then the socket goes on as before.
pub fn admit_nobody(fd: &impl AsFd) -> io::Result<()> {
    let fd = fd.as_fd();
    match local_address(&fd)? {
        Address::Tcp(_) => drop_new_connections(fd),
        Address::Path(_) | Address::Abstract(_) => Ok(shutdown(fd.as_raw_fd(), Shutdown::Read)?),
    }
}

/// Attaches a filter for which a packet begins with the TCP header: whatever has SYN in the fourteenth byte is dropped.
fn drop_new_connections(fd: BorrowedFd<'_>) -> io::Result<()> {
    const SYN: u32 = 0x02;
    let mut steps = [
        filter_step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
        filter_step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, SYN),
        filter_step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        filter_step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog { len: FILTER_STEPS, filter: steps.as_mut_ptr() };
    // SAFETY: the kernel copies the program, and the steps it points to, during the call.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            SOCK_FPROG_BYTES,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const FILTER_STEPS: u16 = 4;
#[expect(clippy::cast_possible_truncation, reason = "16 bytes")]
const SOCK_FPROG_BYTES: libc::socklen_t = size_of::<libc::sock_fprog>() as libc::socklen_t;

#[expect(clippy::cast_possible_truncation, reason = "codes have 16 bits in the kernel's struct")]
fn filter_step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Refuses whoever connects from now on, whatever processes have copies of the socket. Who waits there is reset.
pub fn refuse(fd: &impl AsFd) {
    // One that is refusing already is as it should be.
    let _ = shutdown(fd.as_fd().as_raw_fd(), Shutdown::Read);
}

/// The address a socket is bound to: with port 0, this is where the kernel's choice shows.
///
/// # Errors
/// `AddrNotAvailable` for a socket that is neither TCP nor unix, or has no name.
pub fn local_address(fd: &impl AsFd) -> io::Result<Address> {
    let address: SockaddrStorage = getsockname(fd.as_fd().as_raw_fd())?;
    if let Some(unix) = address.as_unix_addr() {
        let path = unix.path().map(|path| Address::Path(Path::to_owned(path)));
        let name =
            || unix.as_abstract().map(|name| Address::Abstract(String::from_utf8_lossy(name).into_owned()));
        return path.or_else(name).ok_or(io::ErrorKind::AddrNotAvailable.into());
    }
    let v4 =
        address.as_sockaddr_in().map(|address: &SockaddrIn| SocketAddr::V4(SocketAddrV4::from(*address)));
    let v6 = || {
        address.as_sockaddr_in6().map(|address: &SockaddrIn6| SocketAddr::V6(SocketAddrV6::from(*address)))
    };
    v4.or_else(v6).map(Address::Tcp).ok_or(io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixListener;

    use nix::fcntl::FdFlag;

    use super::*;

    fn tcp_address(fd: &OwnedFd) -> SocketAddr {
        let Address::Tcp(address) = local_address(fd).unwrap() else { panic!("not TCP") };
        address
    }

    fn assert_never_blocks_and_is_not_inherited(fd: &OwnedFd) {
        assert!(OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap()).contains(OFlag::O_NONBLOCK));
        assert!(FdFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFD).unwrap()).contains(FdFlag::FD_CLOEXEC));
    }

    #[test]
    fn a_listener_accepts_never_blocks_and_is_not_inherited() {
        let fd = listen_tcp("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let address = tcp_address(&fd);
        assert_ne!(address.port(), 0);
        TcpStream::connect(address).unwrap();
        assert_never_blocks_and_is_not_inherited(&fd);
    }

    #[test]
    fn a_socket_that_was_handed_over_is_as_good_as_our_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(tcp.local_addr().unwrap());
        let unix = UnixListener::bind(&path).unwrap();
        for (handed, address) in [(tcp.into_raw_fd(), address), (unix.into_raw_fd(), Address::Path(path))] {
            let fd = adopt(handed).unwrap();
            assert_eq!(local_address(&fd).unwrap(), address);
            assert_never_blocks_and_is_not_inherited(&fd);
        }
    }

    #[test]
    fn what_cannot_be_listened_on_is_told_apart() {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        for (fd, unfit) in [
            (1_000_000, Unfit::Closed),
            (udp.into_raw_fd(), Unfit::NotAStream),
            (connection.into_raw_fd(), Unfit::NotListening),
            (file.into_raw_fd(), Unfit::NotASocket),
        ] {
            assert_eq!(adopt(fd).unwrap_err(), unfit);
        }
    }

    #[test]
    fn an_address_in_use_is_refused() {
        let fd = listen_tcp("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let error = listen_tcp(tcp_address(&fd), 8).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn who_waits_is_accepted_after_nobody_is_admitted_and_then_everybody_refused() {
        let fd = listen_tcp("127.0.0.1:0".parse().unwrap(), 8).unwrap();
        let address = tcp_address(&fd);
        let _waiting = TcpStream::connect(address).unwrap();
        admit_nobody(&fd).unwrap();
        let late = std::thread::spawn(move || TcpStream::connect(address));
        super::super::socket::accept(fd.as_fd()).unwrap();
        let copy = fd.try_clone().unwrap();
        refuse(&fd);
        drop(fd);
        // Before or after the first try: it is told so, though a copy is open.
        assert_eq!(late.join().unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        let gone = super::super::socket::accept(copy.as_fd()).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_unix_socket_refuses_at_once_and_keeps_who_waits() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        admit_nobody(&listener).unwrap();
        let refused = std::os::unix::net::UnixStream::connect(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        super::super::socket::accept(listener.as_fd()).unwrap();
        let gone = super::super::socket::accept(listener.as_fd()).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn both_families_can_hold_the_same_port() {
        let Ok(v6) = listen_tcp("[::]:0".parse().unwrap(), 8) else { return };
        let port = tcp_address(&v6).port();
        listen_tcp(SocketAddr::from(([0, 0, 0, 0], port)), 8).unwrap();
    }
}
