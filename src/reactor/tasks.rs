//! The tasks of an executor without rings: a queue of those that can run.
//!
//! glommio brings a queue of its own; this one serves where `io_uring` is not to be had. Tasks are woken by the
//! executor's own thread, and by the helper threads that work on files.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use async_task::Runnable;
use slab::Slab;

use super::WakeHandle;

/// The tasks of one executor.
#[derive(Debug)]
pub(super) struct Tasks {
    ready: Arc<Ready>,
    /// Those of this turn; empty between turns.
    running: RefCell<VecDeque<Runnable>>,
    /// A waker of each task that is not done, so that none outlives its executor.
    alive: Rc<RefCell<Slab<Waker>>>,
}

/// Tasks that can run, in the order in which they were woken.
#[derive(Debug)]
struct Ready {
    queue: Mutex<VecDeque<Runnable>>,
    executor: WakeHandle,
}

impl Ready {
    fn push(&self, runnable: Runnable) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(runnable);
        // No system call unless the executor sleeps, and then another thread has woken the task.
        self.executor.wake();
    }

    /// Exchanges the queue for `empty`, whose memory it goes on with.
    fn swap(&self, empty: &mut VecDeque<Runnable>) {
        mem::swap(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner), empty);
    }
}

impl Tasks {
    /// No tasks yet; those that other threads wake wake `executor`.
    pub(super) fn new(executor: WakeHandle) -> Self {
        let ready = Arc::new(Ready { queue: Mutex::default(), executor });
        Self { ready, running: RefCell::default(), alive: Rc::default() }
    }

    /// Adds a task. A panic ends it alone.
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        let mut alive = self.alive.borrow_mut();
        let entry = alive.vacant_entry();
        // Boxed, so that the task keeps room for the future only once.
        let task = Task { future: Box::pin(future), alive: Rc::clone(&self.alive), key: entry.key() };
        let ready = Arc::clone(&self.ready);
        let (runnable, handle) = async_task::spawn_local(task, move |runnable| ready.push(runnable));
        entry.insert(runnable.waker());
        handle.detach();
        runnable.schedule();
    }

    /// Runs each task that can run now once. Those that are woken meanwhile wait for the next turn, so that readiness
    /// is looked at in between.
    pub(super) fn run(&self) {
        let mut running = self.running.borrow_mut();
        self.ready.swap(&mut running);
        for runnable in running.drain(..) {
            runnable.run();
        }
    }

    /// Whether a task can run.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Drops every task that is not done, on the thread that has run them.
    pub(super) fn cancel_all(&self) {
        // What is dropped may wake or spawn others.
        loop {
            let alive = mem::take(&mut *self.alive.borrow_mut());
            alive.into_iter().for_each(|(_, waker)| waker.wake());
            let mut cancelled = VecDeque::new();
            self.ready.swap(&mut cancelled);
            if cancelled.is_empty() {
                return;
            }
        }
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    alive: Rc<RefCell<Slab<Waker>>>,
    key: usize,
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let poll = AssertUnwindSafe(|| self.future.as_mut().poll(context));
        // The panic hook has logged it.
        catch_unwind(poll).unwrap_or(Poll::Ready(()))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.alive.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::{pending, poll_fn};

    use super::super::Wake;
    use super::*;

    fn tasks() -> Tasks {
        Tasks::new(Wake::new().unwrap().handle())
    }

    #[test]
    fn a_task_that_wakes_itself_runs_again_in_the_next_turn() {
        let (tasks, runs) = (tasks(), Rc::new(Cell::new(0)));
        let counted = Rc::clone(&runs);
        tasks.spawn(poll_fn(move |context| {
            counted.set(counted.get() + 1);
            context.waker().wake_by_ref();
            if counted.get() < 3 { Poll::Pending } else { Poll::Ready(()) }
        }));
        for turn in 1..=3 {
            assert!(tasks.has_ready());
            tasks.run();
            assert_eq!(runs.get(), turn);
        }
        assert!(tasks.alive.borrow().is_empty());
    }

    #[test]
    fn a_panic_ends_its_task_alone() {
        let (tasks, done) = (tasks(), Rc::new(Cell::new(false)));
        tasks.spawn(async { panic!("in a task") });
        let other = Rc::clone(&done);
        tasks.spawn(async move { other.set(true) });
        tasks.run();
        assert!(done.get() && tasks.alive.borrow().is_empty());
    }

    #[test]
    fn cancelled_tasks_are_dropped_at_once_and_a_late_wake_up_does_nothing() {
        let (tasks, held) = (tasks(), Rc::new(()));
        let (inside, waker) = (Rc::clone(&held), Rc::new(RefCell::new(None)));
        let remembered = Rc::clone(&waker);
        tasks.spawn(async move {
            poll_fn(|context| {
                *remembered.borrow_mut() = Some(context.waker().clone());
                Poll::Ready(())
            })
            .await;
            pending::<()>().await;
            drop(inside);
        });
        tasks.run();
        tasks.cancel_all();
        assert_eq!(Rc::strong_count(&held), 1);
        waker.borrow_mut().take().unwrap().wake();
        assert!(!tasks.has_ready());
    }
}
