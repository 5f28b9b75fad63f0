"""A place where requests meet, to show that threads serve them side by side."""

import threading

MEETING_TIMEOUT_S = 120.0

_barriers: dict[int, threading.Barrier] = {}
_lock = threading.Lock()


def meet(parties: int) -> str:
    """Return when as many threads as `parties` are in here."""
    with _lock:
        barrier = _barriers.setdefault(parties, threading.Barrier(parties, timeout=MEETING_TIMEOUT_S))
    barrier.wait()
    return "together"
