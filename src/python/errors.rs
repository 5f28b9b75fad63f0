//! Python's exceptions as text for a log.

use pyo3::prelude::*;

/// Causes of causes that are looked at.
const CAUSES_MAX: usize = 16;

/// Whether an exception is a client's doing: what reading a streamed body raises, or what was raised from it.
pub(super) fn is_client_error(py: Python<'_>, error: &PyErr) -> bool {
    let kind = py.import("spawning.errors").and_then(|errors| errors.getattr("ClientError"));
    let Ok(kind) = kind else { return false };
    let mut next = Some(error.clone_ref(py));
    for _ in 0..CAUSES_MAX {
        let Some(error) = next else { return false };
        if error.value(py).is_instance(&kind).unwrap_or(false) {
            return true;
        }
        next = error.cause(py);
    }
    false
}

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
