//! Green mode: each request is a green thread of eventlet or gevent on the main thread, between whose turns their hub
//! waits for whatever they wait for.
//!
//! The hub waits for a bell, too, which executors ring when they have published requests. Nothing here may wait in any
//! other way than through the hub; and no other thread may be given a reference to something on this stack, of which
//! green threads move parts aside when they switch.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::environ::{Environs, Template};
use super::errors::describe;
use super::respond::{Pace, Prepared, UnboundCall};
use crate::config;
use crate::gateway::{Queue, Reply, Request, Seat, Taken, ThreadWatch};
use crate::limits::GREEN_REQUESTS_PER_TURN_MAX;
use crate::sys::fork;

/// The requests that green threads of this process work on.
pub(super) struct Green {
    requests_max: usize,
    bell: HubWaker,
    /// What `spawning.green` calls a hub.
    hub: OnceLock<Py<PyAny>>,
    /// `spawning.green_threads` that answer requests.
    crew: OnceLock<Py<PyAny>>,
    /// Requests begun and not ended.
    running: AtomicUsize,
    /// Requests begun ever.
    begun: AtomicU64,
    /// Nothing will come any more.
    is_closing: AtomicBool,
    is_abandoned: AtomicBool,
    /// The green threads of running requests by the requests' numbers.
    threads: OnceLock<Py<PyDict>>,
    watch: OnceLock<Mutex<Box<dyn ThreadWatch>>>,
}

/// What the main thread answers requests with.
pub(super) struct GreenService {
    pub(super) callable: Py<PyAny>,
    pub(super) queue: Arc<Queue>,
    pub(super) template: Template,
}

/// What there is to do after one look at the queue.
enum NextStep {
    /// Begin more requests, once others had their turn.
    Continue,
    /// Wait for the bell.
    Wait,
    /// Wait for the requests that run.
    Closed,
}

impl Green {
    /// # Errors
    /// The operating system's, when descriptors run out.
    pub(super) fn new(config: &config::GreenSettings) -> io::Result<Self> {
        Ok(Self {
            requests_max: config.requests_max,
            bell: HubWaker::new()?,
            hub: OnceLock::new(),
            crew: OnceLock::new(),
            running: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            threads: OnceLock::new(),
            watch: OnceLock::new(),
        })
    }

    /// Makes the hub that waits for the bell. Once, on the main thread, when the library has patched Python's own.
    pub(super) fn begin(
        self: &Arc<Self>,
        py: Python<'_>,
        library: config::GreenLibrary,
        queue: &Queue,
        watch: Option<Box<dyn ThreadWatch>>,
    ) -> PyResult<()> {
        let arguments = (library.module(), self.bell.reader.as_raw_fd());
        let (hub, crew) = py.import("spawning.green")?.call_method1("hub", arguments)?.extract()?;
        // Set only here: an application is started once.
        let _ = self.hub.set(hub);
        let _ = self.crew.set(crew);
        let _ = self.threads.set(PyDict::new(py).unbind());
        if let Some(watch) = watch {
            let _ = self.watch.set(Mutex::new(watch));
        }
        let green = Arc::clone(self);
        queue.ring(move || green.bell.ring());
        Ok(())
    }

    /// Serves until the queue closes and every request has ended, or until that is not waited for any more. On the main
    /// thread.
    ///
    /// # Errors
    /// The hub's.
    pub(super) fn serve(self: &Arc<Self>, py: Python<'_>, service: &GreenService) -> PyResult<()> {
        let Some(hub) = self.hub.get().map(|hub| hub.bind(py)) else { return Ok(()) };
        let mut environs = service.template.environs(py);
        // All green threads are one thread: nothing can be overtaken, so its time is not measured.
        let mut seat = service.queue.seat(Arc::new(()));
        loop {
            for event in self.bell.answer() {
                event.call_method0(py, intern!(py, "set"))?;
            }
            let turn = self.begin_requests(py, service, &mut environs, &mut seat);
            let is_over = matches!(turn, NextStep::Closed) && self.running.load(Ordering::SeqCst) == 0;
            if self.is_abandoned.load(Ordering::SeqCst) {
                return Ok(());
            }
            if is_over {
                return self.crew.get().map_or(Ok(()), |crew| crew.call_method0(py, "end").map(drop));
            }
            let waited = match turn {
                NextStep::Continue => hub.call_method0(intern!(py, "pause")),
                NextStep::Wait | NextStep::Closed => hub.call_method0(intern!(py, "wait")),
            };
            match waited {
                Ok(_) => {}
                // A green thread of the application wanted to exit: its libraries raise that here.
                Err(error) if !error.is_instance_of::<PyException>(py) => {
                    tracing::error!(
                        traceback = describe(py, &error),
                        "a green thread of the application raised"
                    );
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn begin_requests<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        service: &GreenService,
        environs: &mut Environs<'py>,
        seat: &mut Seat,
    ) -> NextStep {
        for _ in 0..GREEN_REQUESTS_PER_TURN_MAX {
            if self.running.load(Ordering::SeqCst) >= self.requests_max {
                return NextStep::Wait;
            }
            match service.queue.try_take(seat) {
                Taken::Request(request, _) => self.begin_request(py, service, environs, *request),
                Taken::Nothing => return NextStep::Wait,
                Taken::Closed => {
                    self.is_closing.store(true, Ordering::SeqCst);
                    return NextStep::Closed;
                }
            }
        }
        NextStep::Continue
    }

    fn begin_request<'py>(
        self: &Arc<Self>,
        py: Python<'py>,
        service: &GreenService,
        environs: &mut Environs<'py>,
        request: Request,
    ) {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.running.fetch_add(1, Ordering::SeqCst);
        let running_request = RunningRequest { green: Arc::clone(self), number };
        if let Some(watch) = self.watch.get() {
            watch.lock().unwrap_or_else(PoisonError::into_inner).busy(&request);
        }
        request.reply.begin_as(number);
        let Some(prepared) = Prepared::new(py, environs, request, Some(Arc::clone(self))) else { return };
        let request = GreenRequest {
            callable: service.callable.clone_ref(py),
            waiting: Mutex::new(Some((prepared.unbind(), running_request))),
        };
        let begun = self
            .crew
            .get()
            .map_or(Ok(()), |crew| crew.call_method1(py, intern!(py, "begin"), (request,)).map(drop));
        if let Err(error) = begun {
            tracing::error!(traceback = describe(py, &error), "cannot begin a green thread");
        }
    }

    /// Green thread: lets others run until the client of `reply` has taken enough, or is gone.
    pub(super) fn wait_for_room(self: &Arc<Self>, py: Python<'_>, reply: &Reply) -> PyResult<()> {
        let Some(hub) = self.hub.get() else { return Ok(()) };
        let event = hub.call_method0(py, intern!(py, "event"))?;
        let (green, roused) = (Arc::clone(self), event.clone_ref(py));
        reply.when_room(move || green.bell.rouse(roused));
        event.call_method0(py, intern!(py, "wait")).map(drop)
    }

    /// Other threads: has the hub turn once, without a request.
    pub(super) fn ring(&self) {
        self.bell.ring();
    }

    /// Other threads: returns once the hub has turned.
    pub(super) fn probe(&self) {
        self.bell.ring_and_wait();
    }

    /// Other threads: the requests that run are not waited for any more.
    pub(super) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::SeqCst);
        self.bell.ring();
    }

