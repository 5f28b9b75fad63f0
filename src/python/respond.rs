//! From a request to its finished response: calls the application and sends what it returns (PEP 3333).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pyo3::exceptions::{PyAssertionError, PyConnectionError, PyStopIteration};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use super::FileWrapper;
use super::environ::Environs;
use super::errors::{describe, is_client_error};
use super::fork::leave_if_child;
use super::green::Green;
use super::panics::{log_panic, survive};
use super::response::{Response, Shortfall};
use super::start_response::{StartResponse, body_bytes, refused};
use super::upgrade::UpgradeHandle;
use crate::gateway::{FlushPolicy, Lent, Queue, Request};
use crate::limits::LENT_BYTES_MIN;

/// Answers one request that was taken at `taken_at`, whatever the application does.
pub(super) fn answer<'py>(
    py: Python<'py>,
    application: &Bound<'py, PyAny>,
    environs: &mut Environs<'py>,
    request: Request,
    queue: &Queue,
    taken_at: Instant,
) {
    let answered = survive(|| {
        if let Some(prepared) = Prepared::new(py, environs, request, None) {
            prepared.call(application, Pace::Shared { queue, taken_at });
        }
    });
    if let Err(bug) = answered {
        // The reply, dropped on the way, has closed the connection.
        log_panic(None, &bug);
    }
}

/// What the application is to be called with.
pub(super) struct Prepared<E, S> {
    environ: E,
    start_response: S,
}

/// The same between two green threads.
pub(super) type UnboundCall = Prepared<Py<PyDict>, Py<StartResponse>>;

impl<'py> Prepared<Bound<'py, PyDict>, Bound<'py, StartResponse>> {
    /// `None` when memory is exhausted, or the environ cannot be built: then the request is answered already, or its
    /// reply, dropped, closes the connection.
    pub(super) fn new(
        py: Python<'py>,
        environs: &mut Environs<'py>,
        request: Request,
        green: Option<Arc<Green>>,
    ) -> Option<Self> {
        let Request { head, body, connection, forwarded, early, reply, .. } = request;
        let environ = survive(|| {
            let environ = environs.build(py, &head, body, &connection, forwarded.as_deref())?;
            match early {
                Some(early) => UpgradeHandle::offer(environ, reply.upgrade(), early),
                None => Ok(environ),
            }
        });
        let start_response = Bound::new(py, StartResponse::new(Response::new(reply, head), green));
        match (environ, start_response) {
            (Ok(Ok(environ)), Ok(start_response)) => Some(Self { environ, start_response }),
            (Err(bug), Ok(start_response)) => {
                give_up(&start_response, &bug, FlushPolicy::Immediate);
                None
            }
            (_, Err(error)) | (Ok(Err(error)), _) => {
                tracing::error!(%error, "cannot build an environ");
                None
            }
        }
    }

    /// For another green thread.
    pub(super) fn unbind(self) -> UnboundCall {
        Prepared { environ: self.environ.unbind(), start_response: self.start_response.unbind() }
    }

    /// Calls the application and sends what it returns.
    pub(super) fn call(self, application: &Bound<'py, PyAny>, pace: Pace<'_>) {
        let py = application.py();
        let call = ApplicationCall { start_response: self.start_response, pace };
        let conversed = survive(|| {
            if let Err(error) = call.call(application, &self.environ) {
                call.fail(py, &error);
            }
        });
        if let Err(bug) = conversed {
            give_up(&call.start_response, &bug, call.flush_policy());
        }
    }
}

impl UnboundCall {
    /// On the green thread that will call the application.
    pub(super) fn bind(self, py: Python<'_>) -> Prepared<Bound<'_, PyDict>, Bound<'_, StartResponse>> {
        Prepared { environ: self.environ.into_bound(py), start_response: self.start_response.into_bound(py) }
    }
}

/// Who else waits for the thread that answers: it decides with how much haste that is done.
pub(super) enum Pace<'a> {
    /// The requests in a queue; this one was taken at that time.
    Shared { queue: &'a Queue, taken_at: Instant },
    /// None: a green thread is never the only one.
    Alone,
}

impl Pace<'_> {
    fn flush_policy(&self) -> FlushPolicy {
        match self {
            Self::Shared { queue, taken_at } => FlushPolicy::for_load(queue.length(), taken_at.elapsed()),
            Self::Alone => FlushPolicy::Immediate,
        }
    }
}

struct ApplicationCall<'a, 'py> {
    start_response: Bound<'py, StartResponse>,
    pace: Pace<'a>,
}

