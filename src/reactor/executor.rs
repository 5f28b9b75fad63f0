//! The executor of one core and the turns of its loop.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::readiness::{Readiness, Registration};
use super::ring::{self, RingExecutor};
use super::tasks::Tasks;
use super::timers::{Sleep, Timers};
use super::wake::Wake;
use crate::limits::DOZE_MAX;
use crate::sys::affinity;
use crate::sys::epoll::Interest;
use crate::sys::event_loop::EventLoop;

/// What the owner of the tasks does once a turn.
pub trait Turn {
    /// Takes what other threads sent and wakes the tasks it concerns.
    fn collect(&self);

    /// Hands to other threads what the tasks of this turn produced.
    fn publish(&self);

    /// When the loop must turn again at the latest, whatever happens.
    fn deadline(&self) -> Option<Instant>;

    /// Whether the loop may doze: the tasks' customers have enough to do, so that looking at the sockets now would only
    /// take the core from them. Called with the executor declared asleep; a consumer that runs short then rings its
    /// bell.
    fn may_doze(&self) -> bool;

    /// The doze is over.
    fn undoze(&self);
}

/// An executor that is not running yet, on its core.
#[derive(Debug)]
pub struct Executor(Backend);

#[derive(Debug)]
enum Backend {
    Ring(RingExecutor),
    Epoll,
}

impl Executor {
    /// Makes an executor and pins the calling thread to `core`, if there is one: a thread that cannot be pinned, as the
    /// core has left the set of those that may be used, runs wherever it may, with a warning.
    ///
    /// # Errors
    /// When the kernel refuses the rings of [`EventLoop::IoUring`].
    pub fn new(core: Option<usize>, event_loop: EventLoop) -> io::Result<Self> {
        let core = core.filter(|core| {
            let pinned = affinity::pin_this_thread(&[*core]);
            pinned
                .inspect_err(|error| tracing::warn!(core, %error, "cannot pin an executor to its core; it runs on any"))
                .is_ok()
        });
        match event_loop {
            EventLoop::IoUring => Self::on_ring(core),
            EventLoop::Epoll => Ok(Self(Backend::Epoll)),
            EventLoop::Auto if !cfg!(feature = "glommio") => Ok(Self(Backend::Epoll)),
            EventLoop::Auto => Self::on_ring(core).or_else(|error| {
                tracing::warn!(%error, core, "io_uring is not available to an executor; using epoll");
                Ok(Self(Backend::Epoll))
            }),
        }
    }

    fn on_ring(core: Option<usize>) -> io::Result<Self> {
        Ok(Self(Backend::Ring(RingExecutor::new(core)?)))
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
        let queue = match &self.0 {
            Backend::Ring(_) => TaskQueue::Ring,
            Backend::Epoll => TaskQueue::Own(Tasks::new(wake.handle())),
        };
        let reactor = Reactor(Rc::new(Core::new(wake, queue)?));
        let _bell = reactor.register(reactor.0.wake.bell(), Interest::Input)?;
        let main = main(reactor.clone());
        let core = Rc::clone(&reactor.0);
        let turns = async move {
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
        };
        match self.0 {
            Backend::Ring(local) => local.run(turns),
            Backend::Epoll => {
                let result = futures_lite::future::block_on(turns);
                core.queue.cancel_all();
                result
            }
        }
    }
}

/// Where tasks wait to run.
#[derive(Debug)]
enum TaskQueue {
    /// In glommio's own queue.
    Ring,
    Own(Tasks),
}

impl TaskQueue {
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        match self {
            Self::Ring => ring::spawn(task),
            Self::Own(tasks) => tasks.spawn(task),
        }
    }

    /// Lets every task run that can.
    async fn run(&self) {
        match self {
            Self::Ring => yield_once().await,
            Self::Own(tasks) => tasks.run(),
        }
    }

    /// Whether another thread has woken a task. In glommio's queue the ring says so.
    fn has_ready(&self) -> bool {
        match self {
            Self::Ring => false,
            Self::Own(tasks) => tasks.has_ready(),
        }
    }

    /// Whether operations are under way in a ring that the loop has to park in.
    fn has_ring(&self) -> bool {
        !matches!(self, Self::Own(_))
    }

    fn cancel_all(&self) {
        match self {
            // glommio's executor does so when it is dropped.
            Self::Ring => {}
            Self::Own(tasks) => tasks.cancel_all(),
        }
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
    queue: TaskQueue,
    /// Operations on files under way: in glommio's ring, or with a helper thread.
    operations: Cell<usize>,
    /// The loop itself, while it is parked in the ring.
    parked: RefCell<Option<Waker>>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Core").field("operations", &self.operations).finish_non_exhaustive()
    }
}

