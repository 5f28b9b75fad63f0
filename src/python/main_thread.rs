//! The application on the main thread, one request at a time (`--main-thread`): for what Python allows there only.
//!
//! The main thread waits for a bell and not in the queue, as a signal, too, must wake it: handlers of Python run on no
//! other thread.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use pyo3::prelude::*;

use super::environ::Template;
use super::errors::describe;
use super::respond;
use crate::gateway::{Queue, Taken, ThreadWatch};

/// Wakes the main thread.
#[derive(Debug, Default)]
pub(super) struct MainThreadWaker {
    state: Mutex<MainThreadState>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct MainThreadState {
    is_rung: bool,
    is_over: bool,
}

impl MainThreadWaker {
    /// There may be something to do.
    pub(super) fn ring(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_rung = true;
        self.rung.notify_one();
    }

    /// There is nothing to do any more.
    pub(super) fn end(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_over = true;
        self.rung.notify_one();
    }

    /// Waits until it was rung since the last time; false when it is over.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.is_rung && !state.is_over {
            state = self.rung.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_rung = false;
        !state.is_over
    }
}

/// What the main thread answers requests with.
pub(super) struct MainThread {
    pub(super) callable: Py<PyAny>,
    pub(super) queue: Arc<Queue>,
    pub(super) template: Template,
    pub(super) watch: Box<dyn ThreadWatch>,
    pub(super) bell: Arc<MainThreadWaker>,
}

impl MainThread {
    /// Serves until the queue closes, or until that is not waited for any more. Handlers of signals run between
    /// requests and, by Python itself, within.
    pub(super) fn serve(&self, py: Python<'_>) {
        let (callable, bell) = (self.callable.bind(py), self.bell.as_ref());
        // There is no other thread, so the time of this one is not measured, and it keeps its name.
        let mut seat = self.queue.seat(Arc::new(()));
        let mut environs = self.template.environs(py);
        loop {
            match self.queue.try_take(&mut seat) {
                Taken::Request(request, taken_at) => {
                    self.watch.busy(&request);
                    respond::answer(py, callable, &mut environs, *request, &self.queue, taken_at);
                    self.watch.idle();
                }
                Taken::Nothing => {
                    self.queue.announce();
                    if !py.detach(|| bell.wait()) {
                        return;
                    }
                    if let Err(error) = py.check_signals() {
                        tracing::error!(
                            traceback = describe(py, &error),
                            "a signal handler of the application raised"
                        );
                    }
                }
                Taken::Closed => return,
            }
        }
    }
}
