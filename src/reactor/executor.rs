//! The executor of one core and the turns of its loop.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::BorrowedFd;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use futures_lite::FutureExt;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::readiness::{Readiness, Registration};
use super::ring;
use super::timers::{Sleep, Timers};
use super::wake::Wake;
use crate::limits::{DOZE_MAX, EXECUTOR_ATTEMPTS_MAX, EXECUTOR_RETRY_PAUSE};
use crate::sys::epoll::Interest;

/// Entries of each of glommio's rings. More brought nothing.
const RING_DEPTH: usize = 128;

/// How long glommio lets tasks run before it looks at its rings. Our loop says itself when that is worth it.
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);

/// What the owner of the tasks does once a turn.
pub trait Turn {
    /// Takes what other threads sent and wakes the tasks it concerns.
    fn collect(&self);

    /// Hands to other threads what the tasks of this turn produced.
    fn publish(&self);

    /// When the loop must turn again at the latest, whatever happens.
    fn deadline(&self) -> Option<Instant>;

    /// Whether the loop may doze: the tasks' customers have enough to do, so that looking at the sockets now would only
    /// take the core from them. Called with the executor declared asleep; whoever runs short then rings its bell.
    fn may_doze(&self) -> bool;

    /// The doze is over.
    fn undoze(&self);
}

/// An executor that is not running yet, pinned to its core.
#[derive(Debug)]
pub struct Executor {
    local: LocalExecutor,
}

impl Executor {
    /// Makes an executor and pins the calling thread to `core`.
    ///
    /// The memory of rings that died with another process is given back a little later than the process ends, so
    /// running out of it is retried for a second.
    ///
    /// # Errors
    /// When the kernel refuses rings or the core, with glommio's words for it.
    pub fn new(core: usize) -> io::Result<Self> {
        let mut attempt = 1;
        loop {
            let made = LocalExecutorBuilder::new(Placement::Fixed(core))
                .io_memory(0)
                .ring_depth(RING_DEPTH)
                .preempt_timer(PREEMPT_TIMER)
                .make();
            match made {
                Ok(local) => return Ok(Self { local }),
                Err(error) if attempt == EXECUTOR_ATTEMPTS_MAX => {
                    return Err(io::Error::other(error.to_string()));
                }
                Err(_) => {
                    attempt += 1;
                    std::thread::sleep(EXECUTOR_RETRY_PAUSE);
                }
            }
        }
    }

    /// Runs the loop on the calling thread until `main` is done; its tasks die with it. Other threads interrupt its
    /// sleep through the handles of `wake`.
    ///
    /// # Errors
    /// When the epoll set or the bell cannot be made, or waiting fails.
    pub fn run<F>(self, wake: Wake, main: impl FnOnce(Reactor) -> F) -> io::Result<()>
    where
        F: Future<Output = ()> + 'static,
    {
        let reactor = Reactor(Rc::new(Core::new(wake)?));
        let _bell = reactor.register(reactor.0.wake.bell(), Interest::Input)?;
        let main = main(reactor.clone());
        self.local.run(async move {
            let done = Rc::new(Cell::new(false));
            let (finished, runnable) = (Rc::clone(&done), Rc::clone(&reactor.0.runnable));
            reactor.spawn(async move {
                main.await;
                finished.set(true);
                // So that the loop does not sleep before it looks.
                runnable.set(true);
            });
            while !done.get() {
                reactor.0.turn().await?;
            }
            Ok(())
        })
    }
}

/// What a task may ask of its executor. Cheap to clone; stays on its thread.
#[derive(Clone, Debug)]
pub struct Reactor(Rc<Core>);

struct Core {
    readiness: Readiness,
    timers: Timers,
    wake: Wake,
    turn: RefCell<Option<Rc<dyn Turn>>>,
    now: Cell<Instant>,
    /// A task became runnable that this turn's yield has not let run.
    runnable: Rc<Cell<bool>>,
    /// Operations under way in glommio's ring.
    owed: Cell<usize>,
    /// The loop itself, while it is parked in the ring.
    parked: RefCell<Option<Waker>>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Core").field("owed", &self.owed).finish_non_exhaustive()
    }
}