impl Reactor {
    /// The time as of this turn.
    pub fn now(&self) -> Instant {
        self.0.now.get()
    }

    /// Runs `task` beside the others. A panic ends that task alone, and is logged by the panic hook.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.queue.spawn(task);
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

    /// A registration that nothing is reported to before [`Reactor::watch`].
    pub(super) fn reserve(&self, interest: Interest) -> Rc<Registration> {
        self.0.readiness.reserve(interest, &self.0.runnable)
    }

    /// Watches the descriptor of a reserved registration.
    pub(super) fn watch(&self, registration: &Registration, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.0.readiness.watch(registration, fd)
    }

    /// Forgets a reserved registration.
    pub(super) fn forget(&self, registration: &Registration) {
        self.0.readiness.forget(registration);
    }

    /// Ends the watch of a descriptor, before it is closed.
    pub fn deregister(&self, registration: &Registration, fd: BorrowedFd<'_>) {
        self.0.readiness.deregister(registration, fd);
    }

    /// Says who collects and publishes once a turn.
    pub fn set_turn(&self, turn: Rc<dyn Turn>) {
        *self.0.turn.borrow_mut() = Some(turn);
    }

    /// Declares an operation on a file for as long as the guard lives.
    pub(super) fn begin_operation(&self) -> Operation {
        self.0.operations.set(self.0.operations.get() + 1);
        Operation(self.clone())
    }

    /// Whether files are written through a ring.
    pub(super) fn has_ring(&self) -> bool {
        self.0.queue.has_ring()
    }
}

/// An operation on a file that is under way.
pub(super) struct Operation(Reactor);

impl Drop for Operation {
    fn drop(&mut self) {
        let core = &self.0.0;
        core.operations.set(core.operations.get() - 1);
        core.runnable.set(true);
        if let Some(parked) = core.parked.borrow_mut().take() {
            parked.wake();
        }
    }
}

impl Core {
    fn new(wake: Wake, queue: TaskQueue) -> io::Result<Self> {
        Ok(Self {
            readiness: Readiness::new()?,
            timers: Timers::default(),
            wake,
            turn: RefCell::new(None),
            now: Cell::new(Instant::now()),
            runnable: Rc::new(Cell::new(false)),
            queue,
            operations: Cell::new(0),
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
        self.queue.run().await;
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
        if self.runnable.get() && self.operations.get() == 0 {
            self.readiness.wait(Some(Duration::ZERO))?;
            return Ok(());
        }
        self.wake.fall_asleep();
        if let Some(turn) = turn {
            turn.collect();
        }
        let runnable = self.runnable.get() || self.operations.get() > 0 && self.queue.has_ready();
        if self.operations.get() > 0 && self.queue.has_ring() {
            let timeout = if runnable { Some(Duration::ZERO) } else { self.sleep_timeout(turn) };
            self.park(timeout).await?;
            self.readiness.wait(Some(Duration::ZERO))?;
        } else if !runnable && turn.is_some_and(Turn::may_doze) {
            self.wake
                .doze(self.sleep_timeout(turn).map_or(DOZE_MAX, |sleep_timeout| sleep_timeout.min(DOZE_MAX)));
            turn.into_iter().for_each(Turn::undoze);
            self.readiness.wait(Some(Duration::ZERO))?;
        } else {
            let timeout = if runnable { Some(Duration::ZERO) } else { self.sleep_timeout(turn) };
            self.readiness.wait(timeout)?;
        }
        self.wake.get_up();
        Ok(())
    }

    /// Parks in the ring, so that glommio submits and reaps the operations that are under way.
    async fn park(&self, timeout: Option<Duration>) -> io::Result<()> {
        let mut parked = std::pin::pin!(ring::park(self.readiness.epoll_fd(), timeout));
        poll_fn(|context| {
            if parked.as_mut().poll(context).is_ready() || self.operations.get() == 0 {
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
    fn sleep_timeout(&self, turn: Option<&dyn Turn>) -> Option<Duration> {
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
