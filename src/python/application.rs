//! The WSGI application of this process: loaded on the main thread, served by threads that Python knows.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::environ::Template;
use super::errors::describe;
use super::green::{Green, GreenService};
use super::interpreter_lock::{InterpreterLock, has_lock};
use super::main_thread::{self, MainThread};
use super::threads::AppThread;
use super::{Input, hop_by_hop, interpreter, respond};
use crate::config::{Config, FactoryOptions};
use crate::gateway::{Application, InterpreterUse, LoadFailure, Queue, ThreadWatch};
use crate::limits::SWITCH_INTERVAL;
use crate::sys::fork;

/// The exit status of a worker whose hub cannot go on (`EX_SOFTWARE` of sysexits.h).
const EXIT_HUB_FAILED: i32 = 70;
/// What `spawning.signals` writes where Python writes the numbers of signals, none of which is this.
const DRAIN_ASKED: u8 = 0;

/// A WSGI application and the threads that serve it.
pub struct PythonApplication {
    config: Config,
    slot: usize,
    private_directory: Option<PathBuf>,
    callable: OnceLock<Py<PyAny>>,
    /// Whether there is no lock of the interpreter that lets one thread compute at a time.
    is_parallel: AtomicBool,
    running: Arc<Running>,
    signals: (UnixStream, UnixStream),
    green: Option<Arc<Green>>,
    /// What the main thread serves in green mode, until it does.
    service: Mutex<Option<GreenService>>,
    /// What wakes the main thread with `--main-thread`.
    bell: Option<Arc<main_thread::MainThreadWaker>>,
    /// What the main thread then serves, until it does.
    main_thread: Mutex<Option<MainThread>>,
}

/// How many application threads run.
#[derive(Debug, Default)]
pub(super) struct Running {
    count: Mutex<usize>,
    ended: Condvar,
}

impl PythonApplication {
    /// The application that `config` names, not loaded yet, in the worker of that slot. In `private_directory` is what
    /// the workers of a server have between themselves.
    ///
    /// # Errors
    /// The operating system's, when descriptors run out.
    pub fn new(config: Config, slot: usize, private_directory: Option<PathBuf>) -> io::Result<Self> {
        let signals = UnixStream::pair()?;
        signals.0.set_nonblocking(true)?;
        signals.1.set_nonblocking(true)?;
        fork::give_up_in_children(signals.0.as_fd());
        fork::give_up_in_children(signals.1.as_fd());
        let green = config.green.as_ref().map(Green::new).transpose()?.map(Arc::new);
        let bell = config.application.main_thread.then(Arc::default);
        Ok(Self {
            config,
            slot,
            private_directory,
            callable: OnceLock::new(),
            is_parallel: AtomicBool::new(false),
            running: Arc::default(),
            signals,
            green,
            service: Mutex::default(),
            bell,
            main_thread: Mutex::default(),
        })
    }

    fn load_attached(&self, py: Python<'_>) -> PyResult<()> {
        // Before the application is loaded, which may know better.
        if self.config.threads > 1 {
            py.import("sys")?.call_method1("setswitchinterval", (SWITCH_INTERVAL.as_secs_f64(),))?;
        }
        if self.green.is_none() {
            InterpreterLock::find(py)?.map_or_else(
                || {
                    tracing::info!("the switch interval is fixed: this Python does not show its lock");
                    Ok(())
                },
                |lock| interpreter::watch(py, lock),
            )?;
        }
        Input::register(py)?;
        hop_by_hop::configure(&self.config);
        let loader = py.import("spawning.loader")?;
        let options = options(py, &self.config)?;
        let callable = loader
            .call_method1("load", (&self.config.factory, options, self.slot, &self.private_directory))?;
        // Only now: a module that was not made for threads without the lock brings it back.
        self.is_parallel.store(!has_lock(py)?, Ordering::Relaxed);
        // Set only here: an application is loaded once.
        let _ = self.callable.set(callable.unbind());
        py.import("spawning.signals")?.call_method1(
            "install",
            (self.signals.1.as_raw_fd(), self.green.is_some() || self.bell.is_some()),
        )?;
        Ok(())
    }

