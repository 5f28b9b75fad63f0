//! Who runs when. Pure: what happened and `now` go in, what to do comes out; no lock, thread, clock or I/O.
//!
//! [`Scheduler`] decides which request a thread takes next ([`run_queue`]), by classes of them ([`RequestClass`]), and
//! how many threads run at once ([`concurrency_limit`]), by what the application makes of the CPU ([`CpuSample`]).
//! Its owner is the queue, which has the lock and the threads. [`SwitchPolicy`] decides when a thread must hand over
//! the interpreter. Both are simulated against models of applications.

mod class_history;
mod concurrency_limit;
mod cpu_usage;
mod fault;
mod interpreter;
mod request_class;
mod run_queue;
mod short_share;
#[cfg(test)]
mod simulation;
mod state;

pub use cpu_usage::{CoreCount, CpuSample};
pub use interpreter::{Decision, Look, SwitchInterval, SwitchPolicy};
pub use request_class::RequestClass;
pub use run_queue::Place;
pub use state::{Next, Observation, Scheduler};
