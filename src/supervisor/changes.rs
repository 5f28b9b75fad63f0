//! Changes of files, of which every worker that watches them tells the supervisor.

use std::time::{Duration, Instant};

use super::generation::SupervisorEvent;
use crate::sys::clock;

/// What workers have said.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The file and its version of which somebody spoke last.
    last: Option<(String, String)>,
}

impl Changes {
    /// What it means that a worker has seen a file change to that version.
    pub(super) fn record(&mut self, path: String, version: String, noticed_ms: u64) -> SupervisorEvent {
        let change = Some((path, version));
        // Who says the same again was slow to notice: a generation that has it was begun long ago.
        let is_news = self.last != change;
        self.last = change;
        if is_news { SupervisorEvent::Changed(instant_at(noticed_ms)) } else { SupervisorEvent::Tick }
    }
}

/// The moment that [`clock::monotonic_ms`] called `ms`, in any process.
fn instant_at(ms: u64) -> Instant {
    let ago = Duration::from_millis(clock::monotonic_ms().saturating_sub(ms));
    let now = Instant::now();
    now.checked_sub(ago).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_a_file_is_news_once() {
        let mut changes = Changes::default();
        let mut is_news = |path: &str, version: &str| {
            matches!(
                changes.record(path.into(), version.into(), clock::monotonic_ms()),
                SupervisorEvent::Changed(_)
            )
        };
        assert!(is_news("a.py", "1"));
        assert!(!is_news("a.py", "1"), "another worker saw it, much later");
        assert!(is_news("a.py", "2"));
        assert!(is_news("b.py", "2"));
    }
}
