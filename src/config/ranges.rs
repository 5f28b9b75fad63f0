//! Options that take a number: name, default and bounds of each in one table, and the one way to read them.

use std::time::Duration;

use super::ConfigError;
use crate::limits;

const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

// Columns: option, what to choose, default, least, most; times in milliseconds.
pub(super) const PORT: Range = number("--port", "a port", 8080, 0, 65_535);
/// Off by default: the default here is the example in its hint.
pub(super) const STATUS_PORT: Range = number("--status-port", "a port", 8081, 0, 65_535);
pub(super) const INHERITED_FD: Range = number("--bind", "a descriptor", 3, 3, 1_048_575);
pub(super) const PROCESSES: Range = measured("--processes", "a number of processes", 1, 1024);
pub(super) const THREADS: Range = number("--threads", "a number of threads", 4, 0, 1024);
pub(super) const GREEN_REQUESTS_MAX: Range =
    number("--green-requests-max", "a number of requests", limits::GREEN_REQUESTS_MAX as u64, 1, 1_000_000);
pub(super) const DEADMAN_TIMEOUT: Range = seconds("--deadman-timeout", 10 * SECOND, 0, DAY);
pub(super) const DRAIN_DELAY: Range = seconds("--drain-delay", 0, 0, HOUR);
pub(super) const START_TIMEOUT: Range = seconds("--start-timeout", 60 * SECOND, 100, DAY);
pub(super) const QUEUE: Range = number("--queue", "a number of requests", 1024, 1, 65_536);
pub(super) const QUEUE_TIMEOUT: Range = seconds("--queue-timeout", 30 * SECOND, 1, HOUR);
pub(super) const REQUEST_LINE_BYTES_MAX: Range =
    bytes("--request-line-bytes-max", limits::REQUEST_LINE_BYTES_MAX as u64, 64, MIB);
pub(super) const HEADER_BYTES_MAX: Range =
    bytes("--header-bytes-max", limits::HEADER_BYTES_MAX as u64, 64, 16 * MIB);
pub(super) const HEADER_COUNT_MAX: Range =
    number("--header-count-max", "a number of fields", limits::HEADER_COUNT_MAX as u64, 1, 10_000);
pub(super) const BODY_BYTES_MAX: Range = bytes("--body-bytes-max", limits::BODY_BYTES_MAX, 0, 1024 * GIB);
pub(super) const HEADER_TIMEOUT: Range =
    seconds("--header-timeout", limits::HEADER_TIMEOUT_S * SECOND, 1, HOUR);
pub(super) const KEEPALIVE_TIMEOUT: Range =
    seconds("--keepalive-timeout", limits::KEEPALIVE_TIMEOUT_S * SECOND, 1, DAY);
pub(super) const BODY_TIMEOUT: Range = seconds("--body-timeout", limits::BODY_TIMEOUT_S * SECOND, 1, HOUR);
pub(super) const BODY_BYTES_PER_S_MIN: Range =
    bytes("--body-bytes-per-s-min", limits::BODY_BYTES_PER_S_MIN, 0, GIB);
pub(super) const REQUESTS_PER_CONNECTION_MAX: Range = number(
    "--requests-per-connection-max",
    "a number of requests",
    limits::REQUESTS_PER_CONNECTION_MAX as u64,
    1,
    1_000_000_000,
);
pub(super) const RESPONSE_STALL_TIMEOUT: Range =
    seconds("--response-stall-timeout", limits::RESPONSE_STALL_TIMEOUT_S * SECOND, 1, HOUR);
pub(super) const CONNECTIONS_MAX: Range =
    number("--connections-max", "a number of connections", limits::CONNECTIONS_MAX, 1, 1_000_000);
pub(super) const RESPONSE_SPILL_BYTES_MAX: Range =
    bytes("--response-spill-bytes-max", limits::RESPONSE_SPILL_BYTES_MAX, 0, 1024 * GIB);
pub(super) const SPILL_BYTES_MAX: Range = bytes("--spill-bytes-max", limits::SPILL_BYTES_MAX, 0, 1024 * GIB);
pub(super) const MAX_MEMORY: Range = kibibytes("--max-memory", 1024 * GIB);
pub(super) const MAX_WORKER_MEMORY: Range = kibibytes("--max-worker-memory", 1024 * GIB);
pub(super) const MAX_AGE: Range = seconds("--max-age", 0, 0, 365 * DAY);
pub(super) const MAX_REQUESTS: Range =
    number("--max-requests", "a number of requests", 0, 0, 1_000_000_000_000);
