//! The end of listening when the server stops: nobody new, everybody who waits, and then nobody at all.
//!
//! A socket that is merely not accepted from keeps who connects waiting, and resets them at the end. So the supervisor
//! lets nobody in any more, the workers accept who waits already, and when nobody does the sockets are closed: a proxy
//! that connects is refused and asks another server at once. Sockets that the server was given stay open, as the next
//! server answers there.

use std::time::{Duration, Instant};

use super::Supervisor;
use crate::bootstrap::Order;
use crate::limits::{CLOSE_LOOK_PAUSE, CLOSE_OPEN_MAX, CLOSE_SETTLE};

/// See the module's page.
#[derive(Debug)]
pub(super) struct Closing {
    begun_at: Instant,
    look_at: Instant,
    /// Whether the kernel lets nobody new in meanwhile, so that those who wait become fewer.
    admits_nobody: bool,
}

impl Closing {
    fn begin(admits_nobody: bool, now: Instant) -> Self {
        Self { begun_at: now, look_at: now + CLOSE_SETTLE, admits_nobody }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Instant {
        self.look_at
    }

    /// Whether it is time to close, if somebody still waits or nobody does.
    fn is_over(&mut self, has_waiting: bool, now: Instant) -> bool {
        self.look_at = now + CLOSE_LOOK_PAUSE;
        let age: Duration = now.saturating_duration_since(self.begun_at);
        age >= CLOSE_SETTLE && (!has_waiting || !self.admits_nobody && age >= CLOSE_OPEN_MAX)
    }
}

impl Supervisor<'_> {
    /// Lets nobody in any more.
    pub(super) fn begin_closing(&mut self) {
        let admits_nobody = self.listeners.admit_nobody();
        self.closing = Some(Closing::begin(admits_nobody, Instant::now()));
    }

    /// How a worker is told to drain.
    pub(super) fn farewell(&self) -> Order {
        if self.closing.is_some() { Order::Close } else { Order::Drain }
    }

    /// Closes the sockets once nobody waits there any more.
    pub(super) fn tend_closing(&mut self, now: Instant) {
        let Some(closing) = self.closing.as_mut().filter(|closing| closing.due() <= now) else { return };
        if closing.is_over(self.listeners.has_waiting(), now) {
            self.listeners.close();
            self.closing = None;
            self.workers.values().for_each(|worker| worker.notify(Order::Closed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_closed_when_nobody_waits_and_every_handshake_has_had_its_time() {
        let now = Instant::now();
        let mut closing = Closing::begin(true, now);
        assert_eq!(closing.due(), now + CLOSE_SETTLE);
        assert!(!closing.is_over(false, now));
        assert!(!closing.is_over(true, now + 100 * CLOSE_OPEN_MAX), "nobody is reset who could be served");
        assert!(closing.is_over(false, now + CLOSE_SETTLE));
    }

    #[test]
    fn where_the_kernel_lets_everybody_in_that_lasts_a_bounded_time() {
        let now = Instant::now();
        let mut closing = Closing::begin(false, now);
        assert!(!closing.is_over(true, now + CLOSE_OPEN_MAX / 2));
        assert!(closing.is_over(true, now + CLOSE_OPEN_MAX));
    }
}
