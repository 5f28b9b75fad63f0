//! What a panic of the server's costs: the request on which it happened, and never the thread that answers it.
//!
//! The panic hook has logged where it happened when it arrives here. One that Python's code has raised again comes
//! without a word of the hook's.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::http::RequestHead;

/// Does `work` for one request.
///
/// # Errors
/// What a panic within said. Whatever `work` has touched of the request is given up by the caller.
pub(super) fn survive<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| said(payload.as_ref()))
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("without a message").to_owned()
}

/// Logs that a panic has cost a request.
pub(super) fn log_panic(head: Option<&RequestHead>, bug: &str) {
    let request = head.map_or_else(String::new, |head| {
        format!("{} {}", String::from_utf8_lossy(head.method()), String::from_utf8_lossy(head.target()))
    });
    tracing::error!(request, bug, "the server panicked while it answered a request; please report this");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_says_is_kept() {
        assert_eq!(survive(|| 7), Ok(7));
        assert_eq!(survive(|| panic!("of a {}", "bug")), Err::<(), _>("of a bug".to_owned()));
        assert_eq!(survive(|| panic!("plain")), Err::<(), _>("plain".to_owned()));
        let silent = survive(|| std::panic::panic_any(7));
        assert_eq!(silent, Err::<(), _>("without a message".to_owned()));
    }
}
