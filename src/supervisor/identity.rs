//! As whom the server runs: root until everything is bound and open, then the user of `--chuid`, for good.

use std::ffi::OsString;
use std::path::Path;

use super::start_failure::{EXIT_OPERATING_SYSTEM, EXIT_USAGE, StartFailure};
use crate::config::{AccessLog, Account, Config};
use crate::sys::account::{Identity, effective_uid};
use crate::sys::file;

/// Those whom the options name, looked up.
#[derive(Debug)]
pub(super) struct Identities {
    /// Whom the server becomes.
    pub(super) server: Option<Identity>,
    /// Whom unix sockets are given to; those of root would be out of the server's own reach.
    pub(super) sockets: Option<Identity>,
}

impl Identities {
    /// Looks everybody up while nothing is bound yet. Who is `started_by_supervisor` is that user already.
    pub(super) fn look_up(config: &Config, started_by_supervisor: bool) -> Result<Self, StartFailure> {
        let account = config.service.account.as_ref().filter(|_| !started_by_supervisor);
        let server = account.map(|account| look_up("--chuid", account)).transpose()?;
        let uid = effective_uid();
        if server.is_some() && uid != 0 {
            return Err(StartFailure {
                status: EXIT_USAGE,
                message: format!("--chuid: only root may become another user, and this is user {uid}"),
                hint: "start the server as root, or as that user without --chuid".to_owned(),
            });
        }
        let owner = config.unix_socket.owner.as_ref();
        let owner = owner.map(|account| look_up("--unix-owner", account)).transpose()?;
        Ok(Self { sockets: owner.or_else(|| server.clone()), server })
    }
}

fn look_up(flag: &str, account: &Account) -> Result<Identity, StartFailure> {
    Identity::look_up(&account.user, account.group.as_deref()).map_err(|unknown| StartFailure {
        status: EXIT_USAGE,
        message: format!("{flag}: {unknown}"),
        hint: "see who is there: getent passwd, getent group".to_owned(),
    })
}

/// Becomes `identity` for good, and sees whether what the workers will need is within its reach.
pub(super) fn assume(identity: &Identity, config: &Config, command: &[OsString]) -> Result<(), StartFailure> {
    let name = identity.name.clone().unwrap_or_else(|| identity.uid.to_string());
    let refused = |message: String, hint: String| StartFailure {
        status: EXIT_OPERATING_SYSTEM,
        message: format!("--chuid: {message}"),
        hint,
    };
    identity.assume().map_err(|error| {
        let hint = "see the capabilities of this process (CAP_SETUID, CAP_SETGID): capsh --print";
        refused(format!("cannot become {name}: {error}"), hint.to_owned())
    })?;
    if let Some(python) = command.first().map(Path::new)
        && let Err(error) = file::may_execute(python)
    {
        let hint = "install Python and the virtualenv where that user may read them, not below /root";
        return Err(refused(format!("{name} cannot run {}: {error}", python.display()), hint.to_owned()));
    }
    if let AccessLog::File(path) = &config.access_log
        && let Err(error) = file::append(path, None)
    {
        let path = path.display();
        return Err(refused(format!("{name} cannot write {path}: {error}"), format!("chown {name} {path}")));
    }
    Ok(())
}
