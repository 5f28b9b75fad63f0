//! Why the server does not even start: for a person at a terminal, not for a log.

use std::fmt;

/// Exit status for an option that is at fault, though only the operating system could tell (`EX_USAGE` of sysexits.h).
pub(super) const EXIT_USAGE: i32 = 64;
/// Exit status for an address that cannot be had (`EX_UNAVAILABLE` of sysexits.h).
pub(super) const EXIT_UNAVAILABLE: i32 = 69;
/// Exit status for what the operating system refuses (`EX_OSERR` of sysexits.h).
pub(super) const EXIT_OPERATING_SYSTEM: i32 = 71;

/// What failed, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StartFailure {
    /// The exit status of the server.
    pub(super) status: i32,
    /// What failed, and the likely cause.
    pub(super) message: String,
    /// The command or setting that mends it.
    pub(super) hint: String,
}

impl fmt::Display for StartFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spawn: {}\nhint: {}", self.message, self.hint)
    }
}
