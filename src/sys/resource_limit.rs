//! Soft limits that this process raises for itself (getrlimit(2)), for a moment each time: the application, and
//! whatever it starts in whichever way, has those that the server was started with.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Open files: every connection is one.
pub static OPEN_FILES: Limit = Limit::new(Resource::RLIMIT_NOFILE);
/// Locked memory in bytes, against which the rings of `io_uring` are counted.
pub static LOCKED_MEMORY: Limit = Limit::new(Resource::RLIMIT_MEMLOCK);

/// Instead of a limit: it is not raised.
const NOT_RAISED: u64 = u64::MAX;

/// A limit of this process.
#[derive(Debug)]
pub struct Limit {
    resource: Resource,
    /// How many hold it raised.
    holders: Mutex<usize>,
    /// What the soft limit was before it was raised.
    before: AtomicU64,
}

/// A soft limit that is raised as far as this process may; what it was before once all of these are dropped.
#[derive(Debug)]
pub struct Raised(&'static Limit);

impl Limit {
    const fn new(resource: Resource) -> Self {
        Self { resource, holders: Mutex::new(0), before: AtomicU64::new(NOT_RAISED) }
    }

    /// The limit for the application.
    pub fn soft(&self) -> u64 {
        getrlimit(self.resource).map_or(u64::MAX, |(soft, _)| soft)
    }

    /// The limit for the server, up to which it may raise the other.
    pub fn hard(&self) -> u64 {
        getrlimit(self.resource).map_or(u64::MAX, |(_, hard)| hard)
    }

    /// Raises the soft limit to the hard one.
    ///
    /// # Errors
    /// The operating system's; none is expected.
    pub fn raise(&'static self) -> io::Result<Raised> {
        let mut holders = self.holders();
        if *holders == 0 {
            let (soft, hard) = getrlimit(self.resource)?;
            if soft < hard {
                // Before it is so, for a process that is forked right afterwards.
                self.before.store(soft, Ordering::SeqCst);
                setrlimit(self.resource, hard, hard)?;
            }
        }
        *holders += 1;
        Ok(Raised(self))
    }

    /// What the application has set meanwhile stays.
    fn restore(&self) {
        let before = self.before.load(Ordering::SeqCst);
        if before == NOT_RAISED {
            return;
        }
        if let Ok((soft, hard)) = getrlimit(self.resource)
            && soft == hard
        {
            // Lowering is always allowed.
            let _ = setrlimit(self.resource, before.min(hard), hard);
        }
        self.before.store(NOT_RAISED, Ordering::SeqCst);
    }

    fn holders(&self) -> MutexGuard<'_, usize> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        let mut holders = self.0.holders();
        *holders -= 1;
        if *holders == 0 {
            self.0.restore();
        }
    }
}

/// In a process that was forked, where whoever holds a limit raised does not exist. Allocates and locks nothing.
pub(super) fn restore_in_child() {
    OPEN_FILES.restore();
    LOCKED_MEMORY.restore();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_as_long_as_anybody_needs_it() {
        // A limit that no other test of this process has to do with.
        static QUEUES: Limit = Limit::new(Resource::RLIMIT_MSGQUEUE);
        let hard = QUEUES.hard();
        let soft = hard / 2;
        setrlimit(QUEUES.resource, soft, hard).unwrap();
        let (one, other) = (QUEUES.raise().unwrap(), QUEUES.raise().unwrap());
        drop(one);
        assert_eq!(QUEUES.soft(), hard);
        drop(other);
        assert_eq!((QUEUES.soft(), QUEUES.hard()), (soft, hard));
        let raised = QUEUES.raise().unwrap();
        setrlimit(QUEUES.resource, soft / 2, hard).unwrap();
        drop(raised);
        assert_eq!(QUEUES.soft(), soft / 2, "the application has set it meanwhile");
    }
}
