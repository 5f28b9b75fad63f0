//! Where to listen: the words of `--host`, `--port` and `--bind`, and what they mean.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::{self, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions, checks, ranges};
use crate::limits::{BINDS_MAX, UNIX_NAME_BYTES_MAX};

const FLAG: &str = "--bind";
const FORMS: &str = "HOST:PORT, [IPV6]:PORT, :PORT, unix:PATH, unix:@NAME or fd://NUMBER";

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bind {
    /// A TCP address; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// A unix socket at an absolute path.
    Unix(PathBuf),
    /// A unix socket without a file: its name in the abstract namespace (unix(7)), without the `@`.
    Abstract(String),
    /// A listening socket that the server was started with, by its descriptor.
    Fd(RawFd),
}

impl fmt::Display for Bind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
            Self::Abstract(name) => write!(out, "unix:@{name}"),
            Self::Fd(fd) => write!(out, "fd://{fd}"),
        }
    }
}

impl Bind {
    /// Whether the kernel would refuse one of the two because of the other.
    pub(super) fn collides_with(&self, other: &Self) -> bool {
        let (Self::Tcp(one), Self::Tcp(two)) = (self, other) else { return self == other };
        let covers = one.ip() == two.ip() || one.ip().is_unspecified() || two.ip().is_unspecified();
        one.port() == two.port() && one.port() != 0 && one.is_ipv4() == two.is_ipv4() && covers
    }
}

/// Default and bounds of the option read here.
pub(super) fn describe(flag: &str) -> Option<Description> {
    (flag == FLAG).then(|| Description { default: "--host and --port".to_owned(), bounds: FORMS.to_owned() })
}

/// All addresses: that of `--host` and `--port`, if either is given or no `--bind` is, then each `--bind` in order.
pub(super) fn read_all(raw: &RawOptions, port: u16) -> Result<Vec<Bind>, ConfigError> {
    let mut binds = Vec::new();
    if raw.bind.is_empty() || raw.host.is_some() || raw.port.is_some() {
        binds.push(Bind::Tcp(checks::address(raw.host.as_deref(), port)?));
    }
    for word in &raw.bind {
        let bind = read(word)?;
        if let Some(other) = binds.iter().find(|other| bind.collides_with(other)) {
            return Err(error(format!("{word:?} is bound already by {other}"), "name every address once"));
        }
        binds.push(bind);
    }
    if binds.len() > BINDS_MAX {
        let fault = format!("{} addresses are too many, at most {BINDS_MAX}", binds.len());
        return Err(error(fault, "bind fewer, and let a proxy have the others"));
    }
    Ok(binds)
}

fn read(word: &str) -> Result<Bind, ConfigError> {
    let bind = if let Some(number) = word.strip_prefix("fd://") {
        ranges::INHERITED_FD.read(Some(number)).map(Bind::Fd).map_err(|error| error.fault)
    } else if let Some(name) = word.strip_prefix("unix:@") {
        unix_name(name.len(), "name").map(|()| Bind::Abstract(name.to_owned()))
    } else if let Some(path) = word.strip_prefix("unix:") {
        unix_path(path)
    } else {
        tcp(word)
    };
    bind.map_err(|fault| {
        error(format!("{word:?}: {fault}"), &format!("give {FORMS}, for example {FLAG} :8080"))
    })
}

fn tcp(word: &str) -> Result<Bind, String> {
    let (host, port) = word.rsplit_once(':').ok_or("a port is missing")?;
    if host.contains(':') && !host.starts_with('[') {
        return Err("an IPv6 address needs brackets before its port".to_owned());
    }
    let port = ranges::PORT.read(Some(port)).map_err(|error| format!("port {}", error.fault))?;
    checks::address(Some(host), port).map(Bind::Tcp).map_err(|error| error.fault)
}

/// The path behind `unix:`, which is made absolute because it is removed at the end, wherever the server is then.
pub(super) fn unix_path(word: &str) -> Result<Bind, String> {
    unix_name(word.len(), "path")?;
    if word.ends_with('/') {
        return Err("the path of a socket cannot end in a slash".to_owned());
    }
    let path = path::absolute(word).map_err(|cause| cause.to_string())?;
    unix_name(path.as_os_str().len(), "absolute path")?;
    match path.parent() {
        Some(directory) if directory.is_dir() => Ok(Bind::Unix(path)),
        directory => Err(format!("there is no directory {}", directory.unwrap_or(&path).display())),
    }
}

fn unix_name(bytes: usize, noun: &str) -> Result<(), String> {
    match bytes {
        0 => Err(format!("the {noun} is empty")),
        1..=UNIX_NAME_BYTES_MAX => Ok(()),
        _ => Err(format!("the {noun} is too long with {bytes} bytes, at most {UNIX_NAME_BYTES_MAX}")),
    }
}

