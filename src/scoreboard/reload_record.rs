//! How the last reload went: a text in shared memory that changes rarely. Only the supervisor writes it.

use serde::{Deserialize, Serialize};

use super::layout::reload::WORDS;
use super::{Scoreboard, text};
use crate::limits::{RELOAD_SUMMARY_BYTES_MAX, RELOAD_TRACEBACK_BYTES_MAX};
use crate::sys::shared_memory::AtomicWords;

/// How the last reload went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// Whether its generation serves.
    pub ok: bool,
    /// The generation that was loaded.
    pub generation: u64,
    /// Why it failed, in one line; empty if it did not.
    pub summary: String,
    /// The application's traceback; empty if there is none.
    pub traceback: String,
}

impl Scoreboard {
    /// Records how a reload went, for [`Scoreboard::last_reload`] in any process. For the supervisor alone.
    pub fn record_reload(&self, record: &LastReload) {
        let Some(words) = self.reload_words() else { return };
        let (mut summary_bytes_max, mut traceback_bytes_max) =
            (RELOAD_SUMMARY_BYTES_MAX, RELOAD_TRACEBACK_BYTES_MAX);
        loop {
            let record = LastReload {
                summary: text::cut_in_the_middle(&record.summary, summary_bytes_max),
                traceback: text::cut_in_the_middle(&record.traceback, traceback_bytes_max),
                ..record.clone()
            };
            let Ok(json) = serde_json::to_vec(&record) else { return };
            if json.len() <= text::capacity_bytes(WORDS) {
                return text::write(&*words, json);
            }
            // How long a text becomes in JSON depends on what is in it, so halve until it fits.
            (summary_bytes_max, traceback_bytes_max) = (summary_bytes_max / 2, traceback_bytes_max / 2);
        }
    }

    /// How the last reload went; `None` before the first, or when the memory holds something else.
    pub fn last_reload(&self) -> Option<LastReload> {
        serde_json::from_slice(&text::read(&*self.reload_words()?)?).ok()
    }

    fn reload_words(&self) -> Option<AtomicWords<WORDS>> {
        AtomicWords::new(&self.memory, self.layout.reload())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Dimensions;

    fn scoreboard() -> Scoreboard {
        Scoreboard::create(Dimensions { rows: 1, executors: 1, threads: 1 }).unwrap().0
    }

    fn record(summary: &str, traceback: &str) -> LastReload {
        let (summary, traceback) = (summary.to_owned(), traceback.to_owned());
        LastReload { at: 1, ok: summary.is_empty(), generation: 2, summary, traceback }
    }

    #[test]
    fn the_last_record_is_read_back() {
        let scoreboard = scoreboard();
        assert_eq!(scoreboard.last_reload(), None);
        for summary in ["cannot import 'a.b'", "", "é\"\n"] {
            let record = record(summary, "Traceback:\n  File \"a.py\"\n");
            scoreboard.record_reload(&record);
            assert_eq!(scoreboard.last_reload(), Some(record));
        }
    }

    #[test]
    fn texts_too_long_keep_their_beginning_and_their_end() {
        let scoreboard = scoreboard();
        let long = format!("begin {} end", "\u{1}é".repeat(10 * RELOAD_TRACEBACK_BYTES_MAX));
        scoreboard.record_reload(&record(&long, &long));
        let kept = scoreboard.last_reload().unwrap();
        for text in [kept.summary, kept.traceback] {
            assert!(text.starts_with("begin ") && text.ends_with(" end"), "{text:?}");
            assert!(text.contains(" bytes cut "), "{text:?}");
        }
    }
}