impl<'py> ApplicationCall<'_, 'py> {
    fn flush_policy(&self) -> FlushPolicy {
        self.pace.flush_policy()
    }

    fn call(&self, application: &Bound<'py, PyAny>, environ: &Bound<'py, PyDict>) -> PyResult<()> {
        let returned = application.call1((environ, &self.start_response));
        if leave_if_child(application.py(), &returned) {
            return Ok(());
        }
        let result = returned?;
        let sent = self.send(&result);
        // PEP 3333: close() is called however the iteration ended.
        let closed = close(&result);
        leave_if_child(application.py(), &closed);
        match (sent, closed) {
            (Err(first), Err(second)) => {
                self.log(result.py(), &first);
                Err(second)
            }
            (sent, closed) => sent.and(closed),
        }
    }

    /// Sends everything an application returned.
    fn send(&self, result: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Some(pieces) = Pieces::of(result) {
            return self.send_pieces(&pieces);
        }
        let Ok(wrapper) = result.cast_exact::<FileWrapper>() else { return self.send_iterable(result) };
        if self.send_file(wrapper)? {
            return Ok(());
        }
        self.start_response.try_borrow_mut()?.response.allow_overlong();
        self.send_iterable(result)
    }

    /// A list or tuple: nothing of the application's runs any more, so the length of the whole is known.
    fn send_pieces(&self, pieces: &Pieces<'_, 'py>) -> PyResult<()> {
        match pieces.length() {
            0 => self.finish(b""),
            1 => self.finish_with(body_bytes(&pieces.get(0)?)?),
            length => {
                let mut whole = Vec::new();
                for index in 0..length {
                    whole.extend_from_slice(body_bytes(&pieces.get(index)?)?.as_bytes());
                }
                self.finish(&whole)
            }
        }
    }

    /// A plain file, from where it stands to its end. False for anything else, which is to be read.
    fn send_file(&self, wrapper: &Bound<'py, FileWrapper>) -> PyResult<bool> {
        let mut slot = self.start_response.try_borrow_mut()?;
        if slot.response.is_head_sent() {
            return Ok(false);
        }
        let Some(part) = wrapper.borrow().plain_file(wrapper.py()) else { return Ok(false) };
        must_be_started(&slot.response)?;
        let shortfall =
            slot.response.finish_file(part.file, part.offset, part.length_bytes, self.flush_policy());
        log_shortfall(shortfall.map_err(refused)?);
        Ok(true)
    }

    fn send_iterable(&self, result: &Bound<'py, PyAny>) -> PyResult<()> {
        let mut pieces = result.try_iter()?;
        // Over a list of one, as in Django's HttpResponse, the first piece is the whole.
        if is_over_one(&pieces)
            && let Some(piece) = pieces.next()
        {
            return self.finish_with(body_bytes(&piece?)?);
        }
        for piece in pieces {
            if leave_if_child(result.py(), &piece) {
                return Ok(());
            }
            let piece = piece?;
            let piece = body_bytes(&piece)?;
            if piece.as_bytes().is_empty() {
                continue;
            }
            let mut slot = self.start_response.try_borrow_mut()?;
            must_be_started(&slot.response)?;
            slot.push(piece.py(), piece.as_bytes())?;
            if slot.response.is_sated() {
                break;
            }
        }
        self.finish(b"")
    }

    /// Ends with the only piece of a body.
    fn finish_with(&self, whole: &Bound<'py, PyBytes>) -> PyResult<()> {
        let mut slot = self.start_response.try_borrow_mut()?;
        if whole.as_bytes().len() < LENT_BYTES_MIN || slot.response.is_head_sent() {
            drop(slot);
            return self.finish(whole.as_bytes());
        }
        must_be_started(&slot.response)?;
        let body = Lent::new(HeldBytes::new(whole));
        log_shortfall(slot.response.finish_lent(body, self.flush_policy()).map_err(refused)?);
        Ok(())
    }

    fn finish(&self, last: &[u8]) -> PyResult<()> {
        let mut slot = self.start_response.try_borrow_mut()?;
        must_be_started(&slot.response)?;
        let shortfall = slot.response.finish(last, self.flush_policy());
        log_shortfall(shortfall.map_err(refused)?);
        Ok(())
    }

    /// The application's fault: 500 if nothing is sent yet, a cut connection otherwise, and one traceback.
    fn fail(&self, py: Python<'py>, error: &PyErr) {
        // An application that holds on to start_response elsewhere cannot keep the client waiting: the borrow ends
        // with the call that took it.
        let Ok(mut slot) = self.start_response.try_borrow_mut() else { return };
        if slot.response.is_taken_over() && is_farewell(py, error) {
            return slot.response.fail(self.flush_policy());
        }
        log_exception(py, &slot.response, error);
        slot.response.fail(self.flush_policy());
    }

    /// Logs an exception that another one follows.
    fn log(&self, py: Python<'py>, error: &PyErr) {
        if let Ok(slot) = self.start_response.try_borrow() {
            log_exception(py, &slot.response, error);
        }
    }
}

