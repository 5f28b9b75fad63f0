//! Spawning: a WSGI server of forked processes, pinned executors and application threads.
//!
//! `docs/architecture.md` shows the house on one page. This file is the extension module `spawning._core`: what
//! Python may call, a dozen lines each.

pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod http;
pub mod limits;
pub mod log;
#[cfg(feature = "python")]
pub mod python;
pub mod reactor;
pub mod scheduler;
pub mod scoreboard;
pub mod status;
pub mod supervisor;
pub mod sys;
pub mod worker;

/// The server itself.
#[cfg(feature = "python")]
#[pyo3::pymodule(gil_used = false)]
mod _core {
    use std::env;
    use std::ffi::OsString;
    use std::io;
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStringExt;
    use std::sync::Arc;

    use pyo3::prelude::*;

    use crate::bootstrap::{StatusResources, WorkerResources};
    use crate::cli::{CliAction, CliSettings, Exit};
    use crate::config::Logging;
    use crate::config::{Config, Extra};
    use crate::gateway::Application;
    use crate::limits::LOG_RETRY_PAUSE;
    use crate::python::{PythonApplication, tell_children_by};
    use crate::supervisor::Commands;
    use crate::supervisor::evaluate::{Depth, evaluate};
    use crate::sys::standard_streams::StandardStream;
    use crate::sys::{affinity, fork, output};
    use crate::{log, supervisor};

    /// The exit status of a worker that could not even begin (`EX_SOFTWARE` of sysexits.h).
    const EXIT_NO_BOOTSTRAP: i32 = 70;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    /// Does what the words of a command line say; returns the exit status. `interpreter` starts this interpreter when
    /// the words of what it shall run are added; `python` names it and its version.
    #[pyfunction]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands over what it made")]
    fn main(py: Python<'_>, words: Vec<String>, interpreter: Vec<Vec<u8>>, python: String) -> i32 {
        let interpreter: Vec<OsString> = interpreter.into_iter().map(OsString::from_vec).collect();
        py.detach(|| {
            let status = spawn(&words, &interpreter, &python).unwrap_or_else(|exit| exit.report());
            log::finish();
            status
        })
    }

    /// Reads the options, asks the config factory, and serves, or does what else the options say.
    fn spawn(words: &[String], interpreter: &[OsString], python: &str) -> Result<i32, Exit> {
        let run = |module: &str| [interpreter, &["-m".into(), module.into()]].concat();
        let processes = affinity::default_processes();
        let mut settings = CliSettings::read(words, env::vars_os())?;
        let mut config = settings.config(processes)?;
        must_be_installed(&settings, &config)?;
        let action = settings.action()?;
        let depth = if action == CliAction::Check { Depth::Application } else { Depth::Factory };
        if depth == Depth::Application || !config.has_default_factory() {
            match evaluate(&run("spawning.evaluate"), &config, depth) {
                Ok(answer) => settings.add_answer(&answer, &config.factory)?,
                Err(status) => return Ok(status),
            }
            config = settings.config(processes)?;
            must_be_installed(&settings, &config)?;
        }
        match action {
            CliAction::Check => {
                Err(Exit::answer("the options are valid and the application loads\n".to_owned()))
            }
            CliAction::PrintConfig => Err(Exit::answer(settings.table(&config))),
            CliAction::Serve => {
                log::init(config.logging);
                let commands = Commands { worker: run("spawning.worker"), status: run("spawning.status") };
                Ok(supervisor::run(config, commands, python))
            }
        }
    }

    /// Refuses a configuration that needs a library of Python which is not there.
    fn must_be_installed(settings: &CliSettings, config: &Config) -> Result<(), Exit> {
        let is_missing = |py: Python<'_>, extra: &Extra| {
            let find_spec = py.import("importlib.util")?.getattr("find_spec")?;
            Ok::<bool, PyErr>(find_spec.call1((extra.module,))?.is_none())
        };
        // One that cannot even be looked for will say why when it is imported.
        let missing = |extra: &Extra| Python::attach(|py| is_missing(py, extra)).unwrap_or(false);
        config
            .extras()
            .into_iter()
            .find(missing)
            .map_or(Ok(()), |extra| Err(settings.refuse(extra.missing())))
    }

    /// Lives a worker's life, started through descriptor `bootstrap`; returns the exit status.
    #[pyfunction]
    fn worker(py: Python<'_>, bootstrap: i32) -> i32 {
        let prepared = py.detach(|| {
            let resources = WorkerResources::receive(bootstrap)
                .inspect(|resources| log::init(resources.bootstrap.config.logging))
                .inspect_err(|_| log::init(Logging::default()))?;
            log::start_writer();
            tell_children_by(fork::is_child);
            let application = PythonApplication::new(
                resources.bootstrap.config.clone(),
                resources.bootstrap.slot,
                resources.bootstrap.private_directory.clone(),
            )?;
            Ok::<_, io::Error>((resources, Arc::new(application) as Arc<dyn Application>))
        });
        let status = match prepared {
            Ok((resources, application)) => py.detach(|| crate::worker::run(resources, &application)),
            Err(error) => {
                tracing::error!(%error, "this process cannot be a worker; `spawn` starts them");
                EXIT_NO_BOOTSTRAP
            }
        };
        py.detach(log::finish);
        status
    }

    /// Logs that what the application prints to `stream` is lost from now on.
    #[pyfunction]
    fn output_fails(stream: &str, reason: &str) {
        tracing::error!(
            stream,
            reason,
            "cannot write what the application prints; lines are lost until it can be written again"
        );
    }

    /// Logs what keeps this process, which has drained, from ending: the names of threads and what all of it does.
    #[pyfunction]
    fn end_is_held(threads: &str, stacks: &str) {
        if threads.is_empty() {
            tracing::warn!(
                traceback = stacks,
                "this worker has drained, but what the application does at exit lasts"
            );
        } else {
            tracing::warn!(
                threads,
                traceback = stacks,
                hint = "daemon=True, or end them when the process ends (threading, atexit)",
                "this worker has drained, but threads of the application that are no daemons keep it from ending"
            );
        }
    }

    /// Logs that `stream` can be written again, and how many lines were lost.
    #[pyfunction]
    fn output_works(stream: &str, lines: u64) {
        tracing::warn!(stream, lines, "what the application prints can be written again; lines were lost");
    }

    /// Waits, without the interpreter, until the standard stream of that number can be written or something is wrong.
    #[pyfunction]
    fn wait_until_writable(py: Python<'_>, descriptor: i32) {
        let stream = if descriptor == 1 { StandardStream::Output } else { StandardStream::Error };
        py.detach(|| output::wait_until_writable(stream.as_fd(), LOG_RETRY_PAUSE));
    }

    /// Has processes that the application forks lose the handlers which the signals of these numbers have now.
    #[pyfunction]
    fn reset_in_children(signals: Vec<i32>) {
        for number in signals {
            fork::reset_in_children(number);
        }
    }

    /// Is the status process, started through descriptor `bootstrap`; returns the exit status.
    #[pyfunction]
    fn status(py: Python<'_>, bootstrap: i32) -> i32 {
        py.detach(|| match StatusResources::receive(bootstrap) {
            Ok(resources) => {
                log::init(resources.bootstrap.config.logging);
                log::start_writer();
                let status = crate::status::run(resources);
                log::finish();
                status
            }
            Err(error) => {
                log::init(Logging::default());
                tracing::error!(%error, "this process cannot be the status process; `spawn` starts it");
                EXIT_NO_BOOTSTRAP
            }
        })
    }
}
