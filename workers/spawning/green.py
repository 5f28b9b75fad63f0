"""Green mode: the hub of eventlet or gevent on the main thread, and a green thread for each request."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, Protocol

from spawning import fork
from spawning.green_threads import GreenThreads
from spawning.importer import LoadError

# Taken before anything is patched: then each green thread has a number of its own, and writing may wait.
MAIN_THREAD = threading.get_ident()
write = os.write


class Event(Protocol):
    """What one green thread waits for."""

    def set(self) -> None:
        """Let it go on."""

    def wait(self) -> Any:
        """Let others run until :meth:`set` is called, or was."""


class Hub(Protocol):
    """What lets green threads wait side by side."""

    def wait(self) -> Any:
        """Let others run until the bell rings."""

    def pause(self) -> Any:
        """Let others run, once."""

    def sleep(self, seconds: float) -> Any:
        """Let others run for so long."""

    def spawn(self, call: Callable[[], object]) -> Any:
        """Begin a green thread, whose turn comes later."""

    def event(self) -> Event:
        """Return a new event."""

    def current(self) -> Any:
        """Return the running green thread."""


def patch(library: str) -> None:
    """Make Python's own functions that wait let other green threads run; before they are used."""
    if library == "gevent":
        from gevent import monkey

        monkey.patch_all()
    else:
        with warnings.catch_warnings():
            # Users who ask for it know, and every worker of every generation would repeat it.
            warnings.simplefilter("ignore")
            import eventlet

        eventlet.monkey_patch()


def check(library: str | None) -> None:
    """Refuse an application that has patched Python's threads for another library than serves here.

    Its threads would be green threads of the main thread, which has none to run them. Raises
    :class:`spawning.importer.LoadError`.
    """
    for patched in _patched():
        if patched != library:
            serving = "real threads serve" if library is None else f"green threads of {library} serve"
            raise LoadError(
                f"the application has patched Python's threads for {patched} (monkey patching), "
                f"but {serving}; hint: start with --green {patched}, or patch without threads"
            )


def _patched() -> list[str]:
    """Return the libraries that have patched Python's threads; none is imported for the sake of this."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    patched = []
    if gevent is not None and gevent.is_module_patched("threading"):
        patched.append("gevent")
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        patched.append("eventlet")
    return patched


def hub(library: str, bell: int) -> tuple[Hub, GreenThreads]:
    """Return a library's hub, which waits for the descriptor ``bell``, and the threads that serve."""
    made: _Gevent | _Eventlet = _Gevent(bell) if library == "gevent" else _Eventlet(bell)
    fork.threads_are_told_by(made.current)
    fork.after_in_child(made.after_fork)
    return made, GreenThreads(made)


class _Eventlet:
    def __init__(self, bell: int) -> None:
        import eventlet
        import eventlet.event
        import eventlet.hubs

        self._bell = bell
        self._trampoline = eventlet.hubs.trampoline
        self.sleep = eventlet.sleep
        self.spawn = eventlet.spawn
        self.event = _EventletEvent
        self.current = eventlet.getcurrent
        self._use_hub = eventlet.hubs.use_hub
        kind = type(eventlet.hubs.get_hub())
        self._hub = f"{kind.__module__}:{kind.__qualname__}"

    def after_fork(self) -> None:
        # Its epoll set is the parent's, too, and in its list are all the parent's green threads.
        self._use_hub(self._hub)

    def wait(self) -> None:
        self._trampoline(self._bell, read=True)

    def pause(self) -> None:
        self.sleep(0)


class _EventletEvent:
    def __init__(self) -> None:
        from eventlet.event import Event

        self._event = Event()
        self.wait = self._event.wait

    def set(self) -> None:
        if not self._event.ready():
            self._event.send()


class _Gevent:
    def __init__(self, bell: int) -> None:
        import gevent
        import gevent.event

        self._hub = gevent.get_hub()
        self._readable = self._hub.loop.io(bell, 1)
        self.sleep = gevent.sleep
        self.spawn = gevent.spawn
        self.event = gevent.event.Event
        self.current = gevent.getcurrent

    def after_fork(self) -> None:
        # The thread that serves waits for it; in a child it waits for ever.
        self._readable.stop()

    def wait(self) -> None:
        self._hub.wait(self._readable)

    def pause(self) -> None:
        self.sleep(0)
