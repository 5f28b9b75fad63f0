//! `CPython`'s own record of its lock (the GIL), read and written without holding it.
//!
//! Each thread that waits for the lock reads the switch interval whenever it begins to wait. `sys.setswitchinterval`
//! needs the lock, which a thread that has to shorten others' waits cannot have. So the word is looked for once, at the
//! start: `_PyRuntime`, exported by every `CPython`, contains it, followed by the other words of
//! `struct _gil_runtime_state` (`Include/internal/pycore_gil.h`, the same from 3.10 to 3.14). Where it is not found
//! beyond doubt, nothing is written.

use std::ffi::c_ulong;
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize};
use std::thread;
use std::time::Duration;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::limits::{SWITCH_INTERVAL, SWITCH_INTERVAL_SHORT};
use crate::scheduler::SwitchInterval;
use crate::sys::symbol::{self, LoadedObject};

/// Intervals, in microseconds, that are never chosen: the word that shows all of them is the one.
const DISTINCTIVE_US: [u64; 3] = [7_654_321, 1_234_567_891, 9_876_543];

/// An interval that has elapsed a second before it begins. To `CPython` it is a number without a sign, but to the clock
/// it adds it to, one with a sign; whole seconds, so that no version can make a negative number of nanoseconds of it.
const ELAPSED_US: u64 = 1_000_000_u64.wrapping_neg();
/// No interval that anybody may have set is as long as that; it was read while it was [`ELAPSED_US`], and set again.
const ABSURD_US: u64 = 1 << 63;
/// How long a thread is given to begin to wait, the first time; twice as long each further time.
const PROBE_PAUSE: Duration = Duration::from_micros(200);
/// So many times it is tried whether [`ELAPSED_US`] does what it should,
const PROBES_MAX: u32 = 9;
/// so often it must be seen: a thread may get the lock by chance.
const PROBES_NEEDED: usize = 2;

/// The words, as long as the process lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct InterpreterLock {
    /// Whether [`ELAPSED_US`] does what it should.
    can_elapse: bool,
    interval_us: &'static AtomicU64,
    last_holder: &'static AtomicUsize,
    is_locked: &'static AtomicI32,
    switches: &'static AtomicU64,
}

/// The order of `struct _gil_runtime_state`, in words of 64 bits.
const LAST_HOLDER: usize = 1;
const IS_LOCKED: usize = 2;
const SWITCHES: usize = 3;
const WORDS: usize = 4;

/// Whether one thread at a time runs Python code.
pub(super) fn has_lock(py: Python<'_>) -> PyResult<bool> {
    py.import("sys")?.getattr_opt("_is_gil_enabled")?.map_or(Ok(true), |it| it.call0()?.extract())
}