    /// The green thread of the request of that number, if it runs.
    pub(super) fn thread<'py>(&self, py: Python<'py>, number: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.threads.get().map_or(Ok(None), |threads| threads.bind(py).get_item(number))
    }
}

/// One running request, counted out when dropped.
struct RunningRequest {
    green: Arc<Green>,
    number: u64,
}

impl RunningRequest {
    fn enter(&self, py: Python<'_>) -> PyResult<()> {
        let (Some(threads), Some(hub)) = (self.green.threads.get(), self.green.hub.get()) else {
            return Ok(());
        };
        let current = hub.call_method0(py, intern!(py, "current"))?;
        threads.bind(py).set_item(self.number, current)
    }
}

impl Drop for RunningRequest {
    fn drop(&mut self) {
        let green = &self.green;
        if let Some(threads) = green.threads.get() {
            // It is not there when it was never begun.
            Python::attach(|py| drop(threads.bind(py).del_item(self.number)));
        }
        let running = green.running.fetch_sub(1, Ordering::SeqCst);
        if running == 1
            && let Some(watch) = green.watch.get()
        {
            watch.lock().unwrap_or_else(PoisonError::into_inner).idle();
        }
        if running >= green.requests_max || green.is_closing.load(Ordering::SeqCst) {
            green.bell.ring();
        }
    }
}

/// What a green thread runs.
#[pyclass(frozen, module = "spawning._core")]
struct GreenRequest {
    callable: Py<PyAny>,
    waiting: Mutex<Option<(UnboundCall, RunningRequest)>>,
}

#[pymethods]
impl GreenRequest {
    fn __call__(&self, py: Python<'_>) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((prepared, running_request)) = waiting else { return };
        if let Err(error) = running_request.enter(py) {
            tracing::error!(traceback = describe(py, &error), "cannot tell the current green thread");
        }
        prepared.bind(py).call(self.callable.bind(py), Pace::Alone);
    }
}

/// How other threads reach the hub.
struct HubWaker {
    writer: UnixStream,
    /// Readable when it was rung.
    reader: UnixStream,
    is_rung: AtomicBool,
    /// Events whose green threads may go on.
    roused: Mutex<Vec<Py<PyAny>>>,
    /// How often it was answered.
    answers: Mutex<u64>,
    answered: Condvar,
}

impl HubWaker {
    fn new() -> io::Result<Self> {
        let (writer, reader) = UnixStream::pair()?;
        writer.set_nonblocking(true)?;
        reader.set_nonblocking(true)?;
        fork::give_up_in_children(writer.as_fd());
        fork::give_up_in_children(reader.as_fd());
        Ok(Self {
            writer,
            reader,
            is_rung: AtomicBool::new(false),
            roused: Mutex::default(),
            answers: Mutex::new(0),
            answered: Condvar::new(),
        })
    }

    fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::SeqCst) {
            // One byte always fits: the last was read before the bell could be rung again.
            let _ = (&self.writer).write(&[0]);
        }
    }

    fn rouse(&self, event: Py<PyAny>) {
        self.roused.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.ring();
    }

    fn ring_and_wait(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *answers;
        self.ring();
        while *answers == before {
            answers = self.answered.wait(answers).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wake-ups after this call wake again; the caller must check for work after it.
    fn answer(&self) -> Vec<Py<PyAny>> {
        while matches!((&self.reader).read(&mut [0; 16]), Ok(count) if count > 0) {}
        self.is_rung.store(false, Ordering::SeqCst);
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.answered.notify_all();
        std::mem::take(&mut *self.roused.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
