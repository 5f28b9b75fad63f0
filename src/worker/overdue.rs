//! How long a request may take: first in the queue, then with the application.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::gateway::Work;
use crate::http::RequestHead;

/// The patience with one request.
#[derive(Debug)]
pub(super) struct Patience {
    /// The request must have been taken by then.
    queue_until: Instant,
    /// The application must send something within.
    timeout: Option<Duration>,
    /// What it had sent at the last look, and when that was.
    heard: Option<(u64, Instant)>,
    /// The request's head, kept for the log where the application may have to do without an answer.
    head: Option<RequestHead>,
}

/// What a look at a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Look again then, or never.
    Fine(Option<Instant>),
    /// It has taken too long.
    Overdue,
}

impl Patience {
    pub(super) fn new(config: &Config, head: &RequestHead, received_at: Instant) -> Self {
        let timeout = config.worker_limits.request_timeout;
        Self {
            queue_until: received_at + config.queue_timeout,
            timeout,
            heard: None,
            head: timeout.map(|_| head.clone()),
        }
    }

    /// When to look first, at a request received at `received_at`.
    pub(super) fn first_look(&self, received_at: Instant) -> Instant {
        self.timeout.map_or(self.queue_until, |timeout| self.queue_until.min(received_at + timeout))
    }

    /// Whether the request has waited too long if nobody has taken it yet.
    pub(super) fn is_queue_over(&self, now: Instant) -> bool {
        self.queue_until <= now
    }

    /// Looks at a request that is in the queue, or on which an application thread does `work`.
    pub(super) fn look(&mut self, work: Option<Work>, now: Instant) -> Standing {
        let Some(work) = work else {
            let soonest =
                self.timeout.map_or(self.queue_until, |timeout| self.queue_until.min(now + timeout));
            return Standing::Fine(Some(soonest));
        };
        let Some(timeout) = self.timeout else { return Standing::Fine(None) };
        let began_at = now.checked_sub(work.lasts).unwrap_or(now);
        let heard_at = match self.heard {
            Some((sends, at)) if sends == work.sends => at,
            // Whoever sends, works: the time begins anew.
            None if work.sends == 0 => began_at,
            _ => now,
        };
        self.heard = Some((work.sends, heard_at));
        let due = heard_at + timeout;
        if due > now { Standing::Fine(Some(due)) } else { Standing::Overdue }
    }

    /// Stops looking; returns the request's head.
    pub(super) fn give_up(&mut self) -> Option<RequestHead> {
        self.timeout = None;
        self.head.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn patience(timeout: Option<Duration>, now: Instant) -> Patience {
        Patience { queue_until: now + 30 * SECOND, timeout, heard: None, head: None }
    }

    fn work(lasts: Duration, sends: u64) -> Work {
        Work { thread: 1, lasts, sends }
    }

    #[test]
    fn without_a_limit_only_the_queue_counts() {
        let now = Instant::now();
        let mut patience = patience(None, now);
        assert_eq!(patience.first_look(now), now + 30 * SECOND);
        assert_eq!(patience.look(None, now), Standing::Fine(Some(now + 30 * SECOND)));
        assert_eq!(patience.look(Some(work(1000 * SECOND, 0)), now), Standing::Fine(None));
        assert!(!patience.is_queue_over(now + 29 * SECOND) && patience.is_queue_over(now + 30 * SECOND));
    }

    #[test]
    fn time_in_the_queue_is_not_the_applications() {
        let now = Instant::now();
        let mut patience = patience(Some(5 * SECOND), now);
        assert_eq!(patience.first_look(now), now + 5 * SECOND);
        let now = now + 5 * SECOND;
        assert_eq!(patience.look(None, now), Standing::Fine(Some(now + 5 * SECOND)));
        assert_eq!(patience.look(Some(work(4 * SECOND, 0)), now), Standing::Fine(Some(now + SECOND)));
        assert_eq!(patience.look(Some(work(5 * SECOND, 0)), now + SECOND), Standing::Overdue);
    }

    #[test]
    fn an_application_that_sends_has_time_again() {
        let mut now = Instant::now();
        let mut patience = patience(Some(5 * SECOND), now);
        for sends in 1..20 {
            now += 5 * SECOND;
            let standing = patience.look(Some(work(5 * SECOND * u32::try_from(sends).unwrap(), sends)), now);
            assert_eq!(standing, Standing::Fine(Some(now + 5 * SECOND)));
        }
        now += 5 * SECOND;
        assert_eq!(patience.look(Some(work(100 * SECOND, 19)), now), Standing::Overdue);
        assert!(patience.give_up().is_none());
        assert_eq!(patience.look(Some(work(200 * SECOND, 19)), now), Standing::Fine(None));
    }
}
