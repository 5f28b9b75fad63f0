//! What a server is told that runs by itself: as whom, in the background or not, and where it leaves its traces.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Description, RawOptions, checks};
use crate::limits::{UNIX_MODE, UNIX_MODE_MAX};

const NONE: &str = "none";
/// What an older supervisor leaves to the one it starts (`sys::process::HANDOVER_VARIABLE`).
const HANDOVER: &str = "SPAWNING_HANDOVER";

/// How a unix socket that is bound appears in the file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixSocket {
    /// Its permission bits: who may write may connect.
    pub mode: u32,
    /// Its owner, if not the user who starts the server.
    pub owner: Option<Account>,
}

impl Default for UnixSocket {
    fn default() -> Self {
        Self { mode: UNIX_MODE, owner: None }
    }
}

/// How the server fits among the other services of its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Serve in the background; the command ends when the first generation serves.
    pub daemonize: bool,
    /// The file that holds the supervisor's process id while it runs.
    pub pid_file: Option<PathBuf>,
    /// The file that standard output is appended to.
    pub stdout: Option<PathBuf>,
    /// The file that standard error is appended to.
    pub stderr: Option<PathBuf>,
    /// As whom to run once everything is bound.
    pub account: Option<Account>,
}

/// A user and a group by name or number, not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user.
    pub user: String,
    /// The group, if not the user's own.
    pub group: Option<String>,
}

/// Default and bounds of the options read here.
pub(super) fn describe(flag: &str) -> Option<Description> {
    let (default, bounds) = match flag {
        "--unix-mode" => (format!("{UNIX_MODE:04o}"), format!("0 to {UNIX_MODE_MAX:04o}, octal")),
        "--unix-owner" | "--chuid" => (NONE.to_owned(), "names or numbers".to_owned()),
        "--pidfile" | "--stdout" | "--stderr" => {
            (NONE.to_owned(), "a file in a writable directory".to_owned())
        }
        _ => return None,
    };
    Some(Description { default, bounds })
}

pub(super) fn unix_socket(raw: &RawOptions) -> Result<UnixSocket, ConfigError> {
    Ok(UnixSocket {
        mode: raw.unix_mode.as_deref().map_or(Ok(UNIX_MODE), mode)?,
        owner: raw.unix_owner.as_deref().map(|word| account("--unix-owner", word)).transpose()?,
    })
}

pub(super) fn service(raw: &RawOptions) -> Result<Service, ConfigError> {
    Ok(Service {
        daemonize: raw.daemonize,
        pid_file: raw.pidfile.as_deref().map(|word| file("--pidfile", word)).transpose()?,
        stdout: raw.stdout.as_deref().map(|word| file("--stdout", word)).transpose()?,
        stderr: raw.stderr.as_deref().map(|word| file("--stderr", word)).transpose()?,
        account: raw.chuid.as_deref().map(|word| account("--chuid", word)).transpose()?,
    })
}

/// Octal digits, as chmod(1) takes them.
fn mode(word: &str) -> Result<u32, ConfigError> {
    let hint = format!(
        "give permission bits from 0 to {UNIX_MODE_MAX:04o}, for example --unix-mode {UNIX_MODE:04o}"
    );
    let refused = |fault: String| ConfigError::new("--unix-mode", fault, &hint);
    if word.is_empty() || !word.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        return Err(refused(format!("{word:?} is not an octal number")));
    }
    let mode = u32::from_str_radix(word, 8).unwrap_or(u32::MAX);
    if mode > UNIX_MODE_MAX {
        return Err(refused(format!("{word} is too large, at most {UNIX_MODE_MAX:04o}")));
    }
    Ok(mode)
}

fn account(flag: &str, word: &str) -> Result<Account, ConfigError> {
    let (user, group) = word.split_once(':').map_or((word, None), |(user, group)| (user, Some(group)));
    let fault = match (user, group) {
        ("", _) => "the user is missing",
        (_, Some("")) => "the group is missing",
        (_, Some(group)) if group.contains(':') => "there is more than one colon",
        _ => return Ok(Account { user: user.to_owned(), group: group.map(str::to_owned) }),
    };
    let hint = format!("give USER or USER:GROUP, for example {flag} www-data");
    Err(ConfigError::new(flag, format!("{word:?}: {fault}"), hint))
}

fn file(flag: &str, word: &str) -> Result<PathBuf, ConfigError> {
    let hint = format!("name a file in a writable directory, for example {flag} /tmp/mysite");
    // A supervisor that takes over inherits the files, open, and may by now be a user that could not open them.
    let path =
        if std::env::var_os(HANDOVER).is_some() { checks::file(word) } else { checks::writable_file(word) };
    path.map_err(|fault| ConfigError::new(flag, fault, hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut RawOptions)) -> Result<(UnixSocket, Service), ConfigError> {
        let mut raw = RawOptions::default();
        change(&mut raw);
        Ok((unix_socket(&raw)?, service(&raw)?))
    }

    #[test]
    fn permission_bits_are_octal() {
        for (word, mode) in [("0660", 0o660), ("777", 0o777), ("0", 0), ("00666", 0o666)] {
            assert_eq!(read(|raw| raw.unix_mode = Some(word.into())).unwrap().0.mode, mode);
        }
        for (word, fault) in [
            ("1000", "1000 is too large, at most 0777"),
            ("77777777777777777777777", "is too large, at most 0777"),
            ("0o660", "\"0o660\" is not an octal number"),
            ("668", "\"668\" is not an octal number"),
            ("-1", "\"-1\" is not an octal number"),
            ("", "\"\" is not an octal number"),
        ] {
            let refused = read(|raw| raw.unix_mode = Some(word.into())).unwrap_err();
            assert!(refused.fault.contains(fault), "{word}: {}", refused.fault);
            assert!(refused.hint.contains("--unix-mode 0660"), "{}", refused.hint);
        }
    }

    #[test]
    fn an_account_is_a_user_and_perhaps_a_group() {
        let account = |user: &str, group: Option<&str>| {
            Some(Account { user: user.to_owned(), group: group.map(str::to_owned) })
        };
        assert_eq!(read(|raw| raw.chuid = Some("app".into())).unwrap().1.account, account("app", None));
        let (socket, _) = read(|raw| raw.unix_owner = Some("app:33".into())).unwrap();
        assert_eq!(socket.owner, account("app", Some("33")));
        for word in ["", ":", ":www-data", "app:", "a:b:c"] {
            assert_eq!(read(|raw| raw.chuid = Some(word.into())).unwrap_err().flag, "--chuid", "{word}");
            assert_eq!(
                read(|raw| raw.unix_owner = Some(word.into())).unwrap_err().flag,
                "--unix-owner",
                "{word}"
            );
        }
    }

    #[test]
    fn files_must_be_writable() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid");
        let word = path.to_str().unwrap();
        assert_eq!(read(|raw| raw.pidfile = Some(word.into())).unwrap().1.pid_file, Some(path.clone()));
        assert!(!path.exists(), "checking leaves no file behind");
        for word in ["", "src", "missing/app.pid", "/proc/app.pid"] {
            let refused = read(|raw| raw.pidfile = Some(word.into())).unwrap_err();
            assert_eq!(refused.flag, "--pidfile", "{word}");
            assert_eq!(read(|raw| raw.stderr = Some(word.into())).unwrap_err().flag, "--stderr", "{word}");
        }
    }
}
