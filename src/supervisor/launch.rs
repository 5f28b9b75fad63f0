//! The starter of the server, until it serves: a person at a terminal, or a command that waits for a daemon.

use std::fs::File;
use std::io::ErrorKind::PermissionDenied;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;

use super::announcements::say;
use super::start_failure::{EXIT_OPERATING_SYSTEM, EXIT_UNAVAILABLE, StartFailure};
use crate::config::Service;
use crate::log;
use crate::sys::account::Identity;
use crate::sys::background::{Side, fork_daemon};
use crate::sys::output;
use crate::sys::standard_streams::{StandardStream, copy_of_error, discard_input, open_or_discard};

/// The connection to the starter.
#[derive(Debug, Default)]
pub(super) struct Launch {
    /// Where a command waits for the exit status that it shall return.
    waiting: Option<PipeWriter>,
    /// Where standard error led at first, when that is somewhere else by now and nothing serves yet.
    terminal: Option<File>,
    /// What was said before.
    said: Vec<String>,
}

/// Which process goes on.
#[derive(Debug)]
pub(super) enum LaunchedAs {
    /// The command, at its end with this status.
    Command(i32),
    /// The server.
    Server(Launch),
}

impl Launch {
    /// Goes into the background if told so. The command that then stays in the foreground waits there for
    /// [`Launch::serving`] or [`Launch::ended`].
    ///
    /// To be called while this process has one thread.
    pub(super) fn begin(daemonize: bool) -> io::Result<LaunchedAs> {
        if !daemonize {
            return Ok(LaunchedAs::Server(Self::default()));
        }
        let (status, waiting) = io::pipe()?;
        Ok(match fork_daemon()? {
            Side::Daemon => {
                log::adopt();
                LaunchedAs::Server(Self { waiting: Some(waiting), ..Self::default() })
            }
            Side::Starter => {
                drop(waiting);
                LaunchedAs::Command(wait_for(status))
            }
        })
    }

    /// Writes a line to the starter and to the log.
    pub(super) fn say(&mut self, line: &str) {
        say(line);
        match &mut self.terminal {
            // A terminal that is gone needs no answer.
            Some(terminal) => drop(output::write_now(terminal.as_fd(), format!("{line}\n").as_bytes())),
            None => self.said.push(line.to_owned()),
        }
    }

    /// Leads the standard streams to their files, before any worker inherits them. What has been said is repeated
    /// there.
    pub(super) fn redirect(&mut self, outputs: Outputs) -> io::Result<()> {
        if self.waiting.is_some() {
            discard_input()?;
        }
        if let Some(file) = outputs.stdout {
            StandardStream::Output.lead_to(&file)?;
        }
        if let Some(file) = outputs.stderr {
            self.terminal = Some(copy_of_error()?);
            StandardStream::Error.lead_to(&file)?;
            self.said.iter().for_each(|line| say(line));
        }
        Ok(())
    }

    /// The server serves, and releases its starter; false when the command did not wait so long.
    pub(super) fn serving(&mut self) -> bool {
        self.terminal = None;
        self.answer(0)
    }

    /// The server ends, perhaps before it ever served: then a command that waits has failed, even if it was stopped.
    pub(super) fn ended(&mut self, status: i32) {
        if status == 0 && self.waiting.is_some() {
            self.say("spawn: the server was stopped before it was ready");
            self.answer(EXIT_UNAVAILABLE);
        } else {
            self.answer(status);
        }
    }

    fn answer(&mut self, status: i32) -> bool {
        self.waiting.take().is_none_or(|mut waiting| waiting.write_all(&status.to_ne_bytes()).is_ok())
    }
}

/// Waits until the daemon serves or has ended.
fn wait_for(mut status: PipeReader) -> i32 {
    let mut bytes = [0; size_of::<i32>()];
    if status.read_exact(&mut bytes).is_ok() {
        return i32::from_ne_bytes(bytes);
    }
    say("spawn: the background server exited without giving a reason\nhint: start it without --daemonize");
    EXIT_OPERATING_SYSTEM
}

/// The files that the standard streams will lead to; `None` leaves a stream as it is.
#[derive(Debug)]
pub(super) struct Outputs {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Outputs {
    /// Opens the files of `--stdout` and `--stderr`; those that are new will belong to `owner`. The streams of a server
    /// that `takes_over` lead there already, should its user not be allowed to open the files.
    pub(super) fn open(
        service: &Service,
        owner: Option<&Identity>,
        takes_over: bool,
    ) -> Result<Self, StartFailure> {
        let open = |flag: &str, path: Option<&std::path::Path>| {
            if path.is_none() && !service.daemonize {
                return Ok(None);
            }
            let opened = open_or_discard(path, owner);
            if takes_over && opened.as_ref().is_err_and(|error| error.kind() == PermissionDenied) {
                return Ok(None);
            }
            opened.map(Some).map_err(|error| StartFailure {
                status: EXIT_OPERATING_SYSTEM,
                message: format!(
                    "{flag}: cannot open {}: {error}",
                    path.unwrap_or("/dev/null".as_ref()).display()
                ),
                hint: "name a file that the user who starts the server may write".to_owned(),
            })
        };
        Ok(Self {
            stdout: open("--stdout", service.stdout.as_deref())?,
            stderr: open("--stderr", service.stderr.as_deref())?,
        })
    }
}
