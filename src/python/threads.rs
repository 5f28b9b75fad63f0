//! The loop of an application thread.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;

use super::application::Running;
use super::environ::Template;
use super::{interpreter, respond};
use crate::gateway::{Queue, Taken, ThreadWatch};

/// What `threading.Thread` runs. Threads are Python's own, so that `threading.enumerate`, profilers and coverage see
/// them.
#[pyclass(frozen, module = "spawning._core")]
pub(super) struct AppThread {
    callable: Py<PyAny>,
    queue: Arc<Queue>,
    running: Arc<Running>,
    template: Template,
    /// Only its own thread locks it, once.
    watch: Mutex<Box<dyn ThreadWatch>>,
}

impl AppThread {
    pub(super) fn new(
        callable: Py<PyAny>,
        queue: Arc<Queue>,
        running: Arc<Running>,
        template: Template,
        watch: Box<dyn ThreadWatch>,
    ) -> Self {
        Self { callable, queue, running, template, watch: Mutex::new(watch) }
    }

    /// Serves until the queue closes. The interpreter is let go only while there is nothing to do.
    fn serve(&self, py: Python<'_>) {
        let callable = self.callable.bind(py);
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seat = self.queue.seat(watch.begin());
        let mut environs = self.template.environs(py);
        loop {
            let mut taken = self.queue.try_take(&mut seat);
            if matches!(taken, Taken::Nothing) {
                taken = interpreter::detach_idle(py, || self.queue.take(&mut seat));
            }
            let Taken::Request(request, taken_at) = taken else { return };
            watch.busy(&request);
            respond::answer(py, callable, &mut environs, *request, &self.queue, taken_at);
            watch.idle();
        }
    }
}

#[pymethods]
impl AppThread {
    fn __call__(&self, py: Python<'_>) {
        self.running.enter();
        interpreter::enter(py);
        let _leave = Leave(&self.running);
        self.serve(py);
    }
}

/// Counts a thread out, however it ends.
struct Leave<'a>(&'a Running);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        interpreter::leave();
        self.0.leave();
    }
}
