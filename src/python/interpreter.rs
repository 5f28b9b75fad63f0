//! Who holds the interpreter, and that no thread keeps it for itself: a thread that looks, and marks of those that
//! wait. What is to be done is decided by [`SwitchPolicy`].
//!
//! There is one interpreter lock in a process, so there is one of this, too.

use std::collections::HashSet;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use pyo3::marker::Ungil;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;

use super::errors::describe;
use super::interpreter_lock::InterpreterLock;
use crate::gateway::InterpreterUse;
use crate::limits::{INTERPRETER_HOLD_LOGGED, INTERPRETER_HOLDS_LOGGED_MAX, INTERPRETER_KEPT_MAX};
use crate::scheduler::{Look, SwitchInterval, SwitchPolicy};
use crate::sys::{process, thread};

static WATCH: OnceLock<InterpreterWatch> = OnceLock::new();

/// The looking thread looks again within a millisecond or two.
const AWAKE: u8 = 0;
/// It does so later, unless somebody waits.
const DROWSY: u8 = 1;
/// It does not, unless somebody waits or a second thread has a request.
const ASLEEP: u8 = 2;

/// What application threads say of themselves, and who looks.
struct InterpreterWatch {
    lock: InterpreterLock,
    /// Waits for the interpreter that have begun.
    waits_begun: AtomicUsize,
    waits_ended: AtomicUsize,
    waited_us: AtomicU64,
    /// The longest wait in which the interpreter stayed with one thread.
    hold_max_us: AtomicU64,
    holds: Mutex<Holds>,
    /// Threads that do not wait for a request.
    active: AtomicUsize,
    vigilance: AtomicU8,
    /// What the switch interval was before it was made short; else zero.
    interval_before_us: AtomicU64,
    /// What it was made.
    interval_made_us: AtomicU64,
    /// The one that looks.
    looker: OnceLock<Thread>,
}

/// A wait for the interpreter.
struct Wait {
    begun_at: Instant,
    /// How often the interpreter had gone from thread to thread, and which had it.
    switches: u64,
    holder: usize,
}

/// Who may hold the interpreter for long, and where that was logged.
#[derive(Default)]
struct Holds {
    /// The `PyThreadState` of each application thread, and the number by which Python knows the thread.
    threads: Vec<(usize, u64)>,
    /// The ends of the stacks that were logged.
    places: HashSet<String>,
}

impl Holds {
    /// Whether no hold was logged whose stack ends as this one. Bounded: beyond that nothing is new.
    fn is_new(&mut self, stack: &str) -> bool {
        let place =
            stack.lines().rev().find(|line| line.trim_start().starts_with("File ")).unwrap_or_default();
        self.places.len() < INTERPRETER_HOLDS_LOGGED_MAX && self.places.insert(place.to_owned())
    }
}

fn stack_of(py: Python<'_>, thread: u64) -> String {
    let stack =
        py.import("spawning.stacks").and_then(|it| it.call_method1("of_thread", (thread,))?.extract());
    stack.unwrap_or_else(|error| describe(py, &error))
}

/// Begins to look after `lock`. Called once.
///
/// # Errors
/// Those of Python's modules, which are there.
pub(super) fn watch(py: Python<'_>, lock: InterpreterLock) -> PyResult<()> {
    let watch = WATCH.get_or_init(|| InterpreterWatch {
        lock,
        waits_begun: AtomicUsize::new(0),
        waits_ended: AtomicUsize::new(0),
        waited_us: AtomicU64::new(0),
        hold_max_us: AtomicU64::new(0),
        holds: Mutex::default(),
        active: AtomicUsize::new(0),
        vigilance: AtomicU8::new(ASLEEP),
        interval_before_us: AtomicU64::new(0),
        interval_made_us: AtomicU64::new(0),
        looker: OnceLock::new(),
    });
    let started = std::thread::Builder::new().name("interpreter".to_owned()).spawn(|| watch.look_for_ever());
    if let Err(error) = started {
        tracing::error!(%error, "cannot start a thread; requests that compute may starve others");
    }
    // A process that the application forks has no such thread, and the interval would stay short.
    let restore = PyCFunction::new_closure(py, None, None, |_, _| watch.restore())?;
    py.import("spawning.fork")?.call_method1("after_in_child", (restore,)).map(drop)
}

/// Lets go of the interpreter while `work` waits for something.
pub(super) fn detach<T: Ungil + Send>(py: Python<'_>, work: impl Ungil + Send + FnOnce() -> T) -> T {
    let Some(watch) = WATCH.get() else { return py.detach(work) };
    let (result, wait) = py.detach(|| (work(), watch.begin_wait()));
    if let Some(wait) = wait {
        watch.end_wait(py, &wait);
    }
    result
}

/// The same for a thread that waits for its next request.
pub(super) fn detach_idle<T: Ungil + Send>(py: Python<'_>, work: impl Ungil + Send + FnOnce() -> T) -> T {
    let Some(watch) = WATCH.get() else { return py.detach(work) };
    detach(py, || {
        watch.active.fetch_sub(1, SeqCst);
        let result = work();
        watch.activate();
        result
    })
}

/// The calling thread has requests from now on; see [`detach_idle`].
pub(super) fn enter(py: Python<'_>) {
    if let Some(watch) = WATCH.get() {
        watch.lock_holds().threads.push((InterpreterLock::this_thread(py), process::thread_number()));
        watch.activate();
    }
}