    /// Keeps the files that an application could not be loaded from, for the file watcher.
    fn remember(&self, py: Python<'_>, error: &PyErr) {
        if self.config.reload.dev {
            let remembered =
                py.import("spawning.watch").and_then(|it| it.call_method1("remember", (error.value(py),)));
            if let Err(error) = remembered {
                tracing::error!(traceback = describe(py, &error), "cannot tell which files failed");
            }
        }
    }

    fn start_attached(
        &self,
        py: Python<'_>,
        queue: &Arc<Queue>,
        watches: Vec<Box<dyn ThreadWatch>>,
    ) -> PyResult<()> {
        let Some(callable) = self.callable.get() else { return Ok(()) };
        if let (Some(green), Some(settings)) = (&self.green, &self.config.green) {
            green.begin(py, settings.library, queue, watches.into_iter().next())?;
            let template = Template::new(py, &self.config)?;
            let service =
                GreenService { callable: callable.clone_ref(py), queue: Arc::clone(queue), template };
            *self.service.lock().unwrap_or_else(PoisonError::into_inner) = Some(service);
            return Ok(());
        }
        if let Some(bell) = &self.bell {
            let Some(watch) = watches.into_iter().next() else { return Ok(()) };
            let rung = Arc::clone(bell);
            queue.ring(move || rung.ring());
            let template = Template::new(py, &self.config)?;
            let (callable, queue, bell) = (callable.clone_ref(py), Arc::clone(queue), Arc::clone(bell));
            *self.main_thread.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(MainThread { callable, queue, template, watch, bell });
            return Ok(());
        }
        let threading = py.import("threading")?;
        for (index, watch) in watches.into_iter().enumerate() {
            let template = Template::new(py, &self.config)?;
            let (queue, running) = (Arc::clone(queue), Arc::clone(&self.running));
            let settings = PyDict::new(py);
            settings.set_item(
                "target",
                AppThread::new(callable.clone_ref(py), queue, running, template, watch),
            )?;
            settings.set_item("name", format!("app-{index}"))?;
            settings.set_item("daemon", true)?;
            threading.call_method("Thread", (), Some(&settings))?.call_method0("start")?;
        }
        Ok(())
    }
}

impl PythonApplication {
    fn serve_on_main_thread(&self, main_thread: &MainThread, work: Box<dyn FnOnce() -> i32 + Send>) -> i32 {
        self.running.enter();
        let bell = Arc::clone(&main_thread.bell);
        let beside = match start_beside(move || bell.end(), work) {
            Ok(beside) => beside,
            Err(error) => {
                tracing::error!(%error, "cannot start a thread");
                return EXIT_HUB_FAILED;
            }
        };
        Python::attach(|py| main_thread.serve(py));
        self.running.leave();
        beside.join().unwrap_or(EXIT_HUB_FAILED)
    }
}

impl Application for PythonApplication {
    fn load(&self) -> Result<(), LoadFailure> {
        Python::attach(|py| {
            self.load_attached(py).inspect_err(|error| self.remember(py, error)).map_err(|error| match error
                .value(py)
                .getattr("summary")
            {
                Ok(summary) => LoadFailure {
                    summary: summary.to_string(),
                    traceback: error
                        .value(py)
                        .getattr("traceback")
                        .map(|text| text.to_string())
                        .unwrap_or_default(),
                },
                Err(_) => LoadFailure { summary: error.to_string(), traceback: describe(py, &error) },
            })
        })
    }

