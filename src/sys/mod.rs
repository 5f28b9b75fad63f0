//! The operating system: every `libc` and `nix` call of the server, and with them its `unsafe`.
//!
//! What leaves this room is safe: owned descriptors, [`std::io::Error`], plain values.
#![allow(unsafe_code, reason = "system calls live here, each unsafe block with its SAFETY comment")]

pub mod account;
pub mod affinity;
pub mod background;
pub mod calendar;
pub mod clock;
pub mod control_socket;
pub mod cpu_time;
pub mod epoll;
pub mod event_loop;
pub mod eventfd;
pub mod file;
pub mod fork;
mod fork_mark;
pub mod listener;
pub mod memory;
pub mod open_files;
pub mod output;
pub mod process;
pub mod resource_limit;
pub mod shared_memory;
pub mod signals;
pub mod socket;
pub mod standard_streams;
pub mod symbol;
pub mod thread;
pub mod unix_listener;
pub mod wait;