/// A panic's price: 500 if nothing is sent yet, a cut connection otherwise, and a line in the log.
fn give_up(start_response: &Bound<'_, StartResponse>, bug: &str, flush_policy: FlushPolicy) {
    // The borrows of the panicked code ended with it.
    let Ok(mut slot) = start_response.try_borrow_mut() else { return log_panic(None, bug) };
    log_panic(slot.response.request_head(), bug);
    slot.response.fail(flush_policy);
}

/// Set when bytes came back on a thread without the interpreter: they are freed when a thread attaches to it next.
static RETURNED: AtomicBool = AtomicBool::new(false);

/// Whether bytes that were lent have come back since the last call, and perhaps wait for a thread to attach.
pub(super) fn have_lent_bytes_returned() -> bool {
    RETURNED.swap(false, Ordering::SeqCst)
}

/// The bytes of a Python object, without the interpreter.
struct HeldBytes {
    bytes: &'static [u8],
    /// Taken when this is dropped.
    owner: Option<Py<PyBytes>>,
}

impl HeldBytes {
    fn new(owner: &Bound<'_, PyBytes>) -> Self {
        let bytes = owner.as_bytes();
        // SAFETY: a bytes object neither changes nor moves, and `owner` keeps it alive as long as this exists; no code
        // gets at `bytes` but by a borrow of this.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) };
        Self { bytes, owner: Some(owner.clone().unbind()) }
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        drop(self.owner.take());
        RETURNED.store(true, Ordering::SeqCst);
    }
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

/// A list or tuple of pieces of a body.
enum Pieces<'a, 'py> {
    List(&'a Bound<'py, PyList>),
    Tuple(&'a Bound<'py, PyTuple>),
}

impl<'a, 'py> Pieces<'a, 'py> {
    fn of(result: &'a Bound<'py, PyAny>) -> Option<Self> {
        let list = result.cast_exact::<PyList>().ok().map(Self::List);
        list.or_else(|| result.cast_exact::<PyTuple>().ok().map(Self::Tuple))
    }

    fn length(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Tuple(tuple) => tuple.len(),
        }
    }

    fn get(&self, index: usize) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::List(list) => list.get_item(index),
            Self::Tuple(tuple) => tuple.get_item(index),
        }
    }
}

/// Whether an iterator is Python's own over a list or tuple with one element left: then asking it runs no code of the
/// application, and its answer is exact.
fn is_over_one(iterator: &Bound<'_, pyo3::types::PyIterator>) -> bool {
    // SAFETY: the type of a live object is alive, and the two static types always are.
    let is_builtin = unsafe {
        let kind = ffi::Py_TYPE(iterator.as_ptr());
        kind == &raw mut ffi::PyListIter_Type || kind == &raw mut ffi::PyTupleIter_Type
    };
    // SAFETY: any object may be asked for its length hint.
    is_builtin && unsafe { ffi::PyObject_LengthHint(iterator.as_ptr(), -1) } == 1
}

fn close(result: &Bound<'_, PyAny>) -> PyResult<()> {
    if Pieces::of(result).is_some() {
        return Ok(());
    }
    match result.getattr_opt(intern!(result.py(), "close"))? {
        Some(close) => close.call0().map(drop),
        None => Ok(()),
    }
}

fn must_be_started(response: &Response) -> PyResult<()> {
    if response.is_started() || response.is_taken_over() {
        return Ok(());
    }
    Err(PyAssertionError::new_err("the application did not call start_response before its body (PEP 3333)"))
}

/// Whether an exception is how applications leave that have taken over their connection: other servers want
/// `StopIteration`, and a client that is gone is an everyday matter.
fn is_farewell(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyStopIteration>(py) || error.is_instance_of::<PyConnectionError>(py)
}

fn log_exception(py: Python<'_>, response: &Response, error: &PyErr) {
    let request = response.request_head().map_or_else(String::new, |head| {
        format!("{} {}", String::from_utf8_lossy(head.method()), String::from_utf8_lossy(head.target()))
    });
    if is_client_error(py, error) {
        tracing::info!(request, reason = %error, "the request body could not be read to its end: the client's fault");
    } else {
        tracing::error!(request, traceback = describe(py, error).trim_end(), "the application raised");
    }
}

fn log_shortfall(shortfall: Option<Shortfall>) {
    match shortfall {
        None => {}
        Some(Shortfall::Overlong { declared_bytes }) => {
            tracing::warn!(
                declared_bytes,
                "the body is longer than its Content-Length; the rest was not sent"
            );
        }
        Some(Shortfall::Short { declared_bytes, sent_bytes }) => {
            tracing::warn!(
                declared_bytes,
                sent_bytes,
                "the body is shorter than its Content-Length; the connection was cut"
            );
        }
    }
}
