//! What an executor waits and writes files with, and what of it this system allows.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// With what an executor runs its tasks. Sockets are watched by epoll in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventLoop {
    /// [`Self::IoUring`] where that can be had, else [`Self::Epoll`].
    Auto,
    /// glommio's executor, which writes files through `io_uring`.
    IoUring,
    /// A queue of tasks of our own; files are written by helper threads.
    Epoll,
}

/// The size of `struct io_uring_params` (`linux/io_uring.h`), of which the kernel fills what it knows.
const PARAMETERS_BYTES: usize = 120;
const ENTRIES: libc::c_uint = 2;

/// `IORING_REGISTER_PROBE` and `IO_URING_OP_SUPPORTED` of `linux/io_uring.h`.
const REGISTER_PROBE: libc::c_uint = 8;
const OPERATION_SUPPORTED: u16 = 1;
/// Operations that a probe can tell of.
const OPERATIONS_MAX: usize = 64;
/// What glommio 0.9 looks for when it starts, and ends the process without: NOP, READV, WRITEV, FSYNC, `READ_FIXED`,
/// `WRITE_FIXED`, `POLL_ADD`, `POLL_REMOVE`, SENDMSG, RECVMSG, TIMEOUT, `TIMEOUT_REMOVE`, ACCEPT, `LINK_TIMEOUT`,
/// CONNECT, FALLOCATE, OPENAT, CLOSE, STATX, READ, WRITE, SEND, RECV, by their numbers in the kernel.
const OPERATIONS_NEEDED: [usize; 23] =
    [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 21, 22, 23, 26, 27];

/// One operation of `struct io_uring_probe`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct ProbedOperation {
    operation: u8,
    reserved: u8,
    flags: u16,
    reserved_too: u32,
}

/// `struct io_uring_probe`.
#[repr(C)]
struct Probe {
    last_operation: u8,
    operations_count: u8,
    reserved: [u16; 7],
    operations: [ProbedOperation; OPERATIONS_MAX],
}

/// Whether this process may use `io_uring`, and the kernel knows all that is needed of it: sets up a small ring, asks
/// it, and closes it again. glommio ends or panics where that fails.
///
/// # Errors
/// The operating system's: `EPERM` (seccomp or sysctl), `ENOSYS` (kernel or seccomp), `ENOMEM` (memlock), `EINVAL`;
/// `Unsupported` for an operation that is missing.
pub fn probe_io_uring() -> io::Result<()> {
    let mut parameters = [0_u64; PARAMETERS_BYTES / size_of::<u64>()];
    // SAFETY: the kernel reads and writes one zeroed `io_uring_params`, which `parameters` is as large as.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, parameters.as_mut_ptr()) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a new descriptor, with no other owner.
    probe_operations(&unsafe { OwnedFd::from_raw_fd(fd) })
}

fn probe_operations(ring: &OwnedFd) -> io::Result<()> {
    let mut probe = Probe {
        last_operation: 0,
        operations_count: 0,
        reserved: [0; 7],
        operations: [ProbedOperation::default(); OPERATIONS_MAX],
    };
    // SAFETY: `probe` has room for as many operations as the call says, all zero as the kernel demands.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            REGISTER_PROBE,
            &raw mut probe,
            OPERATIONS_MAX,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let is_supported = |operation: &usize| {
        probe.operations.get(*operation).is_some_and(|it| it.flags & OPERATION_SUPPORTED != 0)
    };
    match OPERATIONS_NEEDED.iter().find(|operation| !is_supported(operation)) {
        None => Ok(()),
        Some(operation) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("the kernel's io_uring lacks operation {operation}"),
        )),
    }
}