/// How the application's threads have shared the interpreter.
pub(super) fn used() -> InterpreterUse {
    WATCH.get().map_or_else(InterpreterUse::default, |watch| InterpreterUse {
        wait_us: watch.waited_us.load(Relaxed),
        hold_max_us: watch.hold_max_us.load(Relaxed),
    })
}

/// It has no more.
pub(super) fn leave() {
    if let Some(watch) = WATCH.get() {
        watch.active.fetch_sub(1, SeqCst);
    }
}

impl InterpreterWatch {
    fn activate(&self) {
        if self.active.fetch_add(1, SeqCst) > 0 {
            self.rouse(ASLEEP);
        }
    }

    /// The calling thread is about to take the interpreter; `None` if it need not wait.
    fn begin_wait(&self) -> Option<Wait> {
        if !self.lock.is_held() {
            return None;
        }
        self.waits_begun.fetch_add(1, SeqCst);
        self.rouse(DROWSY);
        let (switches, holder) = (self.lock.switches(), self.lock.last_holder());
        Some(Wait { begun_at: Instant::now(), switches, holder })
    }

    fn end_wait(&self, py: Python<'_>, wait: &Wait) {
        self.waits_ended.fetch_add(1, SeqCst);
        let waited = wait.begun_at.elapsed();
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(waited_us, Relaxed);
        // The one switch is the one to this thread.
        if self.lock.switches().wrapping_sub(wait.switches) == 1 {
            self.hold_max_us.fetch_max(waited_us, Relaxed);
            if waited >= INTERPRETER_HOLD_LOGGED {
                self.log_hold(py, waited, wait.holder);
            }
        }
    }

    /// The thread that held it lets go where it can first, so its stack still shows the place.
    fn log_hold(&self, py: Python<'_>, held: Duration, holder: usize) {
        let thread =
            self.lock_holds().threads.iter().find(|(state, _)| *state == holder).map(|found| found.1);
        // Python code runs here, and other threads may: nothing may be locked.
        let stack = thread.map_or_else(String::new, |thread| stack_of(py, thread));
        if self.lock_holds().is_new(&stack) {
            tracing::warn!(
                held_s = held.as_secs_f64(),
                traceback = stack,
                "the application held the interpreter for {:.1} s while requests waited; the stack of its thread \
                 follows; other holds at this place are not logged",
                held.as_secs_f64()
            );
        }
    }

    fn lock_holds(&self) -> MutexGuard<'_, Holds> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the looking thread look now if it is as sleepy as that.
    fn rouse(&self, sleepiness: u8) {
        if self.vigilance.load(SeqCst) >= sleepiness
            && self.vigilance.swap(AWAKE, SeqCst) != AWAKE
            && let Some(looker) = self.looker.get()
        {
            looker.unpark();
        }
    }

    /// Never takes the interpreter.
    fn look_for_ever(&self) {
        // Before the first sleep, of which it may be roused.
        let _ = self.looker.set(std::thread::current());
        process::name_this_thread("interpreter");
        thread::be_punctual();
        let mut policy = SwitchPolicy::new();
        loop {
            let waits_begun = self.waits_begun.load(SeqCst);
            let decision = policy.look(self.look(), Instant::now());
            self.apply(decision.interval);
            self.sleep(decision.next_look, waits_begun);
        }
    }

    fn apply(&self, interval: SwitchInterval) {
        if interval == SwitchInterval::Usual {
            return self.restore();
        }
        if self.interval_before_us.load(SeqCst) == 0 {
            let before_us = self.lock.interval_us();
            self.interval_made_us.store(before_us, SeqCst);
            self.interval_before_us.store(before_us, SeqCst);
        }
        let made_us = self.lock.micros_of(interval, self.interval_before_us.load(SeqCst));
        if self.lock.change_interval(self.interval_made_us.load(SeqCst), made_us) {
            self.interval_made_us.store(made_us, SeqCst);
        }
    }

    /// Makes the switch interval what it was, if it is short, unless the application has set another meanwhile.
    fn restore(&self) {
        match self.interval_before_us.swap(0, SeqCst) {
            0 => self.lock.mend_interval(),
            before_us => {
                self.lock.change_interval(self.interval_made_us.load(SeqCst), before_us);
            }
        }
    }

    fn look(&self) -> Look {
        // In this order, so that no wait seems to have ended that has not begun.
        let ended = self.waits_ended.load(SeqCst);
        Look {
            is_held: self.lock.is_held(),
            switches: self.lock.switches(),
            waiting: self.waits_begun.load(SeqCst).wrapping_sub(ended),
            served: ended,
            active: self.active.load(SeqCst),
        }
    }

    fn sleep(&self, pause: Option<Duration>, waits_begun: usize) {
        let sleepiness = match pause {
            Some(pause) if pause <= INTERPRETER_KEPT_MAX * 2 => AWAKE,
            Some(_) => DROWSY,
            None => ASLEEP,
        };
        self.vigilance.store(sleepiness, SeqCst);
        // A thread that came meanwhile may not have seen that we would sleep.
        let is_wanted =
            self.waits_begun.load(SeqCst) != waits_begun || pause.is_none() && self.active.load(SeqCst) > 1;
        match pause {
            Some(pause) if sleepiness == AWAKE => std::thread::sleep(pause),
            _ if is_wanted => {}
            Some(pause) => std::thread::park_timeout(pause),
            None => std::thread::park(),
        }
        self.vigilance.store(AWAKE, SeqCst);
    }
}
