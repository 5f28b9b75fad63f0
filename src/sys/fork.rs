//! What a process that the application forks must not keep of ours: descriptors, signal handlers, raised limits.
//!
//! An application may fork at any time, in any way: `os.fork`, `multiprocessing`, a library in C. The child has a copy
//! of every descriptor, close-on-exec or not, for as long as it executes nothing. A copy of a client's socket keeps the
//! connection open when we close ours, one of a listening socket keeps the port, one of the epoll set changes the
//! parent's. So the child gives all of them up before it does anything else, in a handler that libc calls after every
//! fork(3) (`pthread_atfork(3)`). A child made by clone(2) directly finds close-on-exec, connections that are shut down
//! before they are closed, and tokens of epoll that are never given out twice; and gives up the rest when it comes back
//! to the server.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::{fork_mark, resource_limit};

const WORD_BITS: usize = u64::BITS as usize;
/// Descriptors above this number are not given up in children.
const DESCRIPTORS_MAX: usize = 1 << 20;
/// Signals have numbers below this (signal(7)).
const SIGNALS_MAX: usize = 65;

/// One bit for each descriptor that is [`PrivateFd`].
static PRIVATE: [AtomicU64; DESCRIPTORS_MAX / WORD_BITS] =
    [const { AtomicU64::new(0) }; DESCRIPTORS_MAX / WORD_BITS];
/// How many words of [`PRIVATE`] were ever used.
static WORDS_USED: AtomicUsize = AtomicUsize::new(0);
/// The handlers that children lose, by the number of their signal; 0 where there is none.
static HANDLERS: [AtomicUsize; SIGNALS_MAX] = [const { AtomicUsize::new(0) }; SIGNALS_MAX];
/// Whether this process is a child that was forked by the application.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// A descriptor that processes forked by the application do not keep. There, its number leads to an event counter that
/// is never raised: it can be polled, is never readable, and whatever is sent to it is refused. Above the application's
/// limit on open files, it leads nowhere.
#[derive(Debug)]
pub struct PrivateFd(OwnedFd);

impl PrivateFd {
    /// Takes a descriptor over.
    pub fn new(fd: OwnedFd) -> Self {
        give_up_in_children(fd.as_fd());
        Self(fd)
    }
}

impl Drop for PrivateFd {
    fn drop(&mut self) {
        // Before it is closed: its number may be the application's right afterwards.
        if let Some((word, bit)) = place(self.0.as_raw_fd()) {
            PRIVATE.get(word).inspect(|word| {
                word.fetch_and(!bit, Ordering::Relaxed);
            });
        }
    }
}

impl AsFd for PrivateFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PrivateFd {
    fn from(fd: OwnedFd) -> Self {
        Self::new(fd)
    }
}

/// Makes a descriptor private as [`PrivateFd`] does, for good: it must stay open until this process ends.
pub fn give_up_in_children(fd: BorrowedFd<'_>) {
    if let Some((word, bit)) = place(fd.as_raw_fd()) {
        PRIVATE.get(word).inspect(|word| {
            word.fetch_or(bit, Ordering::Relaxed);
        });
        WORDS_USED.fetch_max(word + 1, Ordering::Relaxed);
    }
}

fn place(fd: RawFd) -> Option<(usize, u64)> {
    let number = usize::try_from(fd).ok().filter(|number| *number < DESCRIPTORS_MAX)?;
    Some((number / WORD_BITS, 1 << (number % WORD_BITS)))
}

/// From now on whatever this process forks gives up what is private here. To be called before any code of the
/// application's runs.
///
/// # Errors
/// `ENOMEM`.
pub fn guard_children() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut status = 0;
    fork_mark::set();
    ONCE.call_once(|| {
        // SAFETY: the handlers are functions of this library, which is never unloaded, and call only what may be called
        // between fork and exec (signal-safety(7)).
        status = unsafe { libc::pthread_atfork(Some(hold_signals), Some(release_signals), Some(give_up)) };
    });
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(status)) }
}

/// Remembers the handler that the signal of this number has now: children get the default action in its place.
pub fn reset_in_children(number: i32) {
    let Some(remembered) = usize::try_from(number).ok().and_then(|number| HANDLERS.get(number)) else {
        return;
    };
    remembered.store(handler(number).unwrap_or(0), Ordering::Relaxed);
}

/// Whether this process was forked by the application.
pub fn is_child() -> bool {
    if fork_mark::is_wiped() && !IS_CHILD.load(Ordering::Relaxed) {
        // By hand: no handler was called.
        give_up();
    }
    IS_CHILD.load(Ordering::Relaxed)
}

/// The address of the signal's handler, or the number of its other action.
fn handler(number: i32) -> Option<usize> {
    // SAFETY: an all-zero sigaction is a valid value of the type.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: sets nothing, and `action` outlives the call.
    let asked = unsafe { libc::sigaction(number, std::ptr::null(), &raw mut action) };
    (asked == 0).then_some(action.sa_sigaction)
}

thread_local! {
    /// The signals that were blocked before a fork.
    static BLOCKED: Cell<Option<libc::sigset_t>> = const { Cell::new(None) };
}

/// In the parent, before the fork: a signal that the child is sent at once must not find our handlers there.
extern "C" fn hold_signals() {
    // SAFETY: an all-zero set is a valid value of the type, and both outlive the calls.
    let before = unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
            (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        (libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) == 0).then_some(before)
    };
    BLOCKED.set(before);
}

