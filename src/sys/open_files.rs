//! Which numbers the server's descriptors have: low ones are the application's.
//!
//! select(2) knows no descriptor above 1,023, and an application that opens one with a thousand clients connected would
//! get such a number. So once the kernel gives out numbers from [`LOW_MAX`] on, those of the server are moved out of
//! the way. Where they then are above the application's limit on open files, that is raised for the moment it takes.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use super::process;
use super::resource_limit::OPEN_FILES;

/// Descriptors of the server's with a number below this stay where they are: moving is a matter of two system calls.
const LOW_MAX: RawFd = 512;
/// What select(2) can be told of is below this (`FD_SETSIZE`).
const SELECT_MAX: RawFd = 1024;
/// The server's descriptors have no higher numbers than they must: the kernel keeps a table up to the highest, and
/// copies it for every process that is forked.
const HIGH_MAX: RawFd = 1 << 16;
/// The first descriptor after standard input, output and error.
const FIRST_FD: RawFd = 3;

/// Where the server's descriptors may be.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// Below this number.
    low_max: RawFd,
    /// Or from this one on: above the application's limit, so that they take nothing of it.
    high: RawFd,
    /// Whether that limit must be raised for it.
    is_beyond: bool,
}

impl Numbers {
    fn under(soft: u64, hard: u64) -> Self {
        let number = |limit: u64| RawFd::try_from(limit).unwrap_or(RawFd::MAX);
        let above = if soft < hard { number(soft) } else { SELECT_MAX };
        let high = above.clamp(SELECT_MAX, HIGH_MAX);
        Self { low_max: LOW_MAX.min(number(soft) / 2), high, is_beyond: number(soft) <= high }
    }

    /// As the limit was when this was first asked: an application may set it.
    fn of_this_process() -> Self {
        static NUMBERS: OnceLock<Numbers> = OnceLock::new();
        *NUMBERS.get_or_init(|| Self::under(OPEN_FILES.soft(), OPEN_FILES.hard()))
    }
}

/// Gives the server's descriptor a number that the application does not miss, as far as there is one.
pub fn make_way(fd: OwnedFd) -> OwnedFd {
    let number = fd.as_raw_fd();
    if number < FIRST_FD {
        return leave_standard_streams(fd);
    }
    let numbers = Numbers::of_this_process();
    if number < numbers.low_max || number >= numbers.high {
        return fd;
    }
    high_duplicate(fd.as_fd(), numbers).unwrap_or(fd)
}

/// As [`make_way`], for a file.
pub fn make_way_for_file(file: File) -> File {
    make_way(file.into()).into()
}

/// A second descriptor of the server's for the same, closed on exec.
///
/// # Errors
/// The kernel's, when there are no more.
pub fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    beyond_limit(|| fd.try_clone_to_owned()).map(make_way)
}

/// Makes a descriptor, if need be beyond the limit of an application that has used it up.
///
/// # Errors
/// Those of `make`.
pub fn beyond_limit<T>(make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let outcome = make();
    match outcome {
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
            let _raised = OPEN_FILES.raise()?;
            make()
        }
        _ => outcome,
    }
}

fn high_duplicate(fd: BorrowedFd<'_>, numbers: Numbers) -> Option<OwnedFd> {
    let _raised = numbers.is_beyond.then(|| OPEN_FILES.raise());
    // Where the hard limit is hardly above the other, at least what select(2) needs is left free.
    duplicate_from(fd, numbers.high).or_else(|_| duplicate_from(fd, SELECT_MAX)).ok()
}

/// An application that has closed a standard stream must not find what others print in its clients' connections.
fn leave_standard_streams(fd: OwnedFd) -> OwnedFd {
    let Ok(moved) = duplicate_from(fd.as_fd(), FIRST_FD) else { return fd };
    drop(fd);
    // Without /dev/null the next descriptor of the server's will be moved as well.
    let _ = process::fill_standard_streams();
    make_way(moved)
}

/// A duplicate with the lowest free number from `least` on.
fn duplicate_from(fd: BorrowedFd<'_>, least: RawFd) -> Result<OwnedFd, Errno> {
    let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: the kernel just gave us this descriptor and it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_descriptor_makes_way_from_half_of_the_applications_numbers_on() {
        let under = |soft, hard| {
            let numbers = Numbers::under(soft, hard);
            (numbers.low_max, numbers.high)
        };
        assert_eq!(under(300, 3000), (150, 1024));
        assert_eq!(under(1024, 1024), (512, 1024));
        assert_eq!(under(4096, 8192), (512, 4096));
        assert_eq!(under(8192, 8192), (512, 1024));
        assert_eq!(under(1 << 20, u64::MAX), (512, 65_536));
    }

    #[test]
    fn a_low_number_is_kept_and_one_in_between_moved_above_those_of_select() {
        let low = null();
        let number = low.as_raw_fd();
        assert_eq!(make_way(low).as_raw_fd(), number);
        if OPEN_FILES.hard() <= 2048 {
            return;
        }
        let between = duplicate_from(null().as_fd(), 700).unwrap();
        let soft = OPEN_FILES.soft();
        assert!(make_way(between).as_raw_fd() >= SELECT_MAX);
        assert_eq!(OPEN_FILES.soft(), soft, "the limit is the application's");
    }
}
