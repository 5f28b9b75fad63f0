//! Children: how they are started, what they inherit, how they end.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::unistd::{Pid, getpid, gettid};

use super::signals;

/// What systemd (`sd_listen_fds(3)`, `sd_notify(3)`, `sd_watchdog_enabled(3)`) or an older supervisor tells one process
/// alone: a child that took it for itself would speak in its parent's name.
pub const NOT_FOR_CHILDREN: [&str; 7] = [
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    HANDOVER_VARIABLE,
];

/// The first descriptor after standard input, output and error.
const FIRST_FD: RawFd = 3;

/// By which a supervisor tells its successor what it hands over; of no concern to workers.
pub const HANDOVER_VARIABLE: &str = "SPAWNING_HANDOVER";

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessExit {
    /// It exited with this status.
    Exited(i32),
    /// The signal of this number ended it.
    Killed(i32),
}

impl ProcessExit {
    /// Whether it was ended by SIGKILL, which no process can send itself by mistake.
    pub fn is_sigkill(self) -> bool {
        self == Self::Killed(libc::SIGKILL)
    }
}

impl fmt::Display for ProcessExit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(formatter, "exit status {status}"),
            Self::Killed(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(formatter, "signal {number} ({signal})"),
                Err(_) => write!(formatter, "signal {number}"),
            },
        }
    }
}

/// Opens `/dev/null` for every standard stream that is closed, so that no socket ever gets such a number.
///
/// # Errors
/// The operating system's, when there is no `/dev/null`.
pub fn fill_standard_streams() -> io::Result<()> {
    loop {
        // The kernel gives the lowest free number, so the first one above the streams proves that all are open.
        let fd: OwnedFd = File::options().read(true).write(true).open("/dev/null")?.into();
        if fd.as_raw_fd() >= FIRST_FD {
            return Ok(());
        }
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let _ = fd.into_raw_fd();
    }
}

/// Marks every descriptor above standard error close-on-exec.
///
/// # Errors
/// The operating system's, when `/proc` cannot be read.
pub fn close_all_on_exec() -> io::Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok()) else { continue };
        if fd < FIRST_FD {
            continue;
        }
        // SAFETY: borrowed for one call; a descriptor closed meanwhile is EBADF, which is as good.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    }
    Ok(())
}

/// Where a child starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Its working directory; `None` is this process's.
    pub directory: Option<&'a Path>,
    /// The name of that directory, links included, for `PWD` (POSIX).
    pub directory_name: Option<&'a Path>,
    /// Whether this process's standard input is its own, too, and not `/dev/null`.
    pub keeps_input: bool,
}

/// Starts `command` with `inherited` and standard output and error, and returns its process id.
///
/// The child's signal mask is empty, and it ignores SIGINT, SIGHUP and SIGUSR1:
/// a terminal and `systemctl kill` send those to all processes, and what they mean is the parent's decision.
///
/// [`Command`] rather than fork and exec by hand: it allocates nothing between the two, and reports a failed exec to
/// the parent as an error instead of as a child that dies at once.
///
/// # Errors
/// The operating system's, when it cannot fork or execute the program.
pub fn spawn(command: &[OsString], inherited: &[BorrowedFd<'_>], start: Start<'_>) -> io::Result<u32> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let inherited: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let mut command = Command::new(program);
    command.args(arguments);
    if !start.keeps_input {
        command.stdin(Stdio::null());
    }
    if let Some(directory) = start.directory {
        command.current_dir(directory).env("PWD", start.directory_name.unwrap_or(directory));
    }
    for variable in NOT_FOR_CHILDREN {
        command.env_remove(variable);
    }
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe { command.pre_exec(move || prepare_child(&inherited)) };
    // Dropping the handle neither waits for the child nor ends it: `reap` does the one, `terminate` the other.
    Ok(command.spawn()?.id())
}

/// Starts `command` as this process was started: with its standard streams, its environment and one variable more,
/// `inherited`, and a supervisor's signals blocked, so that none that arrives early ends it. What systemd addressed to
/// this process by its number is the new one's from now on.
///
/// # Errors
/// The operating system's, when it cannot fork or execute the program.
pub fn spawn_like_self(
    command: &[OsString],
    inherited: &[BorrowedFd<'_>],
    directory: Option<&Path>,
    (variable, value): (&str, &str),
) -> io::Result<u32> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let inherited: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
    let mut command = Command::new(program);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    command.args(arguments).env(variable, value).env_remove("LISTEN_PID").env_remove("WATCHDOG_PID");
    let prepare = move || {
        keep_on_exec(&inherited)?;
        signals::block_until_taken()
    };
    // SAFETY: between fork and exec only async-signal-safe calls are made, and nothing is allocated.
    unsafe { command.pre_exec(prepare) };
    Ok(command.spawn()?.id())
}