/// In both, after the fork.
extern "C" fn release_signals() {
    if let Some(before) = BLOCKED.take() {
        // SAFETY: a set that the kernel filled in, and that outlives the call.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    }
}

/// In the child, right after the fork: nothing here allocates, locks or may fail loudly.
extern "C" fn give_up() {
    IS_CHILD.store(true, Ordering::Relaxed);
    resource_limit::restore_in_child();
    give_up_descriptors();
    give_up_handlers();
    release_signals();
}

fn give_up_descriptors() {
    // SAFETY: the call takes no pointers.
    let blank = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    // No number from there on can be given to another descriptor.
    let limit = resource_limit::OPEN_FILES.soft();
    let used = WORDS_USED.load(Ordering::Relaxed);
    for (index, word) in PRIVATE.iter().enumerate().take(used) {
        let mut bits = word.load(Ordering::Relaxed);
        if bits == 0 {
            continue;
        }
        word.store(0, Ordering::Relaxed);
        while bits != 0 {
            let number = index * WORD_BITS + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let fd = RawFd::try_from(number).unwrap_or(-1);
            give_up_descriptor(fd, if number as u64 >= limit { -1 } else { blank });
        }
    }
    if blank >= 0 {
        // SAFETY: opened above, and with no other owner.
        unsafe { libc::close(blank) };
    }
}

fn give_up_descriptor(fd: RawFd, blank: RawFd) {
    // SAFETY: the number stays taken, so its owner, if it should ever be dropped here, closes what belongs to it.
    if blank >= 0 && unsafe { libc::dup3(blank, fd, libc::O_CLOEXEC) } >= 0 {
        return;
    }
    // SAFETY: without a descriptor to put in its place, better none than a copy of the parent's. Its owners are on the
    // stacks of threads that this process does not have.
    unsafe { libc::close(fd) };
}

fn give_up_handlers() {
    for (number, remembered) in HANDLERS.iter().enumerate() {
        let remembered = remembered.load(Ordering::Relaxed);
        let Ok(number) = i32::try_from(number) else { return };
        if remembered != 0 && handler(number) == Some(remembered) {
            // SAFETY: the default action installs no handler.
            unsafe { libc::signal(number, libc::SIG_DFL) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read, Write};
    use std::os::fd::FromRawFd;
    use std::os::unix::net::UnixStream;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;

    /// The exit status of a child that runs `check`, which must not allocate: other threads of the tests may do so.
    fn in_child(check: impl FnOnce() -> bool) -> i32 {
        guard_children().unwrap();
        // SAFETY: the child calls nothing but `check` and _exit.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                let status = i32::from(!check());
                // SAFETY: ends this process without running anything.
                unsafe { libc::_exit(status) }
            }
            ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
                WaitStatus::Exited(_, status) => status,
                other => panic!("{other:?}"),
            },
        }
    }

    #[test]
    fn a_child_that_was_made_by_hand_gives_up_what_is_private_as_soon_as_it_is_asked() {
        guard_children().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = PrivateFd::new(ours.into());
        let number = ours.as_fd().as_raw_fd();
        theirs.write_all(b"text").unwrap();
        // SAFETY: the child shares nothing with this process, and calls nothing that allocates.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            let is_right = is_child() && !has_data(number);
            // SAFETY: ends this process without running anything.
            unsafe { libc::_exit(i32::from(!is_right)) }
        }
        let child = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        assert!(!is_child() && has_data(number));
    }

    fn has_data(fd: RawFd) -> bool {
        let mut byte = 0_u8;
        // SAFETY: reads one byte into one.
        unsafe { libc::read(fd, (&raw mut byte).cast(), 1) == 1 }
    }

    #[test]
    fn a_child_has_nothing_under_the_number_of_a_private_descriptor() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let ours = PrivateFd::new(ours.into());
        let (number, mut buffer) = (ours.as_fd().as_raw_fd(), [0; 4]);
        theirs.write_all(b"text").unwrap();
        assert_eq!(in_child(|| is_child() && !has_data(number)), 0);
        assert!(!is_child());
        // SAFETY: borrowed for as long as `ours` lives.
        let copy = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned().unwrap();
        drop(ours);
        UnixStream::from(copy).read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"text");
    }

    #[test]
    fn a_number_that_is_no_longer_private_is_left_alone() {
        let (reader, mut writer) = io::pipe().unwrap();
        let number = reader.as_raw_fd();
        let private = PrivateFd::new(reader.into());
        let copy = private.as_fd().try_clone_to_owned().unwrap();
        drop(private);
        // SAFETY: the number was just closed; the copy takes it, as any descriptor of the application might.
        let again = unsafe { OwnedFd::from_raw_fd(libc::dup2(copy.as_raw_fd(), number)) };
        writer.write_all(b"x").unwrap();
        assert_eq!(in_child(|| has_data(number)), 0);
        drop(PipeReader::from(again));
    }

    #[test]
    fn a_child_has_the_default_action_for_our_handlers_alone() {
        extern "C" fn ignore(_: i32) {}
        let ours = ignore as extern "C" fn(i32) as usize;
        let (first, second) = (libc::SIGRTMIN() + 3, libc::SIGRTMIN() + 4);
        for number in [first, second] {
            // SAFETY: the handler does nothing.
            unsafe { libc::signal(number, ours) };
        }
        reset_in_children(first);
        let check = || handler(first) == Some(libc::SIG_DFL) && handler(second) == Some(ours);
        assert_eq!(in_child(check), 0);
        assert_eq!(handler(first), Some(ours), "the parent keeps it");
    }
}
