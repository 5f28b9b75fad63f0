//! The event loop of one core, knowing no HTTP: a pinned executor whose tasks are woken by one edge-triggered epoll
//! set. The executor is glommio's where `io_uring` may be used, and a queue of tasks of our own elsewhere.
//!
//! A *turn* of the loop waits for readiness, collects what other threads sent, lets every woken task run, and
//! publishes what the tasks produced. Waiting happens in epoll rather than in glommio's ring for as long as the
//! ring owes us nothing, which at one connection costs 9 us of CPU a request instead of 22
//! (`docs/measurements.md`). While file I/O is under way the loop parks in the ring, which polls the epoll set; without
//! a ring a helper thread does the I/O, and rings the bell.

mod executor;
mod readiness;
#[cfg(feature = "glommio")]
mod ring;
#[cfg(not(feature = "glommio"))]
#[path = "no_ring.rs"]
mod ring;
mod spill_file;
mod stream;
mod tasks;
mod timers;
mod wake;

pub use executor::{Executor, Reactor, Turn};
pub use readiness::Registration;
pub use spill_file::SpillFile;
pub use stream::{Accepted, Listener, Sender, Stream};
pub use wake::{Wake, WakeHandle};
