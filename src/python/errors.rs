//! Python's exceptions as text for a log.

use pyo3::prelude::*;

/// The whole traceback of an exception, as Python prints it, causes included.
pub(super) fn describe(py: Python<'_>, error: &PyErr) -> String {
    let formatted = py.import("traceback").and_then(|traceback| {
        // In three parts: before Python 3.12 the value alone does not hold the traceback yet.
        let parts = (error.get_type(py), error.value(py), error.traceback(py));
        let lines = traceback.call_method1("format_exception", parts)?;
        "".into_pyobject(py)?.call_method1("join", (lines,))?.extract::<String>()
    });
    // An exception whose own text raises must not hide that there was one.
    formatted.unwrap_or_else(|_| error.get_type(py).to_string())
}
