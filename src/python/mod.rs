//! Python's side of a worker: the application threads, and WSGI (PEP 3333) between a request and the application.
//!
//! The room where `PyO3` lives. A thread attaches to the interpreter once, for life, and lets go only to wait.
#![allow(unsafe_code)]

mod application;
mod environ;
mod errors;
mod file_wrapper;
mod fork;
mod green;
mod hop_by_hop;
mod input;
mod interpreter;
mod interpreter_lock;
mod main_thread;
mod panics;
mod plain_file;
mod respond;
mod response;
mod start_response;
mod threads;
mod upgrade;

pub use application::PythonApplication;
pub(crate) use file_wrapper::FileWrapper;
pub use fork::tell_children_by;
pub(crate) use input::Input;
