//! Why an address cannot be had, in words for the person who can mend it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::Bind;
use crate::supervisor::start_failure::{EXIT_OPERATING_SYSTEM, EXIT_UNAVAILABLE, StartFailure};
use crate::sys::listener::Unfit;
use crate::sys::unix_listener::Refusal;

/// The failure to bind an address.
pub(super) fn explain(bind: &Bind, refusal: &Refusal) -> StartFailure {
    let (cause, hint) = match bind {
        Bind::Tcp(address) => tcp(*address, refusal),
        Bind::Unix(path) => unix(path, refusal),
        Bind::Abstract(name) => {
            (cause(refusal), format!("another process has that name, see which: ss -xlp src '@{name}'"))
        }
        Bind::Fd(_) => (cause(refusal), "start the server with that descriptor open".to_owned()),
    };
    let status = if is_scarcity(refusal) { EXIT_OPERATING_SYSTEM } else { EXIT_UNAVAILABLE };
    StartFailure { status, message: format!("cannot listen on {bind}: {cause}"), hint }
}

/// The failure to take over a socket that the server was started with.
pub(super) fn unfit(name: &str, unfit: Unfit, status: i32) -> StartFailure {
    let hint = match unfit {
        Unfit::Closed | Unfit::NotASocket => {
            "start the server with a listening socket under that number, as a socket unit of systemd does"
        }
        Unfit::NotAStream | Unfit::Family => {
            "use ListenStream= with a TCP address or a path in the socket unit"
        }
        Unfit::NotListening => {
            "use Accept=no in the socket unit, or call listen(2) before starting the server"
        }
    };
    StartFailure { status, message: format!("{name} cannot be listened on: {unfit}"), hint: hint.to_owned() }
}

fn cause(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Live => "another process listens there".to_owned(),
        Refusal::NotASocket => "the file exists and is not a socket".to_owned(),
        Refusal::Busy => "another process holds a lock on the directory".to_owned(),
        Refusal::Owner(error) => format!("it cannot be given to its owner: {error}"),
        Refusal::Other(error) => error.to_string(),
    }
}

fn is_scarcity(refusal: &Refusal) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let Refusal::Other(error) = refusal else { return false };
    error.kind() == io::ErrorKind::OutOfMemory || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

fn tcp(address: SocketAddr, refusal: &Refusal) -> (String, String) {
    let port = address.port();
    let kind = if let Refusal::Other(error) = refusal { error.kind() } else { io::ErrorKind::Other };
    let hint = match kind {
        io::ErrorKind::AddrInUse => {
            format!("another process listens there, see which: ss -ltnp 'sport = :{port}'")
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address, see which it has: ip address".to_owned()
        }
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 are privileged: choose --port 8080, start as root with --chuid USER, or allow them to \
             everybody: sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
        ),
        io::ErrorKind::Unsupported if address.is_ipv6() => {
            "IPv6 is disabled here: choose an IPv4 address, for example --host 0.0.0.0".to_owned()
        }
        _ => "see the limits of this process: ulimit -a".to_owned(),
    };
    (cause(refusal), hint)
}

fn unix(path: &Path, refusal: &Refusal) -> (String, String) {
    let directory = path.parent().unwrap_or(path).display();
    let path = path.display();
    let hint = match refusal {
        Refusal::Live => format!("see which: ss -xlp src {path}"),
        Refusal::NotASocket => format!("choose another path, or remove the file: rm {path}"),
        Refusal::Busy => format!("see which: fuser -v {directory}"),
        Refusal::Owner(_) => {
            "only root may give files away: start as root, or choose a group of yours as in --unix-owner USER:GROUP"
                .to_owned()
        }
        Refusal::Other(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!("the server must be able to write the directory: chown USER {directory}")
        }
        Refusal::Other(_) => format!("see the directory: ls -ld {directory}"),
    };
    (cause(refusal), hint)
}
