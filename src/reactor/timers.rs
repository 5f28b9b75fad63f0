//! Timers of an executor: tasks that sleep until a moment.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Sleepers, soonest first. There are few: connections share one sweeper instead of sleeping each for themselves.
#[derive(Debug, Default)]
pub(super) struct Timers {
    sleepers: RefCell<BinaryHeap<Reverse<Sleeper>>>,
}

#[derive(Debug)]
struct Sleeper {
    wake_at: Instant,
    alarm: Rc<Alarm>,
}

#[derive(Debug, Default)]
struct Alarm {
    rung: Cell<bool>,
    cancelled: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.wake_at == other.wake_at
    }
}

impl Eq for Sleeper {}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.wake_at.cmp(&other.wake_at)
    }
}

impl Timers {
    /// A future that is ready at `wake_at`. Dropping it cancels the timer.
    pub(super) fn sleep_until(&self, wake_at: Instant) -> Sleep {
        let alarm = Rc::new(Alarm::default());
        self.sleepers.borrow_mut().push(Reverse(Sleeper { wake_at, alarm: Rc::clone(&alarm) }));
        Sleep { alarm }
    }

    /// The soonest moment anyone waits for.
    pub(super) fn soonest(&self) -> Option<Instant> {
        let mut sleepers = self.sleepers.borrow_mut();
        while let Some(Reverse(first)) = sleepers.peek() {
            if !first.alarm.cancelled.get() {
                return Some(first.wake_at);
            }
            sleepers.pop();
        }
        None
    }

    /// Wakes everyone whose moment has come.
    pub(super) fn ring(&self, now: Instant) {
        let mut sleepers = self.sleepers.borrow_mut();
        while sleepers.peek().is_some_and(|Reverse(first)| first.wake_at <= now) {
            if let Some(Reverse(Sleeper { alarm, .. })) = sleepers.pop() {
                alarm.rung.set(true);
                if let Some(waker) = alarm.waker.borrow_mut().take() {
                    waker.wake();
                }
            }
        }
    }
}

/// See [`super::Reactor::sleep_until`].
#[derive(Debug)]
pub struct Sleep {
    alarm: Rc<Alarm>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.alarm.rung.get() {
            return Poll::Ready(());
        }
        *self.alarm.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.alarm.cancelled.set(true);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_soonest_comes_first_and_a_dropped_sleep_is_forgotten() {
        let (timers, start) = (Timers::default(), Instant::now());
        let late = timers.sleep_until(start + Duration::from_secs(2));
        let soon = timers.sleep_until(start + Duration::from_secs(1));
        assert_eq!(timers.soonest(), Some(start + Duration::from_secs(1)));
        drop(soon);
        assert_eq!(timers.soonest(), Some(start + Duration::from_secs(2)));
        drop(late);
        assert_eq!(timers.soonest(), None);
    }

    #[test]
    fn a_sleep_is_ready_once_its_moment_has_rung() {
        let (timers, start) = (Timers::default(), Instant::now());
        let mut sleep = timers.sleep_until(start + Duration::from_secs(1));
        let mut context = Context::from_waker(Waker::noop());
        timers.ring(start);
        assert!(Pin::new(&mut sleep).poll(&mut context).is_pending());
        timers.ring(start + Duration::from_secs(1));
        assert!(Pin::new(&mut sleep).poll(&mut context).is_ready());
    }
}