/// The words this process was started with, the program first (`proc_pid_cmdline(5)`).
///
/// # Errors
/// The operating system's, when `/proc` cannot be read.
pub fn own_command() -> io::Result<Vec<OsString>> {
    let words = std::fs::read("/proc/self/cmdline")?;
    let words = words.strip_suffix(b"\0").unwrap_or(&words);
    Ok(words.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec())).collect())
}

fn keep_on_exec(inherited: &[RawFd]) -> io::Result<()> {
    for fd in inherited {
        // SAFETY: the parent held these descriptors open across the fork, and nothing here closes them.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    Ok(())
}

fn prepare_child(inherited: &[RawFd]) -> io::Result<()> {
    keep_on_exec(inherited)?;
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { sigaction(signal, &ignore)? };
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// Takes ownership of a descriptor this process was started with, and makes it close-on-exec again.
///
/// The caller vouches for the number: it was told by its parent, and each number is taken once.
///
/// # Errors
/// `EBADF` when nothing is open under that number, `InvalidInput` for standard input, output or error.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < FIRST_FD {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: borrowed for one call, which tells whether it is open at all.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: open, as was just seen, and with no other owner: inherited numbers are adopted once, at the start.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// How the child of that number ended, if it has; its number is free from then on.
pub fn reap(pid: u32) -> Option<ProcessExit> {
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 0)?;
    wait_for(pid).map(|(_, ending)| ending)
}

/// Whether orphans become children of this process: it is process 1, or a child subreaper (prctl(2)).
pub fn inherits_orphans() -> bool {
    std::process::id() == 1 || prctl::get_child_subreaper().unwrap_or(false)
}

/// Collects one child that has ended, any child: see [`inherits_orphans`].
pub fn reap_any() -> Option<(u32, ProcessExit)> {
    wait_for(-1)
}

fn wait_for(pid: libc::pid_t) -> Option<(u32, ProcessExit)> {
    let mut status = 0;
    // nix refuses the status of a child ended by a real-time signal, after having reaped it: its number would be lost.
    // SAFETY: writes one integer, which outlives the call.
    let pid = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let ending = if libc::WIFEXITED(status) {
        ProcessExit::Exited(libc::WEXITSTATUS(status))
    } else {
        ProcessExit::Killed(libc::WTERMSIG(status))
    };
    Some((pid, ending))
}

/// Ends a child at once (SIGKILL).
///
/// Only [`reap`] and [`reap_any`] free a child's number, and they run on the same thread, so that it cannot mean
/// another process.
///
/// # Errors
/// The operating system's: `ESRCH` if it has been reaped.
pub fn terminate(pid: u32) -> io::Result<()> {
    send_signal(pid, Signal::SIGKILL)
}

/// Asks a child to end (SIGTERM).
///
/// # Errors
/// As [`terminate`].
pub fn ask_to_end(pid: u32) -> io::Result<()> {
    send_signal(pid, Signal::SIGTERM)
}

fn send_signal(pid: u32, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(kill(Pid::from_raw(pid), signal)?)
}

/// Ends this process without running anything that was registered for its end.
pub fn end_at_once(status: i32) -> ! {
    // SAFETY: ends the process, and touches no memory.
    unsafe { libc::_exit(status) }
}

/// The number of the calling thread by which Python, too, knows it (`threading.get_ident`, `pthread_self(3)`).
pub fn thread_number() -> u64 {
    // SAFETY: always succeeds, and reads nothing but the thread's own registers.
    let thread = unsafe { libc::pthread_self() };
    thread as u64 // a number in glibc, a pointer in musl
}

/// Gives this process the name that `top` and `ps -o comm` show, that of its main thread; its first 15 bytes count.
pub fn name_this_process(name: &str) {
    // No name is worth a failure.
    let _ = std::fs::write("/proc/self/comm", name);
}

/// Gives the calling thread the name that `ps -L`, `top -H` and debuggers show; its first 15 bytes count. The main
/// thread keeps its own, which is that of the process.
pub fn name_this_thread(name: &str) {
    if gettid() == getpid() {
        return;
    }
    // A name with a NUL byte is the only fault, and no name is worth a failure.
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = nix::sys::prctl::set_name(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_reads_as_the_shell_would_say_it() {
        assert_eq!(ProcessExit::Exited(70).to_string(), "exit status 70");
        assert_eq!(ProcessExit::Killed(9).to_string(), "signal 9 (SIGKILL)");
        assert_eq!(ProcessExit::Killed(40).to_string(), "signal 40");
    }

    #[test]
    fn standard_streams_and_closed_numbers_cannot_be_adopted() {
        assert_eq!(adopt(2).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(adopt(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_program_that_does_not_exist_is_the_parents_error() {
        let error = spawn(&["/nonexistent/python".into()], &[], Start::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(spawn(&[], &[], Start::default()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn process_numbers_that_mean_groups_are_never_signalled() {
        assert_eq!(terminate(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(terminate(u32::MAX).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
