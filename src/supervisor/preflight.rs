//! What the workers will need of the kernel, asked before anything is bound.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::start_failure::{EXIT_OPERATING_SYSTEM, EXIT_USAGE, StartFailure};
use crate::config::{Config, ReactorChoice, Spill};
use crate::limits::{MEMLOCK_BYTES_MIN, SPILL_MEMORY_BYTES_MAX};
use crate::sys::resource_limit::LOCKED_MEMORY;
use crate::sys::signals::{Signal, Signals};
use crate::sys::{affinity, event_loop, file, process, wait};

/// Settles for epoll where `io_uring` may be done without and cannot be had; then returns why.
///
/// # Errors
/// Why the event loop that was asked for cannot be had.
pub(super) fn choose_reactor(config: &mut Config) -> Result<Option<String>, StartFailure> {
    let is_built_in = cfg!(feature = "glommio");
    let asked = std::mem::replace(&mut config.reactor, ReactorChoice::Epoll);
    let outcome = match asked {
        ReactorChoice::Epoll => return Ok(None),
        ReactorChoice::Auto if !is_built_in => return Ok(None),
        ReactorChoice::IoUring if !is_built_in => return Err(not_built_in()),
        ReactorChoice::IoUring => Ok(check_io_uring()?),
        ReactorChoice::Auto => check_io_uring(),
    };
    let Err(StartFailure { message, .. }) = outcome else {
        config.reactor = asked;
        return Ok(None);
    };
    let cost = "using epoll instead; temporary files are written by helper threads (--reactor epoll)";
    Ok(Some(format!("{message}; {cost}")))
}

/// A warning where temporary files cannot be made: as in a container whose root is read-only, and that has no volume.
pub(super) fn no_spill(spill: &Spill) -> Option<String> {
    let error = file::anonymous(&spill.directory).err()?;
    let directory = spill.directory.display();
    let bytes_max = SPILL_MEMORY_BYTES_MAX.min(spill.bytes_max) / (1024 * 1024);
    Some(format!(
        "spawn: --spill-directory: cannot make temporary files in {directory}: {error}; request bodies above 64K, and what \
         slow clients have not taken, are kept in memory, at most {bytes_max}M of each process, and more is refused with \
         507\n\
         hint: mount a volume or a tmpfs at {directory}, or name another writable directory by --spill-directory or TMPDIR"
    ))
}

/// Raises the limit on locked memory for a moment and tries `io_uring`.
fn check_io_uring() -> Result<(), StartFailure> {
    let raised = LOCKED_MEMORY.raise();
    let memlock_bytes = raised.as_ref().map_or(0, |_| LOCKED_MEMORY.hard());
    if memlock_bytes < MEMLOCK_BYTES_MIN {
        return Err(memlock_too_small(memlock_bytes));
    }
    event_loop::probe_io_uring().map_err(|error| explain(&error, memlock_bytes, sysctl().as_deref()))
}

fn not_built_in() -> StartFailure {
    StartFailure {
        status: EXIT_USAGE,
        message: "--reactor: this build of the server has no io_uring executor".to_owned(),
        hint: "choose --reactor epoll, or build it with the feature `glommio`".to_owned(),
    }
}

/// Makes this process fit to be a parent: which signals it reads, what children may inherit, which cores they share.
pub(super) fn prepare_process() -> io::Result<(Signals, Cores)> {
    process::fill_standard_streams()?;
    process::close_all_on_exec()?;
    let cores = Cores::look()?;
    Ok((Signals::take()?, cores))
}

/// The cores that the workers share out among themselves. They may change at any time: by `taskset`, by a cpuset that
/// shrinks or grows, by another quota.
#[derive(Debug)]
pub(super) struct Cores {
    /// In ascending order.
    pub(super) now: Vec<usize>,
    seed: u64,
}

impl Cores {
    fn look() -> io::Result<Self> {
        let mut cores = Self { now: Vec::new(), seed: RandomState::new().hash_one(std::process::id()) };
        cores.look_again()?;
        Ok(cores)
    }

    /// Takes note of what has changed.
    pub(super) fn look_again(&mut self) -> io::Result<()> {
        self.now = affinity::within_quota(affinity::allowed_cores()?, affinity::cpu_quota(), self.seed);
        Ok(())
    }
}