impl InterpreterLock {
    /// Looks for it. To be called while no other thread runs Python code, for it changes the switch interval for a
    /// moment. `None` where it is not found beyond doubt, or threads run without it.
    pub(super) fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        let sys = py.import("sys")?;
        let is_enabled = has_lock(py)?;
        let Some(runtime) = symbol::object(c"_PyRuntime") else { return Ok(None) };
        let is_aligned = runtime.address.is_multiple_of(align_of::<AtomicU64>());
        if !is_enabled || !is_aligned || size_of::<c_ulong>() != size_of::<u64>() {
            return Ok(None);
        }
        let before = sys.call_method0("getswitchinterval")?;
        let mut candidates: Vec<usize> =
            (0..(runtime.size / size_of::<u64>()).saturating_sub(WORDS - 1)).collect();
        for interval_us in DISTINCTIVE_US {
            let interval = Duration::from_micros(interval_us).as_secs_f64();
            sys.call_method1("setswitchinterval", (interval,))?;
            candidates.retain(|index| word(&runtime, *index).load(Relaxed) == interval_us);
        }
        sys.call_method1("setswitchinterval", (before,))?;
        let [index] = candidates.as_slice() else { return Ok(None) };
        let found = Some(Self::at(&runtime, *index)).filter(|lock| lock.is_held_here(py));
        Ok(found.map(|lock| Self { can_elapse: lock.is_asked_for_at_once(py), ..lock }))
    }

    /// Whether a thread that begins to wait while the interval is [`ELAPSED_US`] asks for the lock at once. Before
    /// Python 3.11 it is not tried: there an application that sets the interval it has read may make an invalid time.
    fn is_asked_for_at_once(&self, py: Python<'_>) -> bool {
        if py.version_info() < (3, 11) {
            return false;
        }
        let before_us = self.interval_us.swap(ELAPSED_US, Relaxed);
        let pauses = (0..PROBES_MAX).map(|probe| PROBE_PAUSE * 2_u32.pow(probe));
        let seen = pauses.filter(|pause| Self::is_handed_over(py, *pause)).take(PROBES_NEEDED).count();
        self.interval_us.store(before_us, Relaxed);
        if seen < PROBES_NEEDED {
            tracing::debug!(
                "this Python does not ask for its lock at once; a view that keeps it may be asked later"
            );
        }
        seen == PROBES_NEEDED
    }

    /// Lets go of the lock, for less time than a thread that waits for it needs to wake up. Whether it was handed over
    /// all the same, as only a holder does that was asked.
    fn is_handed_over(py: Python<'_>, pause: Duration) -> bool {
        let (is_waiting, has_had_it) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            let waiter = thread::Builder::new().spawn_scoped(scope, || {
                is_waiting.store(true, SeqCst);
                Python::attach(|_| has_had_it.store(true, SeqCst));
            });
            let Ok(waiter) = waiter else { return false };
            while !is_waiting.load(SeqCst) {
                thread::yield_now();
            }
            thread::sleep(pause);
            py.detach(|| ());
            let is_handed_over = has_had_it.load(SeqCst);
            py.detach(|| waiter.join()).is_ok() && is_handed_over
        })
    }

    fn at(runtime: &LoadedObject, index: usize) -> Self {
        let holder = word(runtime, index + LAST_HOLDER).as_ptr().cast::<usize>();
        let is_locked = word(runtime, index + IS_LOCKED).as_ptr().cast::<i32>();
        Self {
            can_elapse: false,
            interval_us: word(runtime, index),
            // SAFETY: as in `word`; a pointer has the size and alignment of a word.
            last_holder: unsafe { AtomicUsize::from_ptr(holder) },
            // SAFETY: as in `word`; an int is smaller than a word, begins where it does, and CPython itself changes it
            // by atomic instructions.
            is_locked: unsafe { AtomicI32::from_ptr(is_locked) },
            switches: word(runtime, index + SWITCHES),
        }
    }

    /// Whether the words behind the interval say what is true while this thread holds the lock.
    fn is_held_here(&self, py: Python<'_>) -> bool {
        self.is_held() && self.last_holder() == Self::this_thread(py)
    }

    /// What [`InterpreterLock::last_holder`] is while the calling thread holds it.
    pub(super) fn this_thread(_attached: Python<'_>) -> usize {
        // SAFETY: the thread is attached.
        unsafe { ffi::PyThreadState_Get() as usize }
    }

    /// Whether a thread holds it.
    pub(super) fn is_held(&self) -> bool {
        self.is_locked.load(SeqCst) == 1
    }

    /// Whose `PyThreadState` held it last: where that is or was, to be compared only.
    pub(super) fn last_holder(&self) -> usize {
        self.last_holder.load(Relaxed)
    }

    /// How often it went from one thread to another.
    pub(super) fn switches(&self) -> u64 {
        self.switches.load(Relaxed)
    }

    /// The switch interval, in microseconds.
    pub(super) fn interval_us(&self) -> u64 {
        match self.interval_us.load(Relaxed) {
            ABSURD_US.. => u64::try_from(SWITCH_INTERVAL.as_micros()).unwrap_or(ABSURD_US),
            interval_us => interval_us,
        }
    }

    /// What the switch interval is to be if it is `interval`, and otherwise `usual_us`.
    pub(super) fn micros_of(&self, interval: SwitchInterval, usual_us: u64) -> u64 {
        match interval {
            SwitchInterval::Usual => usual_us,
            SwitchInterval::Elapsed if self.can_elapse => ELAPSED_US,
            SwitchInterval::Short | SwitchInterval::Elapsed => {
                u64::try_from(SWITCH_INTERVAL_SHORT.as_micros()).unwrap_or(usual_us).min(usual_us)
            }
        }
    }

    /// Makes the switch interval what it is to be, if it is still what it was: the application may have set another.
    pub(super) fn change_interval(&self, was_us: u64, to_us: u64) -> bool {
        self.interval_us.compare_exchange(was_us, to_us, Relaxed, Relaxed).is_ok()
    }

    /// Makes it what it may have been, where an application has set what it read while it was short beyond measure.
    pub(super) fn mend_interval(&self) {
        let is_us = self.interval_us.load(Relaxed);
        if is_us >= ABSURD_US {
            self.change_interval(is_us, self.interval_us());
        }
    }
}

/// A word of `runtime`; one beyond its end is its first.
fn word(runtime: &LoadedObject, index: usize) -> &'static AtomicU64 {
    let is_inside = (index + 1) * size_of::<u64>() <= runtime.size;
    let index = if is_inside { index } else { 0 };
    let address = runtime.address.wrapping_add(index * size_of::<u64>());
    // SAFETY: the address is inside an object of the interpreter that lives as long as the process; it is aligned, as
    // `find` has checked of the object. It is only read, except for the switch interval, any value of which CPython
    // accepts. CPython reads and writes aligned words of it by single instructions, which are atomic on all platforms
    // with 64 bits; it relies on that itself, for its threads read the interval, and some the rest, without a lock.
    unsafe { AtomicU64::from_ptr(ptr::with_exposed_provenance_mut(address)) }
}
