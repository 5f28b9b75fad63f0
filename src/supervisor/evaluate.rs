//! Asks the config factory, in a process of its own, what it sets: no code of the user runs in the supervisor.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::announcements::say;
use super::generation::EXIT_LOAD_FAILED;
use super::identity::Identities;
use super::start_failure::{EXIT_OPERATING_SYSTEM, StartFailure};
use crate::config::{Config, FactoryOptions};
use crate::limits::FACTORY_ANSWER_BYTES_MAX;
use crate::sys::{process, wait};

/// What a shell reports of a program that an interrupt (SIGINT) ended.
const EXIT_INTERRUPTED: i32 = 130;
const SIGINT: i32 = 2;
const READ_BYTES: usize = 4096;

/// How much to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The config factory alone.
    Factory,
    /// The application, too.
    Application,
}

/// What the process is asked, as JSON on its standard input.
#[derive(Serialize)]
struct Question<'a> {
    factory: &'a str,
    options: FactoryOptions<'a>,
    load: bool,
}

/// Runs `command`, which is `python -m spawning.evaluate`, and returns what the factory sets, as JSON.
///
/// # Errors
/// The status to exit with, when the reason has been printed: 70 when the factory or the application cannot be loaded,
/// or not within the start timeout; 64 for a user that cannot be; 71 when the operating system refuses something; 130
/// after an interrupt.
pub fn evaluate(command: &[OsString], config: &Config, depth: Depth) -> Result<Vec<u8>, i32> {
    let mut command = command_line(command).map_err(|error| refused(&error))?;
    let started_by_supervisor = std::env::var_os(process::HANDOVER_VARIABLE).is_some();
    let identities = Identities::look_up(config, started_by_supervisor).map_err(|failure| told(&failure))?;
    if let Some(directory) = &config.application.directory {
        command.current_dir(directory).env("PWD", directory);
    }
    if let Some(identity) = identities.server {
        identity.assume_in(&mut command);
    }
    let mut child = ask(&mut command, config, depth).map_err(|error| refused(&error))?;
    // Then it waits for a change of what it cannot load, for as long as that takes.
    let waits = config.reload.dev && depth == Depth::Factory;
    let answer = receive(&mut child, (!waits).then_some(config.start_timeout));
    if !matches!(answer, Ok(Ok(_))) {
        // It may have ended by itself meanwhile.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| refused(&error))?;
    match answer.map_err(|error| refused(&error))? {
        Ok(answer) if status.success() => Ok(answer),
        Ok(_) => Err(ended(status, config)),
        Err(fault) => Err(failed(config, &fault)),
    }
}

fn command_line(words: &[OsString]) -> io::Result<Command> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    // Neither sockets that the server was started with nor what systemd tells it are a factory's business.
    process::close_all_on_exec()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    for variable in process::NOT_FOR_CHILDREN {
        command.env_remove(variable);
    }
    Ok(command)
}

fn ask(command: &mut Command, config: &Config, depth: Depth) -> io::Result<Child> {
    let options = FactoryOptions::from(config);
    let question = Question { factory: &config.factory, options, load: depth == Depth::Application };
    let question = serde_json::to_vec(&question)?;
    let mut child = command.spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that ends before it has read everything says why by its status.
        let _ = input.write_all(&question);
    }
    Ok(child)
}

/// What the child writes until it ends, or why that is not waited for.
fn receive(child: &mut Child, timeout: Option<Duration>) -> io::Result<Result<Vec<u8>, String>> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut answer = Vec::new();
    let Some(mut output) = child.stdout.take() else { return Ok(Ok(answer)) };
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if wait::readable(&[output.as_fd()], left)?.contains(&true) {
            let mut bytes = [0; READ_BYTES];
            let length = output.read(&mut bytes)?;
            if length == 0 {
                return Ok(Ok(answer));
            }
            answer.extend(bytes.iter().take(length));
        }
        if answer.len() > FACTORY_ANSWER_BYTES_MAX {
            return Ok(Err(format!(
                "its answer is too long, at most {FACTORY_ANSWER_BYTES_MAX} bytes of JSON"
            )));
        }
        if left.is_some_and(|left| left.is_zero()) {
            let timeout = timeout.unwrap_or_default();
            return Ok(Err(format!("it gave no answer within {} s", timeout.as_secs_f64())));
        }
    }
}

/// A child that exits with a status has said why on standard error.
fn ended(status: ExitStatus, config: &Config) -> i32 {
    match status.signal() {
        None => EXIT_LOAD_FAILED,
        Some(SIGINT) => EXIT_INTERRUPTED,
        Some(_) => failed(config, &format!("ended by {status}")),
    }
}

fn failed(config: &Config, fault: &str) -> i32 {
    say(&format!("spawn: cannot load the application: the config factory {:?}: {fault}", config.factory));
    EXIT_LOAD_FAILED
}

fn refused(error: &io::Error) -> i32 {
    let failure = StartFailure {
        status: EXIT_OPERATING_SYSTEM,
        message: format!("cannot ask the config factory: {error}"),
        hint: "see the limits of this process: ulimit -a".to_owned(),
    };
    told(&failure)
}

fn told(failure: &StartFailure) -> i32 {
    say(&failure.to_string());
    failure.status
}
