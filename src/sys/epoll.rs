//! One epoll instance (epoll(7)) with nanosecond timeouts.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::fork::PrivateFd;

/// A set of file descriptors watched edge-triggered.
#[derive(Debug)]
pub struct Epoll {
    fd: PrivateFd,
}

/// What one wait found: the token of a registration and how it became ready.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct EpollEvent(libc::epoll_event);

impl EpollEvent {
    /// A place for the kernel to fill in.
    pub const EMPTY: Self = Self(libc::epoll_event { events: 0, u64: 0 });

    /// The token given to [`Epoll::add`].
    pub fn token(self) -> u64 {
        self.0.u64
    }

    /// Bytes, a connection or an end of file can be read.
    pub fn readable(self) -> bool {
        self.has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// The send buffer has room again.
    pub fn writable(self) -> bool {
        self.has(libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// No byte will follow those that can be read: the peer ended its direction, or both are dead.
    pub fn peer_ended(self) -> bool {
        self.has(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR)
    }

    /// Both directions are dead: the peer reset the connection, or closed it after we shut down.
    pub fn hung_up(self) -> bool {
        self.has(libc::EPOLLHUP | libc::EPOLLERR)
    }

    fn has(self, mask: libc::c_int) -> bool {
        self.0.events & mask.cast_unsigned() != 0
    }
}

/// What to watch a descriptor for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Input only: listeners and event counters.
    Input,
    /// Input, output and the peer's half-close: connections.
    Both,
}

impl Epoll {
    /// Makes an empty set, closed on exec.
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory run out.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor and it has no other owner.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }.into() })
    }

    /// Watches `fd`, edge-triggered, and reports it as `token` until [`Epoll::remove`]. Closing the descriptor ends the
    /// watch only if no other process holds a copy of it.
    ///
    /// # Errors
    /// The kernel's: watched already, not pollable, or too many watches.
    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mask = match interest {
            Interest::Input => libc::EPOLLIN | libc::EPOLLET,
            Interest::Both => libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET,
        };
        let mut event = libc::epoll_event { events: mask.cast_unsigned(), u64: token };
        self.control(libc::EPOLL_CTL_ADD, fd, &raw mut event)
    }

    /// Stops watching `fd`.
    ///
    /// # Errors
    /// The kernel's, when `fd` is not watched.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut())
    }

    fn raw(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }

    fn control(
        &self,
        operation: libc::c_int,
        fd: BorrowedFd<'_>,
        event: *mut libc::epoll_event,
    ) -> io::Result<()> {
        // SAFETY: `event` is null (for DEL, which ignores it) or points to a live value of the caller.
        let result = unsafe { libc::epoll_ctl(self.raw(), operation, fd.as_raw_fd(), event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Fills `events` with what is ready, waiting at most `timeout` (`None`: for ever), and returns how many.
    /// A signal ends the wait early with none.
    ///
    /// # Errors
    /// The kernel's; none is expected on a valid set.
    pub fn wait(&self, events: &mut [EpollEvent], timeout: Option<Duration>) -> io::Result<usize> {
        let limit = i32::try_from(events.len()).unwrap_or(i32::MAX);
        let list = events.as_mut_ptr().cast::<libc::epoll_event>();
        let found = match timeout {
            // SAFETY: `list` points to at least `limit` events, which the kernel may overwrite; EpollEvent
            // is a transparent wrapper of the kernel's.
            None => unsafe { libc::epoll_wait(self.raw(), list, limit, -1) },
            Some(Duration::ZERO) => {
                // SAFETY: as above.
                unsafe { libc::epoll_wait(self.raw(), list, limit, 0) }
            }
            Some(timeout) => self.wait_precisely(list, limit, timeout),
        };
        match usize::try_from(found) {
            Ok(found) => Ok(found),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    fn wait_precisely(&self, list: *mut libc::epoll_event, limit: i32, timeout: Duration) -> i32 {
        let pause = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos().cast_signed()),
        };
        // SAFETY: `list` holds `limit` events, `pause` outlives the call, and no signal mask is given.
        let found = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.raw(),
                list,
                limit,
                &raw const pause,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        if found < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
            // Before Linux 5.11: whole milliseconds, rounded up so that a deadline has passed on return.
            let timeout_ms = i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
            // SAFETY: as above.
            return unsafe { libc::epoll_wait(self.raw(), list, limit, timeout_ms) };
        }
        i32::try_from(found).unwrap_or(-1)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
