//! Who has to go though nothing has crashed: memory, age, requests answered, and signs of life.
//!
//! Pure: what was seen of the workers and `now` in, verdicts out. A worker that has to go is replaced first and drains
//! afterwards, so no verdict costs a request; those that can wait are pronounced one at a time.

use std::time::{Duration, Instant};

use super::generation::{Farewell, Replacement, Unrest, WorkerId};
use crate::config::WorkerLimits;
use crate::limits::{AGE_JITTER_PART, LIMIT_CHECK_PAUSE, MEMORY_RELOAD_WAIT_MAX, REPLACE_AGE_MIN};

/// The longest pause between two looks when only signs of life are looked for.
const LIFE_PAUSE_MAX: Duration = Duration::from_secs(15);

/// What is seen of a worker that accepts.
#[derive(Clone, Debug)]
pub(super) struct WorkerSample {
    pub(super) id: WorkerId,
    /// Since it accepts.
    pub(super) age: Duration,
    /// Requests it has begun.
    pub(super) requests: u64,
    /// Since its main thread showed life.
    pub(super) main_heartbeat_age: Duration,
    /// Since each executor did.
    pub(super) executor_heartbeat_ages: Vec<Duration>,
    /// Its memory, if that was measured.
    pub(super) memory_bytes: Option<u64>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LimitAction {
    /// All workers are to be replaced, for this reason.
    Reload(String),
    /// One worker is.
    Replace(WorkerId, Replacement),
}

/// The judge, and what it remembers.
#[derive(Debug)]
pub(super) struct LimitCheck {
    limits: WorkerLimits,
    /// Chooses every worker's jitter.
    seed: u64,
    looked_at: Option<Instant>,
    /// Since when silence counts: a supervisor that slept itself cannot tell which workers did not.
    awake_since: Option<Instant>,
    /// Not to reload for memory before.
    memory_reload_from: Option<Instant>,
    memory_reload_wait: Duration,
}

impl LimitCheck {
    pub(super) fn new(limits: WorkerLimits, seed: u64) -> Self {
        Self {
            limits,
            seed,
            looked_at: None,
            awake_since: None,
            memory_reload_from: None,
            memory_reload_wait: REPLACE_AGE_MIN,
        }
    }

    /// How often to look; `None` if there is nothing to look for.
    pub(super) fn pause(&self) -> Option<Duration> {
        let WorkerLimits { age_max, requests_max, stuck_timeout, .. } = self.limits;
        let life = stuck_timeout.map(|timeout| (timeout / 4).min(LIFE_PAUSE_MAX));
        let others = self.wants_memory() || age_max.is_some() || requests_max.is_some();
        life.into_iter().chain(others.then_some(LIMIT_CHECK_PAUSE)).min()
    }

    /// Whether any limit needs the memory of workers.
    pub(super) fn wants_memory(&self) -> bool {
        self.limits.memory_bytes_max.is_some() || self.limits.worker_memory_bytes_max.is_some()
    }

    /// Looks at the workers that accept. `memory_bytes` is what the whole server has, if that was measured.
    pub(super) fn look(
        &mut self,
        workers: &[WorkerSample],
        unrest: Unrest,
        memory_bytes: Option<u64>,
        now: Instant,
    ) -> Vec<LimitAction> {
        self.notice_own_sleep(now);
        let stuck: Vec<LimitAction> = workers.iter().filter_map(|worker| self.stuck(worker, now)).collect();
        if !stuck.is_empty() || unrest == Unrest::Starting {
            return stuck;
        }
        if let Some(reload) = memory_bytes.and_then(|bytes| self.too_large(workers, unrest, bytes, now)) {
            return vec![reload];
        }
        // The oldest first: the others would wait for ever behind one whose successors are soon exhausted again.
        let exhausted = workers.iter().filter_map(|worker| Some((worker.age, self.exhausted(worker)?)));
        exhausted.max_by_key(|(age, _)| *age).map(|(_, limit_check)| limit_check).into_iter().collect()
    }

    /// After a suspension of the whole server every worker seems to have been silent.
    fn notice_own_sleep(&mut self, now: Instant) {
        let pause = self.pause().unwrap_or_default();
        let has_slept = self.looked_at.is_none_or(|at| now.saturating_duration_since(at) > 3 * pause);
        if has_slept {
            self.awake_since = Some(now);
        }
        self.looked_at = Some(now);
    }