pub(super) const MAX_REQUESTS_JITTER: Range =
    number("--max-requests-jitter", "a number of requests", 0, 0, 1_000_000_000_000);
pub(super) const REQUEST_TIMEOUT: Range = seconds("--request-timeout", 0, 0, DAY);
pub(super) const POLL_INTERVAL: Range = seconds("--poll-interval", limits::POLL_INTERVAL_MS, 100, HOUR);
pub(super) const STUCK_TIMEOUT: Range = seconds("--stuck-timeout", limits::STUCK_TIMEOUT_S * SECOND, 0, DAY);

/// The whole table, for help, documentation and tests.
pub(super) const ALL: &[Range] = &[
    PORT,
    PROCESSES,
    THREADS,
    GREEN_REQUESTS_MAX,
    DEADMAN_TIMEOUT,
    DRAIN_DELAY,
    START_TIMEOUT,
    QUEUE,
    QUEUE_TIMEOUT,
    REQUEST_LINE_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADER_COUNT_MAX,
    BODY_BYTES_MAX,
    HEADER_TIMEOUT,
    KEEPALIVE_TIMEOUT,
    BODY_TIMEOUT,
    BODY_BYTES_PER_S_MIN,
    REQUESTS_PER_CONNECTION_MAX,
    RESPONSE_STALL_TIMEOUT,
    CONNECTIONS_MAX,
    SPILL_BYTES_MAX,
    RESPONSE_SPILL_BYTES_MAX,
    MAX_MEMORY,
    MAX_WORKER_MEMORY,
    MAX_AGE,
    MAX_REQUESTS,
    MAX_REQUESTS_JITTER,
    REQUEST_TIMEOUT,
    POLL_INTERVAL,
    STUCK_TIMEOUT,
];

/// An option that takes a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) flag: &'static str,
    noun: &'static str,
    unit: Unit,
    /// `None`: one per CPU, which only the caller can count.
    default: Option<u64>,
    pub(super) min: u64,
    pub(super) max: u64,
}

/// How a number is written, and what its steps are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Decimal digits.
    Number,
    /// Decimal digits, and perhaps `K`, `M` or `G` for a power of 1024.
    Bytes,
    /// As bytes, but held in KiB, and a number without a letter counts KiB, as in Spawning 0.9.
    Kibibytes,
    /// Seconds with up to three decimals, held in milliseconds.
    Seconds,
}

const fn number(flag: &'static str, noun: &'static str, default: u64, min: u64, max: u64) -> Range {
    Range { flag, noun, unit: Unit::Number, default: Some(default), min, max }
}

const fn measured(flag: &'static str, noun: &'static str, min: u64, max: u64) -> Range {
    Range { flag, noun, unit: Unit::Number, default: None, min, max }
}

const fn bytes(flag: &'static str, default: u64, min: u64, max: u64) -> Range {
    Range { flag, noun: "a number of bytes", unit: Unit::Bytes, default: Some(default), min, max }
}

const fn kibibytes(flag: &'static str, max_bytes: u64) -> Range {
    let (default, min, max) = (Some(0), 0, max_bytes / KIB);
    Range { flag, noun: "an amount of memory", unit: Unit::Kibibytes, default, min, max }
}

const fn seconds(flag: &'static str, default_ms: u64, min_ms: u64, max_ms: u64) -> Range {
    let (default, min, max) = (Some(default_ms), min_ms, max_ms);
    Range { flag, noun: "a number of seconds", unit: Unit::Seconds, default, min, max }
}

impl Range {
    /// The same option with a default that was measured on this machine, brought within the bounds.
    pub(super) fn or_default(self, measured: usize) -> Self {
        let measured = u64::try_from(measured).unwrap_or(u64::MAX);
        Self { default: Some(measured.clamp(self.min, self.max)), ..self }
    }

    /// The value of a word, or the default when there is none.
    pub(super) fn read<T: TryFrom<u64>>(&self, word: Option<&str>) -> Result<T, ConfigError> {
        let value = match word {
            Some(word) => self.value(word)?,
            None => self.default.unwrap_or(self.min),
        };
        // Fails only where `usize` is narrower than the table's bounds.
        T::try_from(value)
            .map_err(|_| self.error(format!("{} is too large for this machine", self.text(value))))
    }

