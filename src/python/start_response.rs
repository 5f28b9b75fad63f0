//! `start_response` and the `write` it returns (PEP 3333, "The `start_response()` Callable").

use std::sync::Arc;

use pyo3::exceptions::{PyAssertionError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::string::PyStringData;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use super::green::Green;
use super::hop_by_hop;
use super::interpreter;
use super::response::Response;
use crate::http::ResponseFault;

/// The callable an application begins its response with. It owns the response until that is finished.
#[pyclass(module = "spawning._core", freelist = 64)]
pub(crate) struct StartResponse {
    pub(super) response: Response,
    called: bool,
    /// Set in green mode, where a slow client is waited for without the thread.
    green: Option<Arc<Green>>,
}

#[pymethods]
impl StartResponse {
    /// Says status and header fields; returns `write(data)`.
    #[pyo3(signature = (status, headers, exc_info = None, /))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.try_borrow_mut()?.start(status, headers, exc_info)?;
        slf.getattr(intern!(slf.py(), "write"))
    }

    /// Sends a part of the body at once.
    fn write(&mut self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = body_bytes(data)?;
        self.push(py, data.as_bytes())
    }
}

impl StartResponse {
    pub(super) fn new(response: Response, green: Option<Arc<Green>>) -> Self {
        Self { response, called: false, green }
    }

    fn start(
        &mut self,
        status: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        exc_info: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if let Some(exc_info) = exc_info {
            if self.response.is_head_sent() {
                return Err(reraised(exc_info));
            }
        } else if self.called {
            return Err(PyAssertionError::new_err(
                "start_response was called twice without exc_info (PEP 3333)",
            ));
        }
        // A call that failed counts: PEP 3333 says that the next must give exc_info.
        self.called = true;
        let status = text(status, "the status")?;
        self.response.start(latin_1(status, "the status")?).map_err(refused)?;
        let headers = headers.cast::<PyList>().map_err(|_| {
            PyTypeError::new_err(format!(
                "headers must be a list of tuples (PEP 3333), not {}",
                type_name(headers)
            ))
        })?;
        for field in headers {
            self.add(&field)?;
        }
        self.response.set_started();
        Ok(())
    }

    fn add(&mut self, field: &Bound<'_, PyAny>) -> PyResult<()> {
        let pair = field.cast::<PyTuple>().ok().filter(|pair| pair.len() == 2).ok_or_else(|| {
            PyTypeError::new_err(format!(
                "a header must be a tuple (name, value) (PEP 3333), not {}",
                type_name(field)
            ))
        })?;
        let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
        let (name, value) = (text(&name, "a header's name")?, text(&value, "a header's value")?);
        let (name, value) = (latin_1(name, "a header's name")?, latin_1(value, "a header's value")?);
        match self.response.header(name, value) {
            Err(fault @ ResponseFault::HopByHop(_)) => hop_by_hop::dropped(&fault).map_err(refused),
            added => added.map_err(refused),
        }
    }

    /// Sends a part of the body, and waits, without the interpreter, while the client has too much to read.
    pub(super) fn push(&mut self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        if !self.response.is_started() {
            return Err(PyAssertionError::new_err("write() before start_response() (PEP 3333)"));
        }
        self.response.push(data).map_err(refused)?;
        if let Some(reply) = self.response.congested() {
            match &self.green {
                None => interpreter::detach(py, || reply.wait_for_room()),
                Some(green) => green.wait_for_room(py, reply)?,
            }
        }
        Ok(())
    }
}

/// A piece of a body, which PEP 3333 wants to be `bytes`.
pub(super) fn body_bytes<'a, 'py>(data: &'a Bound<'py, PyAny>) -> PyResult<&'a Bound<'py, PyBytes>> {
    data.cast::<PyBytes>().map_err(|_| {
        PyTypeError::new_err(format!("a response body must be bytes (PEP 3333), not {}", type_name(data)))
    })
}

/// The exception that `exc_info` holds, to be raised again.
fn reraised(exc_info: &Bound<'_, PyAny>) -> PyErr {
    match exc_info.get_item(1) {
        Ok(exception) if !exception.is_none() => PyErr::from_value(exception),
        Ok(_) => PyAssertionError::new_err("exc_info holds no exception, and the head is already sent"),
        Err(error) => error,
    }
}

fn text<'a, 'py>(value: &'a Bound<'py, PyAny>, what: &str) -> PyResult<&'a Bound<'py, PyString>> {
    value.cast::<PyString>().map_err(|_| {
        PyTypeError::new_err(format!("{what} must be a str (PEP 3333), not {}", type_name(value)))
    })
}

/// The bytes a `str` stands for (PEP 3333, "Unicode Issues").
fn latin_1<'a>(text: &'a Bound<'_, PyString>, what: &str) -> PyResult<&'a [u8]> {
    // SAFETY: the data is that of a live str, which is immutable, and is kept no longer than the str.
    match unsafe { text.data() }? {
        PyStringData::Ucs1(bytes) => Ok(bytes),
        PyStringData::Ucs2(_) | PyStringData::Ucs4(_) => {
            Err(PyValueError::new_err(format!("{what} holds a character that is not in latin-1: {text:?}")))
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
pub(super) fn refused(fault: ResponseFault) -> PyErr {
    PyValueError::new_err(fault.to_string())
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string())
}
