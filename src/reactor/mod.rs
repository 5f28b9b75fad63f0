//! The event loop of one core, knowing no HTTP: a pinned glommio executor whose tasks are woken by one
//! edge-triggered epoll set.
//!
//! A *turn* of the loop waits for readiness, collects what other threads sent, lets every woken task run, and
//! publishes what the tasks produced. Waiting happens in epoll rather than in glommio's ring for as long as the
//! ring owes us nothing, which at one connection costs 9 us of CPU a request instead of 22
//! (`docs/measurements.md`). While file I/O is under way the loop parks in the ring, which polls the epoll set.

mod executor;
mod readiness;
mod ring;
mod stream;
mod timers;
mod wake;

pub use executor::{Executor, Reactor, Turn};
pub use readiness::Registration;
pub use ring::SpillFile;
pub use stream::{Accepted, Listener, Sender, Stream};
pub use wake::{Wake, WakeHandle};
