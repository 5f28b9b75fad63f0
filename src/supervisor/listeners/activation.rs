//! The sockets that systemd says it started the server with (`sd_listen_fds(3)`).

use std::fmt;
use std::os::fd::RawFd;

use crate::limits::BINDS_MAX;
use crate::supervisor::start_failure::{EXIT_USAGE, StartFailure};

/// The number of the first one.
const FIRST_FD: RawFd = 3;

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) number: RawFd,
    /// What its unit calls it, `FileDescriptorName=`.
    name: Option<String>,
}

impl fmt::Display for Announced {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "LISTEN_FDS: descriptor {}", self.number)?;
        self.name.iter().try_for_each(|name| write!(out, " ({name:?})"))
    }
}

/// Those that the environment announces to the process `pid`: what was meant for another is none of our business.
pub(super) fn announced(
    pid: u32,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Announced>, StartFailure> {
    let (Some(count), Some(to)) = (variable("LISTEN_FDS"), variable("LISTEN_PID")) else {
        return Ok(Vec::new());
    };
    if to.parse() != Ok(pid) {
        return Ok(Vec::new());
    }
    let count = count.parse().ok().filter(|count| *count <= BINDS_MAX).ok_or_else(|| StartFailure {
        status: EXIT_USAGE,
        message: format!("LISTEN_FDS: {count:?} is not a number of sockets, at most {BINDS_MAX}"),
        hint: "start the server by its socket unit, or without LISTEN_FDS in its environment".to_owned(),
    })?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(|name| Some(name).filter(|name| !name.is_empty()).map(str::to_owned));
    let sockets = (FIRST_FD..).zip(names.chain(std::iter::repeat(None)));
    Ok(sockets.take(count).map(|(number, name)| Announced { number, name }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let variable =
            |name: &str| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        match announced(42, variable) {
            Ok(sockets) => Ok(sockets.iter().map(ToString::to_string).collect()),
            Err(failure) => Err(failure.message),
        }
    }

    #[test]
    fn sockets_are_numbered_from_three_and_may_have_names() {
        let named = said(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "web::admin")]);
        let sockets = [r#"descriptor 3 ("web")"#, "descriptor 4", r#"descriptor 5 ("admin")"#];
        assert_eq!(named.unwrap(), sockets.map(|socket| format!("LISTEN_FDS: {socket}")));
        let nameless = said(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2")]);
        assert_eq!(nameless.unwrap(), ["LISTEN_FDS: descriptor 3", "LISTEN_FDS: descriptor 4"]);
    }

    #[test]
    fn sockets_of_another_process_are_left_alone() {
        for pairs in [
            &[][..],
            &[("LISTEN_FDS", "1")],
            &[("LISTEN_PID", "42")],
            &[("LISTEN_FDS", "1"), ("LISTEN_PID", "43")],
            &[("LISTEN_FDS", "x"), ("LISTEN_PID", "43")],
        ] {
            assert_eq!(said(pairs), Ok(Vec::new()), "{pairs:?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for count in ["x", "-1", "", "65"] {
            let refused = said(&[("LISTEN_FDS", count), ("LISTEN_PID", "42")]).unwrap_err();
            assert_eq!(refused, format!("LISTEN_FDS: {count:?} is not a number of sockets, at most 64"));
        }
    }
}
