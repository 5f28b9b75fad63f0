//! Fields of a response that belong to the connection, hence to the server (PEP 3333, "Other HTTP Features").
//!
//! PEP 3333 calls them an error. Views that stream events, and those that hand on another server's response, set them
//! nevertheless, and other servers drop them: so does this one, saying so once for each field, unless it is strict.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::config::Config;
use crate::http::ResponseFault;

/// A process has one application, and nothing of this is looked at while that behaves.
static POLICY: OnceLock<Policy> = OnceLock::new();

struct Policy {
    is_strict: bool,
    application: String,
    /// The fields that were warned of: the server's own names, so there are few.
    warned: Mutex<BTreeSet<String>>,
}

/// Says how the application of this process is treated. Only the first call counts.
pub(super) fn configure(config: &Config) {
    let application = config.arguments.first().unwrap_or(&config.factory).clone();
    POLICY.get_or_init(|| Policy { is_strict: config.strict, application, warned: Mutex::default() });
}

/// Has a field that is refused by `fault` be dropped.
///
/// # Errors
/// `fault`, if the server is strict.
pub(super) fn dropped(fault: &ResponseFault) -> Result<(), ResponseFault> {
    let (Some(policy), ResponseFault::HopByHop(field)) = (POLICY.get(), fault) else {
        return Err(fault.clone());
    };
    if policy.is_strict {
        return Err(fault.clone());
    }
    let mut warned = policy.warned.lock().unwrap_or_else(PoisonError::into_inner);
    if warned.insert(field.to_ascii_lowercase()) {
        tracing::warn!(
            application = policy.application,
            field,
            "dropped a response field of the application: it belongs to the connection, which is the server's (PEP \
             3333); said once for each field; --strict answers 500 instead"
        );
    }
    Ok(())
}
