//! Faults that the scheduler once had, for the simulation to put back: it must notice each of them.

/// One of those faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What the other executors use counts as the application's.
    SiblingsCount,
    /// Every executor judges the application by itself, and all teach the same limit.
    #[cfg(test)]
    EveryExecutorTeaches,
    /// A request that turns out to be long when its turn comes goes behind newer ones that were held back.
    OlderBehindNewer,
    /// Of an application that computes on several cores at once it is asked what it makes of one.
    OneCoreIsFull,
    /// Whatever has computed for long is passed by the next that does, until all compute at once.
    EveryLongIsPassed,
}

#[cfg(test)]
thread_local! {
    static PUT_BACK: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Whether the scheduler has this fault on the calling thread; outside of tests never.
#[cfg(test)]
pub(super) fn is_put_back(fault: Fault) -> bool {
    PUT_BACK.get() == Some(fault)
}

/// See its twin for tests.
#[cfg(not(test))]
pub(super) const fn is_put_back(_: Fault) -> bool {
    false
}

/// Puts `fault` back on the calling thread, or mends what was put back.
#[cfg(test)]
pub(super) fn put_back(fault: Option<Fault>) {
    PUT_BACK.set(fault);
}
