//! What systemd is told of the server's life (`sd_notify(3)`), and that it is alive (`sd_watchdog_enabled(3)`).

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::limits::NOTIFY_TIMEOUT;
use crate::sys::clock;

/// The connection to systemd, if there is one; without it every message is dropped.
#[derive(Debug)]
pub(super) struct NotifySocket {
    systemd: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
    is_stopping: bool,
}

#[derive(Debug)]
struct Watchdog {
    pause: Duration,
    due: Instant,
}

impl NotifySocket {
    /// Reads the environment of this process.
    pub(super) fn from_environment() -> Self {
        Self::new(std::process::id(), Instant::now(), |name| std::env::var_os(name))
    }

    fn new(pid: u32, now: Instant, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let mut socket = Self { systemd: None, watchdog: None, is_stopping: false };
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return socket };
        match open(&name) {
            Ok(systemd) => socket.systemd = Some(systemd),
            Err(error) => tracing::warn!(?name, %error, "NOTIFY_SOCKET cannot be used"),
        }
        let number = |name| variable(name).and_then(|word| word.to_str()?.parse::<u64>().ok());
        let is_ours = variable("WATCHDOG_PID").is_none() || number("WATCHDOG_PID") == Some(pid.into());
        if let Some(interval_us) = number("WATCHDOG_USEC").filter(|interval_us| *interval_us > 0 && is_ours) {
            socket.watchdog = Some(Watchdog { pause: Duration::from_micros(interval_us) / 2, due: now });
        }
        socket
    }

    /// A generation serves, or an older one still does.
    pub(super) fn ready(&self, status: &str) {
        if !self.is_stopping {
            self.send(&format!("READY=1\nSTATUS={}", one_line(status)));
        }
    }

    /// A new generation loads.
    pub(super) fn reloading(&self) {
        if !self.is_stopping {
            let now_us = clock::monotonic_us();
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=loading a new generation"));
        }
    }

    /// The server finishes what it holds.
    pub(super) fn stopping(&mut self) {
        if !self.is_stopping {
            self.is_stopping = true;
            self.send("STOPPING=1\nSTATUS=finishing requests");
        }
    }

    /// Another supervisor is the main process from now on, and speaks for the service.
    pub(super) fn hand_over(&mut self, pid: u32) {
        self.send(&format!("MAINPID={pid}\nREADY=1"));
        (self.systemd, self.watchdog) = (None, None);
    }

    /// Why it will not serve.
    pub(super) fn failed(&self, reason: &str) {
        self.send(&format!("STATUS={}", one_line(reason)));
    }

    /// When [`NotifySocket::show_life`] must be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.due)
    }

    /// Shows that the loop turns, twice as often as systemd wants to see it.
    pub(super) fn show_life(&mut self, now: Instant) {
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.due <= now) else { return };
        watchdog.due = now + watchdog.pause;
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some((socket, systemd)) = &self.systemd else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), systemd) {
            tracing::warn!(%error, message, "cannot notify systemd");
        }
    }
}

/// A path, or a name in the abstract namespace behind an `@`.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        Some((b'/', _)) => SocketAddr::from_pathname(name)?,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is neither a path nor an abstract name",
            ));
        }
    };
    let socket = UnixDatagram::unbound()?;
    // A systemd that does not read must not hold up the server.
    socket.set_write_timeout(Some(NOTIFY_TIMEOUT))?;
    Ok((socket, address))
}

/// A line feed would begin another variable.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Systemd(UnixDatagram);

    impl Systemd {
        fn start(name: &str) -> (Self, String) {
            let name = format!("spawning-notify-{name}-{}", std::process::id());
            let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
            socket.set_nonblocking(true).unwrap();
            (Self(socket), format!("@{name}"))
        }

        fn received(&self) -> Vec<String> {
            let mut buffer = [0; 1024];
            let received =
                std::iter::from_fn(|| self.0.recv(&mut buffer).ok().map(|count| buffer[..count].to_vec()));
            received.map(|message| String::from_utf8(message).unwrap()).collect()
        }
    }

    fn socket(pairs: &[(&str, &str)], now: Instant) -> NotifySocket {
        NotifySocket::new(42, now, |name| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_life_is_told_in_order() {
        let (systemd, name) = Systemd::start("life");
        let mut socket = socket(&[("NOTIFY_SOCKET", &name)], Instant::now());
        assert_eq!(socket.due(), None);
        socket.ready("2 processes");
        socket.reloading();
        socket.ready("the reload failed: line\nREADY=1");
        socket.stopping();
        socket.stopping();
        socket.ready("too late");
        socket.reloading();
        let received = systemd.received();
        assert_eq!(received.len(), 4, "{received:?}");
        assert_eq!(received[0], "READY=1\nSTATUS=2 processes");
        assert!(received[1].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{received:?}");
        assert_eq!(received[2], "READY=1\nSTATUS=the reload failed: line READY=1");
        assert!(received[3].starts_with("STOPPING=1\n"), "{received:?}");
    }

    #[test]
    fn a_watchdog_sees_life_at_half_its_interval() {
        let (systemd, name) = Systemd::start("watchdog");
        let now = Instant::now();
        let variables =
            [("NOTIFY_SOCKET", name.as_str()), ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "42")];
        let mut watched = socket(&variables, now);
        for after_ms in [0, 1499, 1500, 2999, 3000] {
            watched.show_life(now + Duration::from_millis(after_ms));
        }
        assert_eq!(systemd.received(), ["WATCHDOG=1"; 3]);
        assert_eq!(watched.due(), Some(now + Duration::from_millis(4500)));
        let others = [("NOTIFY_SOCKET", name.as_str()), ("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "43")];
        assert_eq!(socket(&others, now).due(), None);
    }

    #[test]
    fn without_systemd_nothing_is_said() {
        for name in ["", "relative", "@", "vsock:2:1234"] {
            let mut socket = socket(&[("NOTIFY_SOCKET", name)], Instant::now());
            socket.ready("2 processes");
            socket.stopping();
        }
    }
}