impl Reactor {
    /// The time as of this turn.
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Runs `task` beside the others. A panic ends that task alone, and is logged by the panic hook.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // Not an async block: that would keep room for the task twice, once as captured and once as pinned.
        glommio::spawn_local(AssertUnwindSafe(task).catch_unwind()).detach();
        self.0.runnable.set(true);
    }

    /// Sleeps until `wake_at`.
    pub fn sleep_until(&self, wake_at: Instant) -> Sleep {
        self.0.timers.sleep_until(wake_at)
    }

    /// Lets every other runnable task run, and new readiness be seen, before the caller goes on.
    pub async fn next_turn(&self) {
        self.0.runnable.set(true);
        yield_once().await;
    }

    /// Wakes a task from another task: a plain wake-up could come too late for the loop to know before it sleeps.
    pub fn wake(&self, task: &Waker) {
        self.0.runnable.set(true);
        task.wake_by_ref();
    }

    /// Watches a descriptor; see [`Registration`].
    ///
    /// # Errors
    /// The kernel's, when it cannot be watched.
    pub fn register(&self, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<Rc<Registration>> {
        self.0.readiness.register(fd, interest, &self.0.runnable)
    }

    /// Ends the watch of a descriptor, before it is closed.
    pub fn deregister(&self, registration: &Registration, fd: BorrowedFd<'_>) {
        self.0.readiness.deregister(registration, fd);
    }

    /// Says who collects and publishes once a turn.
    pub fn set_turn(&self, turn: Rc<dyn Turn>) {
        *self.0.turn.borrow_mut() = Some(turn);
    }

    /// Declares an operation in glommio's ring for as long as the guard lives.
    pub(super) fn ring_owes(&self) -> Owed {
        self.0.owed.set(self.0.owed.get() + 1);
        Owed(self.clone())
    }
}

/// An operation under way in the ring.
pub(super) struct Owed(Reactor);

impl Drop for Owed {
    fn drop(&mut self) {
        let core = &self.0.0;
        core.owed.set(core.owed.get() - 1);
        core.runnable.set(true);
        if let Some(parked) = core.parked.borrow_mut().take() {
            parked.wake();
        }
    }
}

impl Core {
    fn new(wake: Wake) -> io::Result<Self> {
        Ok(Self {
            readiness: Readiness::new()?,
            timers: Timers::default(),
            wake,
            turn: RefCell::new(None),
            now: Cell::new(Instant::now()),
            runnable: Rc::new(Cell::new(false)),
            owed: Cell::new(0),
            parked: RefCell::new(None),
        })
    }

    /// Collect, run, publish, wait: one turn.
    async fn turn(&self) -> io::Result<()> {
        let turn = self.turn.borrow().clone();
        if let Some(turn) = &turn {
            turn.collect();
        }
        self.runnable.set(false);
        yield_once().await;
        if let Some(turn) = &turn {
            turn.publish();
        }
        self.wait(turn.as_deref()).await?;
        let now = Instant::now();
        self.now.set(now);
        self.timers.ring(now);
        Ok(())
    }

    /// Waits for readiness, a timer, another thread or the ring; not at all when a task can run.
    async fn wait(&self, turn: Option<&dyn Turn>) -> io::Result<()> {
        if self.runnable.get() && self.owed.get() == 0 {
            self.readiness.wait(Some(Duration::ZERO))?;
            return Ok(());
        }
        self.wake.fall_asleep();
        if let Some(turn) = turn {
            turn.collect();
        }
        let runnable = self.runnable.get();
        if self.owed.get() > 0 {
            let timeout = if runnable { Some(Duration::ZERO) } else { self.patience(turn) };
            self.park(timeout).await?;
            self.readiness.wait(Some(Duration::ZERO))?;
        } else if !runnable && turn.is_some_and(Turn::may_doze) {
            self.wake.doze(self.patience(turn).map_or(DOZE_MAX, |patience| patience.min(DOZE_MAX)));
            turn.into_iter().for_each(Turn::undoze);
            self.readiness.wait(Some(Duration::ZERO))?;
        } else {
            let timeout = if runnable { Some(Duration::ZERO) } else { self.patience(turn) };
            self.readiness.wait(timeout)?;
        }
        self.wake.get_up();
        Ok(())
    }

    /// Parks in the ring, so that glommio submits and reaps what it owes us.
    async fn park(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut parked = pin!(ring::park(self.readiness.epoll_fd(), timeout));
        poll_fn(|context| {
            if parked.as_mut().poll(context).is_ready() || self.owed.get() == 0 {
                return Poll::Ready(());
            }
            *self.parked.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        self.parked.borrow_mut().take();
        Ok(())
    }

    /// How long the loop may sleep; `None` is for ever.
    fn patience(&self, turn: Option<&dyn Turn>) -> Option<Duration> {
        let soonest = [self.timers.soonest(), turn.and_then(Turn::deadline)].into_iter().flatten().min()?;
        Some(soonest.saturating_duration_since(Instant::now()))
    }
}

/// Goes to the back of the queue of runnable tasks, once.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