    /// As [`Range::read`], for a limit that 0 lifts.
    pub(super) fn read_limit<T: TryFrom<u64>>(&self, word: Option<&str>) -> Result<Option<T>, ConfigError> {
        match self.read(word)? {
            0 => Ok(None),
            _ => self.read(word).map(Some),
        }
    }

    /// As [`Range::read`], for an option in seconds.
    pub(super) fn read_time(&self, word: Option<&str>) -> Result<Duration, ConfigError> {
        self.read(word).map(Duration::from_millis)
    }

    fn value(&self, word: &str) -> Result<u64, ConfigError> {
        let (negative, digits) = word.strip_prefix('-').map_or((false, word), |digits| (true, digits));
        let value = self.unit.parse(digits).ok_or_else(|| self.malformed(word))?;
        if value > 0 && negative || value < self.min {
            return Err(self.error(format!("{word} is too small, at least {}", self.text(self.min))));
        }
        if value > self.max {
            return Err(self.error(format!("{word} is too large, at most {}", self.text(self.max))));
        }
        Ok(value)
    }

    fn malformed(&self, word: &str) -> ConfigError {
        let wanted = match self.unit {
            Unit::Number => "a whole number",
            Unit::Bytes | Unit::Kibibytes => "a whole number, with or without K, M or G",
            Unit::Seconds => "a number with up to three decimals",
        };
        self.error(format!("{word:?} is not {wanted}"))
    }

    fn error(&self, fault: String) -> ConfigError {
        ConfigError::new(self.flag, fault, self.hint())
    }

    pub(super) fn hint(&self) -> String {
        let (flag, noun, bounds) = (self.flag, self.noun, self.bounds_text());
        let example = self.text(self.default.unwrap_or(self.min));
        format!("choose {noun} from {bounds}, for example {flag} {example}")
    }

    /// The default as a user would write it.
    pub(super) fn default_text(&self) -> String {
        self.default.map_or_else(|| String::from("one per CPU"), |value| self.text(value))
    }

    /// The bounds as a user would write them.
    pub(super) fn bounds_text(&self) -> String {
        format!("{} to {}", self.text(self.min), self.text(self.max))
    }

    pub(super) fn text(&self, value: u64) -> String {
        match self.unit {
            Unit::Number => value.to_string(),
            Unit::Bytes => bytes_text(value),
            Unit::Kibibytes => bytes_text(value.saturating_mul(KIB)),
            Unit::Seconds => seconds_text(value),
        }
    }
}

impl Unit {
    /// The value of unsigned digits, `u64::MAX` when they mean more; `None` when they are not of this form.
    fn parse(self, word: &str) -> Option<u64> {
        match self {
            Self::Number => whole(word),
            Self::Bytes => {
                let (digits, factor) = match word.char_indices().next_back()? {
                    (at, 'K' | 'k') => (word.get(..at)?, KIB),
                    (at, 'M' | 'm') => (word.get(..at)?, MIB),
                    (at, 'G' | 'g') => (word.get(..at)?, GIB),
                    _ => (word, 1),
                };
                Some(whole(digits)?.saturating_mul(factor))
            }
            Self::Kibibytes if word.bytes().all(|byte| byte.is_ascii_digit()) => whole(word),
            Self::Kibibytes => Self::Bytes.parse(word).map(|bytes| bytes / KIB),
            Self::Seconds => {
                let (seconds, decimals) = word.split_once('.').unwrap_or((word, "0"));
                if decimals.len() > 3 {
                    return None;
                }
                let milliseconds = whole(&format!("{decimals:0<3}"))?;
                Some(whole(seconds)?.saturating_mul(SECOND).saturating_add(milliseconds))
            }
        }
    }
}

/// Digits and nothing else: `u64::from_str` would take a plus sign too.
fn whole(word: &str) -> Option<u64> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| word.parse().unwrap_or(u64::MAX))
}

fn bytes_text(value: u64) -> String {
    [(GIB, "G"), (MIB, "M"), (KIB, "K")]
        .iter()
        .find(|(factor, _)| value >= *factor && value.is_multiple_of(*factor))
        .map_or_else(|| value.to_string(), |(factor, suffix)| format!("{}{suffix}", value / factor))
}

fn seconds_text(milliseconds: u64) -> String {
    let text = format!("{}.{:03}", milliseconds / SECOND, milliseconds % SECOND);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