/// Waits, unless a signal says to stop.
pub(super) fn pause(signals: &Signals, duration: Duration) -> ControlFlow<()> {
    let until = Instant::now() + duration;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if wait::readable(&[signals.as_fd()], Some(left)).is_err() {
            return ControlFlow::Break(());
        }
        while let Some(signal) = signals.next() {
            if matches!(signal, Signal::Stop | Signal::StopNow) {
                return ControlFlow::Break(());
            }
        }
    }
    ControlFlow::Continue(())
}

/// `kernel.io_uring_disabled`, which kernels before 6.6 do not have.
fn sysctl() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().to_owned())
}

fn explain(error: &io::Error, memlock_bytes: u64, sysctl: Option<&str>) -> StartFailure {
    let (cause, hint) = match (error.kind(), sysctl) {
        (io::ErrorKind::OutOfMemory, _) => return memlock_too_small(memlock_bytes),
        (io::ErrorKind::PermissionDenied, Some(level @ ("1" | "2"))) => (
            format!("kernel.io_uring_disabled is {level}"),
            "allow it with: sysctl -w kernel.io_uring_disabled=0",
        ),
        (io::ErrorKind::PermissionDenied, _) => (
            "most likely a seccomp filter forbids it, as Docker's default profile does".to_owned(),
            "choose --reactor auto, or allow the io_uring_* system calls: docker run --security-opt seccomp=PROFILE.json",
        ),
        (io::ErrorKind::Unsupported, _) => (
            "the kernel is too old, or a seccomp filter hides it".to_owned(),
            "Linux 5.8 or later is needed, see: uname -r",
        ),
        _ => ("the kernel does not say more".to_owned(), "see the kernel's log: dmesg"),
    };
    StartFailure {
        status: EXIT_OPERATING_SYSTEM,
        message: format!("io_uring is not available: {error}: {cause}"),
        hint: hint.to_owned(),
    }
}

fn memlock_too_small(memlock_bytes: u64) -> StartFailure {
    StartFailure {
        status: EXIT_OPERATING_SYSTEM,
        message: format!(
            "io_uring needs more locked memory: the hard limit is {memlock_bytes} bytes, shared by all processes of \
             this user, and a worker needs at least {MEMLOCK_BYTES_MIN}"
        ),
        hint: "raise it with: ulimit -l 8192, or LimitMEMLOCK=8M in a systemd unit, or docker run --ulimit memlock=8388608"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPERM: i32 = 1;
    const ENOMEM: i32 = 12;
    const ENOSYS: i32 = 38;

    fn explained(errno: i32, sysctl: Option<&str>) -> String {
        let failure = explain(&io::Error::from_raw_os_error(errno), 8 << 20, sysctl);
        assert_eq!(failure.status, 71);
        failure.to_string()
    }

    #[test]
    fn every_refusal_names_its_likely_cause_and_the_command_that_mends_it() {
        assert!(explained(EPERM, Some("2")).contains("sysctl -w kernel.io_uring_disabled=0"));
        for sysctl in [Some("0"), None] {
            assert!(explained(EPERM, sysctl).contains("seccomp"), "{sysctl:?}");
        }
        assert!(explained(ENOSYS, None).contains("uname -r"));
        assert!(explained(ENOMEM, None).contains("ulimit -l"));
    }

    #[test]
    fn this_machine_is_fit_or_says_why_not() {
        if let Err(failure) = check_io_uring() {
            assert!(failure.to_string().starts_with("spawn: io_uring "), "{failure}");
        }
    }

    #[test]
    fn epoll_is_always_to_be_had_and_needs_no_excuse() {
        let words = ["--reactor=epoll", "app"].map(str::to_owned);
        let mut config = crate::cli::configure(&words, 1).unwrap();
        assert_eq!(choose_reactor(&mut config), Ok(None));
        config.reactor = ReactorChoice::Auto;
        let excuse = choose_reactor(&mut config).unwrap();
        let is_built_in = cfg!(feature = "glommio");
        assert_eq!(config.reactor == ReactorChoice::Epoll && is_built_in, excuse.is_some());
    }
}
