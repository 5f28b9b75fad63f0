//! How long a request may take: first in the queue, then with the application.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::gateway::RequestProgress;
use crate::http::RequestHead;

/// How long one request may take.
#[derive(Debug)]
pub(super) struct RequestDeadline {
    /// The request must have been taken by then.
    queue_until: Instant,
    /// The application must send something within.
    timeout: Option<Duration>,
    /// What it had sent at the last look, and when that was.
    last_progress: Option<(u64, Instant)>,
    /// The request's head, for the log where the application may have to do without an answer.
    head: Option<Arc<RequestHead>>,
}

/// What a look at a request says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum DeadlineCheck {
    /// Look again then, or never.
    Pending(Option<Instant>),
    /// It has taken too long.
    Exceeded,
}

impl RequestDeadline {
    pub(super) fn new(config: &Config, head: &Arc<RequestHead>, received_at: Instant) -> Self {
        let timeout = config.worker_limits.request_timeout;
        Self {
            queue_until: received_at + config.queue_timeout,
            timeout,
            last_progress: None,
            head: Some(Arc::clone(head)),
        }
    }

    /// When to look first, at a request received at `received_at`.
    pub(super) fn first_check(&self, received_at: Instant) -> Instant {
        self.timeout.map_or(self.queue_until, |timeout| self.queue_until.min(received_at + timeout))
    }

    /// Whether the request has waited too long if it is still in the queue.
    pub(super) fn is_queue_time_over(&self, now: Instant) -> bool {
        self.queue_until <= now
    }

    /// Looks at a request that is in the queue, or on which an application thread does `work`.
    pub(super) fn check(&mut self, work: Option<RequestProgress>, now: Instant) -> DeadlineCheck {
        let Some(work) = work else {
            let soonest =
                self.timeout.map_or(self.queue_until, |timeout| self.queue_until.min(now + timeout));
            return DeadlineCheck::Pending(Some(soonest));
        };
        let Some(timeout) = self.timeout else { return DeadlineCheck::Pending(None) };
        let began_at = now.checked_sub(work.lasts).unwrap_or(now);
        let progress_at = match self.last_progress {
            Some((sends, at)) if sends == work.sends => at,
            // A thread that sends makes progress: the timeout starts again.
            None if work.sends == 0 => began_at,
            _ => now,
        };
        self.last_progress = Some((work.sends, progress_at));
        let due = progress_at + timeout;
        if due > now { DeadlineCheck::Pending(Some(due)) } else { DeadlineCheck::Exceeded }
    }

    /// Stops looking; returns the request's head.
    pub(super) fn give_up(&mut self) -> Option<Arc<RequestHead>> {
        self.timeout = None;
        self.head.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn deadline(timeout: Option<Duration>, now: Instant) -> RequestDeadline {
        RequestDeadline { queue_until: now + 30 * SECOND, timeout, last_progress: None, head: None }
    }

    fn work(lasts: Duration, sends: u64) -> RequestProgress {
        RequestProgress { thread: 1, lasts, sends }
    }

    #[test]
    fn without_a_limit_only_the_queue_counts() {
        let now = Instant::now();
        let mut deadline = deadline(None, now);
        assert_eq!(deadline.first_check(now), now + 30 * SECOND);
        assert_eq!(deadline.check(None, now), DeadlineCheck::Pending(Some(now + 30 * SECOND)));
        assert_eq!(deadline.check(Some(work(1000 * SECOND, 0)), now), DeadlineCheck::Pending(None));
        assert!(
            !deadline.is_queue_time_over(now + 29 * SECOND) && deadline.is_queue_time_over(now + 30 * SECOND)
        );
    }

    #[test]
    fn time_in_the_queue_is_not_the_applications() {
        let now = Instant::now();
        let mut deadline = deadline(Some(5 * SECOND), now);
        assert_eq!(deadline.first_check(now), now + 5 * SECOND);
        let now = now + 5 * SECOND;
        assert_eq!(deadline.check(None, now), DeadlineCheck::Pending(Some(now + 5 * SECOND)));
        assert_eq!(
            deadline.check(Some(work(4 * SECOND, 0)), now),
            DeadlineCheck::Pending(Some(now + SECOND))
        );
        assert_eq!(deadline.check(Some(work(5 * SECOND, 0)), now + SECOND), DeadlineCheck::Exceeded);
    }

    #[test]
    fn an_application_that_sends_has_time_again() {
        let mut now = Instant::now();
        let mut deadline = deadline(Some(5 * SECOND), now);
        for sends in 1..20 {
            now += 5 * SECOND;
            let check = deadline.check(Some(work(5 * SECOND * u32::try_from(sends).unwrap(), sends)), now);
            assert_eq!(check, DeadlineCheck::Pending(Some(now + 5 * SECOND)));
        }
        now += 5 * SECOND;
        assert_eq!(deadline.check(Some(work(100 * SECOND, 19)), now), DeadlineCheck::Exceeded);
        assert!(deadline.give_up().is_none());
        assert_eq!(deadline.check(Some(work(200 * SECOND, 19)), now), DeadlineCheck::Pending(None));
    }
}