    fn stuck(&self, worker: &WorkerSample, now: Instant) -> Option<LimitAction> {
        let timeout = self.limits.stuck_timeout?;
        let awake = self.awake_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let is_stuck = |heartbeat_age: Duration| heartbeat_age.min(worker.age).min(awake) > timeout;
        let seconds = timeout.as_secs_f64();
        // Only the main thread hears orders: without it the worker cannot even be told to drain.
        let (who, farewell) = if is_stuck(worker.main_heartbeat_age) {
            ("the main thread, or the interpreter it waits for,".to_owned(), Farewell::Kill)
        } else {
            // It is the main thread that rouses executors which sleep.
            let unroused = |heartbeat_age: &Duration| heartbeat_age.saturating_sub(worker.main_heartbeat_age);
            let index = worker
                .executor_heartbeat_ages
                .iter()
                .position(|heartbeat_age| is_stuck(unroused(heartbeat_age)))?;
            (format!("executor {index}"), Farewell::Drain)
        };
        let reason = format!("{who} has had no heartbeat for {seconds} s (--stuck-timeout)");
        Some(LimitAction::Replace(worker.id, Replacement { reason, farewell }))
    }

    /// All together have too much memory. The leaving would be counted too, so nothing is judged while they leave.
    fn too_large(
        &mut self,
        workers: &[WorkerSample],
        unrest: Unrest,
        bytes: u64,
        now: Instant,
    ) -> Option<LimitAction> {
        let bytes_max = self.limits.memory_bytes_max?;
        let is_young = workers.iter().any(|worker| worker.age < REPLACE_AGE_MIN);
        if workers.is_empty() || unrest != Unrest::None || is_young {
            return None;
        }
        if bytes <= bytes_max {
            self.memory_reload_wait = REPLACE_AGE_MIN;
            return None;
        }
        if self.memory_reload_from.is_some_and(|from| now < from) {
            return None;
        }
        // An application that is too large must not be loaded again and again.
        self.memory_reload_from = Some(now + self.memory_reload_wait);
        self.memory_reload_wait = (2 * self.memory_reload_wait).min(MEMORY_RELOAD_WAIT_MAX);
        let reason = format!(
            "all processes have {} together, more than {} (--max-memory)",
            mib(bytes),
            mib(bytes_max)
        );
        Some(LimitAction::Reload(reason))
    }

    /// One worker has reached what a worker may.
    fn exhausted(&self, worker: &WorkerSample) -> Option<LimitAction> {
        let reason = self
            .too_much_memory(worker)
            .or_else(|| self.too_old(worker))
            .or_else(|| self.too_many_requests(worker))?;
        Some(LimitAction::Replace(worker.id, Replacement { reason, farewell: Farewell::Drain }))
    }

    fn too_much_memory(&self, worker: &WorkerSample) -> Option<String> {
        let (bytes, bytes_max) = worker.memory_bytes.zip(self.limits.worker_memory_bytes_max)?;
        let is_too_large = bytes > bytes_max && worker.age >= REPLACE_AGE_MIN;
        is_too_large
            .then(|| format!("it has {}, more than {} (--max-worker-memory)", mib(bytes), mib(bytes_max)))
    }

    fn too_old(&self, worker: &WorkerSample) -> Option<String> {
        let age_max = self.limits.age_max?;
        let jitter_ms = u64::try_from((age_max / AGE_JITTER_PART).as_millis()).unwrap_or(u64::MAX);
        let due = age_max.saturating_add(Duration::from_millis(self.jitter(worker.id, jitter_ms)));
        (worker.age >= due).then(|| format!("it has served for {} s (--max-age)", worker.age.as_secs()))
    }

    fn too_many_requests(&self, worker: &WorkerSample) -> Option<String> {
        let jitter = self.jitter(worker.id, self.limits.requests_jitter);
        let due = self.limits.requests_max?.saturating_add(jitter);
        (worker.requests >= due).then(|| format!("it has had {} requests (--max-requests)", worker.requests))
    }

    /// A number up to `most`, always the same for a worker.
    fn jitter(&self, id: WorkerId, most: u64) -> u64 {
        // The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): near numbers become far apart.
        let mut mixed = self.seed ^ id.number().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        most.checked_add(1).map_or(mixed, |choices| mixed % choices)
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

#[cfg(test)]
mod tests;
