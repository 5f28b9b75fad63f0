//! The seam between the executors and whatever answers requests: a [`Request`] goes through the bounded [`Queue`]
//! to an [`Application`], which answers through the request's [`Reply`].
//!
//! Nothing here knows sockets' readiness or Python. Everything an executor and an application thread share is here.

mod application;
mod date;
mod outbox;
mod queue;
mod quota;
mod reply;
mod request;
mod seat;
mod upload;

pub use application::{Application, EchoApplication, InterpreterUse, LoadFailure, ThreadWatch};
pub use date::date_now;
pub use outbox::{End, FlushPolicy, Lent, Message, Outbox, Outcome, Payload};
pub use queue::{Queue, Taken};
pub use quota::{Quota, Share};
pub use reply::{ConnectionWriter, Exchange, Reply, RequestProgress, Upgrade};
pub use request::{Body, ConnectionFacts, Request};
pub use seat::{Seat, ThreadStat};
pub use upload::{Upload, UploadFault, UploadReader};