    fn attention(&self) -> BorrowedFd<'_> {
        self.signals.0.as_fd()
    }

    fn start(&self, queue: &Arc<Queue>, watches: Vec<Box<dyn ThreadWatch>>) -> Result<(), LoadFailure> {
        Python::attach(|py| {
            self.start_attached(py, queue, watches).map_err(|error| LoadFailure {
                summary: format!("cannot start the application's threads: {error}"),
                traceback: describe(py, &error),
            })
        })
    }

    fn run_beside(&self, work: Box<dyn FnOnce() -> i32 + Send>) -> i32 {
        let main_thread = self.main_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(main_thread) = main_thread {
            return self.serve_on_main_thread(&main_thread, work);
        }
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(green), Some(service)) = (&self.green, service) else { return work() };
        self.running.enter();
        let abandoned = Arc::clone(green);
        let beside = match start_beside(move || abandoned.abandon(), work) {
            Ok(beside) => beside,
            Err(error) => {
                tracing::error!(%error, "cannot start a thread");
                return EXIT_HUB_FAILED;
            }
        };
        // One piece: requests that are left behind keep frames of ours alive, and PyO3 counts the thread attached by
        // them. So nothing of Python's may be dropped here while it is not.
        Python::attach(move |py| {
            let served = green.serve(py, &service);
            self.running.leave();
            drop(service);
            match served {
                Ok(()) => py.detach(|| beside.join().unwrap_or(EXIT_HUB_FAILED)),
                Err(error) => {
                    let traceback = describe(py, &error);
                    tracing::error!(traceback, "the hub of the green threads failed");
                    EXIT_HUB_FAILED
                }
            }
        })
    }

    fn is_parallel(&self) -> bool {
        self.is_parallel.load(Ordering::Relaxed)
    }

    fn attend(&self) -> bool {
        let mut signals = [0; 64];
        let mut is_asked = false;
        while let Ok(count @ 1..) = io::Read::read(&mut &self.signals.0, &mut signals) {
            is_asked |= signals.iter().take(count).any(|signal| *signal == DRAIN_ASKED);
        }
        if let Some(green) = &self.green {
            // Handlers run on the main thread, which may be waiting in the hub.
            green.ring();
            return is_asked;
        }
        if let Some(bell) = &self.bell {
            bell.ring();
            return is_asked;
        }
        Python::attach(|py| match py.check_signals() {
            Ok(()) => false,
            Err(error) if error.is_instance_of::<PySystemExit>(py) => true,
            Err(error) => {
                tracing::error!(
                    traceback = describe(py, &error),
                    "a signal handler of the application raised"
                );
                false
            }
        })
    }

    fn new_files(&self) -> Vec<PathBuf> {
        Python::attach(|py| {
            let files =
                py.import("spawning.watch").and_then(|watch| watch.call_method0("new_files")?.extract());
            files.unwrap_or_else(|error| {
                tracing::error!(traceback = describe(py, &error), "cannot tell which files were loaded");
                Vec::new()
            })
        })
    }

    fn stack_of(&self, thread: u64) -> String {
        Python::attach(|py| {
            let stacks = py.import("spawning.stacks");
            let stack = stacks.and_then(|stacks| match &self.green {
                Some(green) => {
                    stacks.call_method1("of_green_thread", (green.thread(py, thread)?,))?.extract()
                }
                None => stacks.call_method1("of_thread", (thread,))?.extract(),
            });
            stack.unwrap_or_else(|error| describe(py, &error))
        })
    }

    fn probe(&self) {
        match &self.green {
            Some(green) => green.probe(),
            None => Python::attach(|_| {}),
        }
    }

    fn interpreter(&self) -> InterpreterUse {
        interpreter::used()
    }

    fn tidy(&self) {
        if respond::have_lent_bytes_returned() {
            Python::attach(|_| {});
        }
    }

    fn join(&self, timeout: Duration) -> bool {
        let all_ended = self.running.wait(timeout);
        if let Some(green) = self.green.as_ref().filter(|_| !all_ended) {
            green.abandon();
        }
        all_ended
    }
}

/// Starts the thread that does what the main thread would do if it did not serve. However that ends, `abandon` tells
/// the main thread to serve no longer.
fn start_beside(
    abandon: impl Fn() + Send + 'static,
    work: Box<dyn FnOnce() -> i32 + Send>,
) -> io::Result<JoinHandle<i32>> {
    std::thread::Builder::new().name("control".to_owned()).spawn(move || {
        let _abandon = Abandon(abandon);
        work()
    })
}

/// Ends the service of the main thread when dropped.
struct Abandon<F: Fn()>(F);

impl<F: Fn()> Drop for Abandon<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Running {
    /// One more thread runs.
    pub(super) fn enter(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// One thread fewer.
    pub(super) fn leave(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.ended.notify_all();
    }

    fn wait(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            count = self.ended.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// What a config factory is called with (`docs/configuration.md`).
fn options<'py>(py: Python<'py>, config: &Config) -> PyResult<Bound<'py, PyAny>> {
    let options = serde_json::to_string(&FactoryOptions::from(config));
    let options = options.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    py.import("json")?.call_method1("loads", (options,))
}
