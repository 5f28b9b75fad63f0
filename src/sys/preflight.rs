//! Whether this process may use `io_uring` at all: glommio panics where it may not, so ask first.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The size of `struct io_uring_params` (`linux/io_uring.h`), of which the kernel fills what it knows.
const PARAMETERS_BYTES: usize = 120;
const ENTRIES: libc::c_uint = 2;

/// Sets up a small ring and closes it again.
///
/// # Errors
/// The operating system's: `EPERM` (seccomp or sysctl), `ENOSYS` (kernel or seccomp), `ENOMEM` (memlock).
pub fn io_uring() -> io::Result<()> {
    let mut parameters = [0_u64; PARAMETERS_BYTES / size_of::<u64>()];
    // SAFETY: the kernel reads and writes one zeroed `io_uring_params`, which `parameters` is as large as.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, parameters.as_mut_ptr()) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: a new descriptor, owned by nobody else.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}