fn error(fault: String, hint: &str) -> ConfigError {
    ConfigError::new(FLAG, fault, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binds(host: Option<&str>, port: Option<&str>, words: &[&str]) -> Result<Vec<Bind>, ConfigError> {
        let raw = RawOptions {
            host: host.map(str::to_owned),
            port: port.map(str::to_owned),
            bind: words.iter().map(|word| (*word).to_owned()).collect(),
            ..RawOptions::default()
        };
        read_all(&raw, port.map_or(8080, |port| port.parse().unwrap()))
    }

    fn text(binds: &[Bind]) -> String {
        binds.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_form_is_read() {
        for (word, bind) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("localhost:80", "127.0.0.1:80"),
            ("[::1]:8080", "[::1]:8080"),
            ("[::]:0", "[::]:0"),
            (":8080", "0.0.0.0:8080"),
            ("unix:/tmp/a b.sock", "unix:/tmp/a b.sock"),
            ("unix:///tmp/app.sock", "unix:/tmp/app.sock"),
            ("unix:@name/with:all", "unix:@name/with:all"),
            ("fd://3", "fd://3"),
        ] {
            assert_eq!(text(&binds(None, None, &[word]).unwrap()), bind, "{word}");
        }
        let relative = std::env::current_dir().unwrap().join("app.sock");
        assert_eq!(binds(None, None, &["unix:app.sock"]), Ok(vec![Bind::Unix(relative)]));
    }

    #[test]
    fn host_and_port_come_first_and_only_when_given_or_alone() {
        assert_eq!(text(&binds(None, None, &[]).unwrap()), "127.0.0.1:8080");
        assert_eq!(text(&binds(None, None, &["unix:@a", "[::1]:81"]).unwrap()), "unix:@a [::1]:81");
        assert_eq!(text(&binds(None, Some("81"), &["unix:@a"]).unwrap()), "127.0.0.1:81 unix:@a");
        assert_eq!(text(&binds(Some("::1"), None, &["unix:@a"]).unwrap()), "[::1]:8080 unix:@a");
    }

    #[test]
    fn what_cannot_be_bound_is_refused_with_all_forms() {
        let long = format!("unix:@{}", "x".repeat(UNIX_NAME_BYTES_MAX + 1));
        for (word, fault) in [
            ("", "a port is missing"),
            ("localhost", "a port is missing"),
            ("8080", "a port is missing"),
            ("127.0.0.1:", "port \"\" is not a whole number"),
            ("127.0.0.1:65536", "port 65536 is too large, at most 65535"),
            ("127.0.0.1:-1", "port -1 is too small, at least 0"),
            ("::1:8080", "an IPv6 address needs brackets"),
            ("[::1:8080", "cannot be resolved"),
            ("nul\0byte:80", "cannot be resolved"),
            ("unix:", "the path is empty"),
            ("unix:@", "the name is empty"),
            ("unix:/tmp/", "cannot end in a slash"),
            ("unix:/no/such/directory/app.sock", "there is no directory /no/such/directory"),
            (&long, "too long with 108 bytes, at most 107"),
            (&long.replace('@', "/"), "too long with 109 bytes, at most 107"),
            ("fd://2", "2 is too small, at least 3"),
            ("fd://1048576", "1048576 is too large, at most 1048575"),
            ("fd://stdin", "\"stdin\" is not a whole number"),
        ] {
            let refused = binds(None, None, &[word]).unwrap_err();
            assert_eq!(refused.flag, "--bind", "{word}");
            assert!(refused.fault.contains(fault), "{word}: {}", refused.fault);
            assert!(refused.hint.contains("unix:@NAME"), "{}", refused.hint);
            assert_eq!(refused.to_string().lines().count(), 2, "{refused}");
        }
    }

    #[test]
    fn an_address_is_bound_once() {
        for (words, other) in [
            (["127.0.0.1:80", "127.0.0.1:80"], "127.0.0.1:80"),
            (["127.0.0.1:80", ":80"], "127.0.0.1:80"),
            (["[::]:80", "[::1]:80"], "[::]:80"),
            (["unix:@a", "unix:@a"], "unix:@a"),
            (["fd://3", "fd://3"], "fd://3"),
        ] {
            let refused = binds(None, None, &words).unwrap_err();
            assert!(refused.fault.ends_with(&format!("is bound already by {other}")), "{}", refused.fault);
        }
        for words in [["127.0.0.1:0", "127.0.0.1:0"], [":80", "[::]:80"], ["unix:@a", "unix:/tmp/a"]] {
            assert_eq!(binds(None, None, &words).unwrap().len(), 2);
        }
    }

    #[test]
    fn there_is_a_bound_on_addresses() {
        let words: Vec<String> = (0..=BINDS_MAX).map(|index| format!("unix:@{index}")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert_eq!(binds(None, None, &words[..BINDS_MAX]).unwrap().len(), BINDS_MAX);
        let refused = binds(None, None, &words).unwrap_err();
        assert_eq!(refused.fault, "65 addresses are too many, at most 64");
    }
}
