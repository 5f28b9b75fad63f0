//! Where the status process listens: the words of `--status-host` and `--status-port`.

use super::{Bind, ConfigError, Description, RawOptions, bind, checks, ranges};

const PORT: &str = "--status-port";
const HOST: &str = "--status-host";

/// Default and bounds of the options read here.
pub(super) fn describe(flag: &str) -> Option<Description> {
    let (default, bounds) = match flag {
        PORT => ("off", format!("{}, or unix:PATH", ranges::STATUS_PORT.bounds_text())),
        HOST => ("127.0.0.1", "an IPv4 or IPv6 address, or a host name".to_owned()),
        _ => return None,
    };
    Some(Description { default: default.to_owned(), bounds })
}

/// The address, if there is a port; it may be none of those that the application is served at.
pub(super) fn read(raw: &RawOptions, binds: &[Bind]) -> Result<Option<Bind>, ConfigError> {
    let host = raw.status_host.as_deref();
    let Some(word) = raw.status_port.as_deref() else {
        // Of no use alone, and yet no place for a mistake.
        return address(host, 0).map(|_| None);
    };
    let status = match word.strip_prefix("unix:") {
        Some(path) => bind::unix_path(path)
            .map_err(|fault| ConfigError::new(PORT, format!("{word:?}: {fault}"), hint()))?,
        None => address(host, ranges::STATUS_PORT.read(Some(word))?)?,
    };
    match binds.iter().find(|bind| status.collides_with(bind)) {
        None => Ok(Some(status)),
        Some(other) => {
            let fault = format!("{word} is where the application is served ({other})");
            Err(ConfigError::new(PORT, fault, hint()))
        }
    }
}

fn address(host: Option<&str>, port: u16) -> Result<Bind, ConfigError> {
    checks::address(host, port).map(Bind::Tcp).map_err(|ConfigError { fault, hint, .. }| {
        ConfigError::new(HOST, fault, hint.replace("--host", HOST).replace("--port", PORT))
    })
}

fn hint() -> String {
    format!("choose a port of its own, for example {PORT} {}", ranges::STATUS_PORT.default_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(port: Option<&str>, host: Option<&str>, binds: &[&str]) -> Result<Option<String>, ConfigError> {
        let raw = RawOptions {
            status_port: port.map(str::to_owned),
            status_host: host.map(str::to_owned),
            bind: binds.iter().map(|word| (*word).to_owned()).collect(),
            ..RawOptions::default()
        };
        let binds = bind::read_all(&raw, 8080)?;
        read(&raw, &binds).map(|bind| bind.map(|bind| bind.to_string()))
    }

    #[test]
    fn there_is_none_without_a_port() {
        assert_eq!(status(None, None, &[]), Ok(None));
        assert_eq!(status(None, Some("::1"), &[]), Ok(None));
        assert_eq!(status(None, Some("1.2.3.4:5"), &[]).unwrap_err().flag, "--status-host");
    }

    #[test]
    fn it_is_bound_at_the_loopback_address_unless_told_otherwise() {
        for (port, host, bind) in [
            ("9000", None, "127.0.0.1:9000"),
            ("0", None, "127.0.0.1:0"),
            ("65535", Some("::1"), "[::1]:65535"),
            ("9000", Some(""), "0.0.0.0:9000"),
            ("unix:/tmp/status.sock", None, "unix:/tmp/status.sock"),
        ] {
            assert_eq!(status(Some(port), host, &[]), Ok(Some(bind.to_owned())));
        }
    }

    #[test]
    fn it_is_not_bound_where_the_application_is_served() {
        for (port, binds) in [
            ("8080", &[][..]),
            ("81", &["0.0.0.0:81"]),
            ("82", &["[::1]:82", "127.0.0.1:82"]),
            ("unix:/tmp/a", &["unix:/tmp/a"]),
        ] {
            let refused = status(Some(port), None, binds).unwrap_err();
            assert_eq!(refused.flag, "--status-port");
            assert!(refused.fault.contains("is where the application is served"), "{refused}");
            assert_eq!(refused.to_string().lines().count(), 2, "{refused}");
        }
        assert_eq!(status(Some("81"), None, &["[::1]:81"]), Ok(Some("127.0.0.1:81".to_owned())));
        assert_eq!(status(Some("0"), None, &["127.0.0.1:0"]), Ok(Some("127.0.0.1:0".to_owned())));
    }

    #[test]
    fn mistakes_are_told_with_the_bound_they_cross() {
        for (port, host, flag, fault) in [
            ("65536", None, "--status-port", "at most 65535"),
            ("-1", None, "--status-port", "at least 0"),
            ("http", None, "--status-port", "not a whole number"),
            ("unix:", None, "--status-port", "the path is empty"),
            ("unix:/no/such/directory/s", None, "--status-port", "there is no directory"),
            ("81", Some("127.0.0.1:81"), "--status-host", "has a port in it"),
        ] {
            let refused = status(Some(port), host, &[]).unwrap_err();
            assert_eq!(refused.flag, flag, "{refused}");
            assert!(refused.fault.contains(fault), "{refused}");
            assert!(!refused.hint.contains("--port") || refused.hint.contains("--status-port"), "{refused}");
        }
    }
}
