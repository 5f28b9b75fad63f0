"""Green threads that answer one request after the other.

What an application keeps for each thread, as Django does its database connections, is so bounded by how many
requests run at once, however many there are in all.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spawning.green import Event, Hub

#: How long a green thread waits for another request before it ends, and what is kept for it is freed.
IDLE_S = 60.0


class GreenThreads:
    """As many as requests run at once, and those that have just become idle."""

    def __init__(self, hub: Hub) -> None:
        """Have ``hub`` begin them."""
        self._hub = hub
        # In the order in which they became idle.
        self._idle: deque[_GreenThread] = deque()
        self._has_reaper = False

    def begin(self, call: Callable[[], object]) -> None:
        """Have a green thread call ``call``, soon: the one that became idle last, if there is one."""
        if self._idle:
            self._idle.pop().resume(call)
        else:
            self._hub.spawn(_GreenThread(self, call).run)

    def end(self) -> None:
        """End those that are idle, and let each do what it does at its end."""
        while self._idle:
            self._idle.popleft().resume(None)
        # What other green threads raise in this one is not of interest any more.
        with contextlib.suppress(BaseException):
            self._hub.pause()

    def wait(self, thread: _GreenThread) -> None:
        """On a green thread that has nothing to do: return when it has, or is to end."""
        event = self._hub.event()
        thread.rest(event)
        self._idle.append(thread)
        if not self._has_reaper:
            self._has_reaper = True
            self._hub.spawn(self._reap)
        try:
            event.wait()
        except BaseException:
            # Meant for a request that has ended, as by a timeout that it left behind. This thread serves no
            # other, but for one that it has been given in this very moment.
            if thread in self._idle:
                self._idle.remove(thread)

    def _reap(self) -> None:
        while self._idle:
            self._hub.sleep(IDLE_S / 2)
            until = time.monotonic() - IDLE_S
            while self._idle and self._idle[0].idle_since < until:
                self._idle.popleft().resume(None)
        self._has_reaper = False


class _GreenThread:
    def __init__(self, threads: GreenThreads, call: Callable[[], object]) -> None:
        self.idle_since = 0.0
        self._threads = threads
        self._call: Callable[[], object] | None = call
        self._until: Event | None = None

    def run(self) -> None:
        while self._call is not None:
            call, self._call = self._call, None
            call()
            # Nothing of a request outlives it.
            del call
            self._threads.wait(self)

    def rest(self, until: Event) -> None:
        self.idle_since, self._until = time.monotonic(), until

    def resume(self, call: Callable[[], object] | None) -> None:
        self._call = call
        if self._until is not None:
            self._until.set()
