//! The limit on locked memory (`RLIMIT_MEMLOCK`), against which the rings of `io_uring` are counted.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit as far as this process may, for itself and its children, and returns it in bytes.
///
/// # Errors
/// The operating system's; none is expected.
pub fn raise() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let bytes = raise().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_MEMLOCK).unwrap(), (bytes, bytes));
    }
}
