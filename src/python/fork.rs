//! Processes that the application forks and that come back from it: they must not answer what their parent answers.

use std::sync::OnceLock;

use pyo3::prelude::*;

use super::errors::describe;
use crate::sys::process;

/// The exit status of a forked process that Python cannot end.
const EXIT_FAILED: i32 = 1;

/// How a process knows that it was forked by the application.
static IS_CHILD: OnceLock<fn() -> bool> = OnceLock::new();

/// Says how a process knows that it was forked by the application. Once, before the application is loaded.
pub fn tell_children_by(is_child: fn() -> bool) {
    // Told twice, it was the same.
    let _ = IS_CHILD.set(is_child);
}

/// To be called when the application has returned, or raised: ends the process if the application forked it. Returns
/// whether it was forked and goes on all the same, as a green thread that was copied does; nothing is to be sent then.
pub(super) fn leave_if_child<T>(py: Python<'_>, outcome: &PyResult<T>) -> bool {
    if !IS_CHILD.get().is_some_and(|is_child| is_child()) {
        return false;
    }
    let error = outcome.as_ref().err().map(|error| error.value(py));
    if let Err(error) = py.import("spawning.fork").and_then(|fork| fork.call_method1("leave", (error,))) {
        tracing::error!(traceback = describe(py, &error), "a process that the application forked ends badly");
        process::end_at_once(EXIT_FAILED);
    }
    true
}
