//! What answers requests, as a worker sees it.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Body, End, FlushPolicy, Outcome, Payload, Queue, Request, Taken, ThreadStat, date_now};
use crate::http::{BodyLength, HeadWriter};

/// Why an application could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// One line: what is wrong with which name.
    pub summary: String,
    /// The application's own traceback; empty when its code is not to blame.
    pub traceback: String,
}

/// Who wants to know what an application thread is doing.
pub trait ThreadWatch: Send {
    /// The calling thread is the one that is watched; returns what others may ask about it.
    fn begin(&self) -> Arc<dyn ThreadStat>;

    /// The thread has taken `request` and is about to answer it.
    fn busy(&self, request: &Request);

    /// The thread has answered it.
    fn idle(&self);
}

/// How application threads have shared the interpreter so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterpreterUse {
    /// How long they have waited for it in microseconds, all waits together.
    pub wait_us: u64,
    /// The longest of these waits in which one thread held it all the time, in microseconds.
    pub hold_max_us: u64,
}

/// Something that takes requests from a queue and answers them.
pub trait Application: Send + Sync {
    /// Loads it. Called once, on the process's main thread, before anything else.
    ///
    /// # Errors
    /// When it cannot serve, and why.
    fn load(&self) -> Result<(), LoadFailure>;

    /// Readable when [`Application::attend`] is due.
    fn attention(&self) -> BorrowedFd<'_>;

    /// Starts one thread for each of `watches`, to serve `queue` until it closes.
    ///
    /// # Errors
    /// When a thread cannot be started.
    fn start(&self, queue: &Arc<Queue>, watches: Vec<Box<dyn ThreadWatch>>) -> Result<(), LoadFailure>;

    /// Runs `work`, for as long as the worker lives, and returns what that does. An application that needs the main
    /// thread for itself takes it meanwhile, and has `work` run on another.
    fn run_beside(&self, work: Box<dyn FnOnce() -> i32 + Send>) -> i32 {
        work()
    }

    /// Whether its threads compute at the same time, on several cores. Known once it is loaded.
    fn is_parallel(&self) -> bool;

    /// Lets the application see what the operating system sent to the main thread, such as a signal; returns
    /// whether it asks the worker to drain.
    fn attend(&self) -> bool;

    /// The files of code that was loaded, or could not be loaded, since the last call.
    fn new_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What the thread that [`crate::gateway::RequestProgress`] names is doing, as a traceback; empty if it is not
    /// known.
    fn stack_of(&self, _thread: u64) -> String {
        String::new()
    }

    /// Returns once code of the application could run on the calling thread, which is at once unless it is stuck.
    fn probe(&self) {}

    /// How the threads have shared the interpreter.
    fn interpreter(&self) -> InterpreterUse {
        InterpreterUse::default()
    }

    /// Lets go of what other threads are done with but cannot let go of by themselves. Called every second or so.
    fn tidy(&self) {}

    /// Waits until all threads have ended, at most `timeout`; returns whether they have.
    fn join(&self, timeout: Duration) -> bool;
}

/// Answers with the request's target and body: what the tests of everything but Python run.
#[derive(Debug)]
pub struct EchoApplication {
    threads: Mutex<Vec<JoinHandle<()>>>,
    never_ready: (UnixStream, UnixStream),
}

impl EchoApplication {
    /// An application with no thread yet.
    ///
    /// # Errors
    /// The operating system's, when descriptors run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self { threads: Mutex::default(), never_ready: UnixStream::pair()? })
    }
}

impl Application for EchoApplication {
    fn load(&self) -> Result<(), LoadFailure> {
        Ok(())
    }

    fn start(&self, queue: &Arc<Queue>, watches: Vec<Box<dyn ThreadWatch>>) -> Result<(), LoadFailure> {
        let started = watches.into_iter().map(|watch| {
            let queue = Arc::clone(queue);
            std::thread::spawn(move || {
                let mut seat = queue.seat(watch.begin());
                while let Taken::Request(request, _) = queue.take(&mut seat) {
                    watch.busy(&request);
                    echo(*request, FlushPolicy::for_load(queue.length(), Duration::ZERO));
                    watch.idle();
                }
            })
        });
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).extend(started);
        Ok(())
    }

    fn attention(&self) -> BorrowedFd<'_> {
        self.never_ready.0.as_fd()
    }

    fn is_parallel(&self) -> bool {
        true
    }

    fn attend(&self) -> bool {
        false
    }

    fn join(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        while !threads.iter().all(JoinHandle::is_finished) {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

fn echo(request: Request, flush_policy: FlushPolicy) {
    let Request { head, body, reply, .. } = request;
    let mut answer = head.target().to_vec();
    answer.push(b'\n');
    match body {
        Body::Empty => {}
        Body::Memory(bytes) => answer.extend_from_slice(&bytes),
        // A file that cannot be read makes the answer shorter, and the test that reads it fail.
        Body::File { mut file, .. } => drop(file.read_to_end(&mut answer)),
        Body::Stream(mut reader) => drop(reader.read_to_end(&mut answer)),
    }
    let facts = reply.facts();
    let mut writer = HeadWriter::new(Vec::new());
    let framed = writer
        .start(b"200 OK")
        .and_then(|()| writer.header(b"Content-Type", b"application/octet-stream"))
        .and_then(|()| {
            let length = BodyLength::Exactly(answer.len() as u64);
            writer.finish(facts, length, reply.may_keep_alive(), &date_now())
        });
    let Ok(plan) = framed else { return };
    let body_bytes = if facts.is_head { 0 } else { answer.len() as u64 };
    let mut bytes = writer.into_inner();
    if !facts.is_head {
        bytes.append(&mut answer);
    }
    let outcome = if plan.keep_alive { Outcome::KeepAlive } else { Outcome::Close };
    let end = End::new(outcome, 200, body_bytes, Some(head));
    reply.finish(Payload::Memory(bytes), end, flush_policy);
}
