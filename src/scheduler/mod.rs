//! Who runs when. Pure: what happened and `now` go in, what to do comes out; no lock, thread, clock or I/O.

mod interpreter;

pub use interpreter::{Decision, Look, SwitchInterval, SwitchPolicy};
