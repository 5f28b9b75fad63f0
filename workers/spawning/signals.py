"""Signals in a worker: the supervisor decides, a worker only drains."""

import signal
from pathlib import Path
from types import FrameType

from spawning import _core, fork, green

# Where the main thread serves written to the descriptor that is otherwise told the numbers of signals.
DRAIN_ASKED = b"\0"

# Meant for the supervisor when the whole group is signalled, as a terminal does with INT.
_SUPERVISORS = (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
_wakeup_fd = -1


def prepare() -> None:
    """Make the supervisor's signals do nothing here, before any code of the application's can set handlers.

    They are not ignored: what the application starts would inherit that.
    """
    for number in _SUPERVISORS:
        signal.signal(number, _do_nothing)
    _reset_in_children()
    fork.after_in_child(_after_fork)


def install(wakeup_fd: int, serves_on_main_thread: bool) -> None:
    """Make TERM drain this worker, and have every signal make ``wakeup_fd`` readable.

    Handlers of the application, set while it was loaded, are kept.
    """
    global _wakeup_fd
    _wakeup_fd = wakeup_fd
    signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    # One that was set in C (faulthandler.register) is unknown to Python.
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and not _is_caught(signal.SIGTERM):
        signal.signal(signal.SIGTERM, _Drain(wakeup_fd) if serves_on_main_thread else _drain)
    _reset_in_children()


def _is_caught(number: signal.Signals) -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    caught = next(line.split()[1] for line in status if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def _is_ours(handler: object) -> bool:
    return handler in (_drain, _do_nothing) or isinstance(handler, _Drain)


def _reset_in_children() -> None:
    ours = [number for number in (*_SUPERVISORS, signal.SIGTERM) if _is_ours(signal.getsignal(number))]
    _core.reset_in_children(ours)


def _after_fork() -> None:
    """In a process that the application forked: Python's own handlers in the place of ours."""
    told = signal.set_wakeup_fd(-1)
    if told not in (-1, _wakeup_fd):
        signal.set_wakeup_fd(told)
    for number in (*_SUPERVISORS, signal.SIGTERM):
        handler = signal.getsignal(number)
        if _is_ours(handler):
            handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, handler)
        elif callable(handler) and not isinstance(handler, signal.Handlers) and not _is_caught(number):
            # Taken for ours by the reset of handlers after fork().
            signal.signal(number, handler)


def _drain(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


class _Drain:
    """What TERM does where the main thread serves, and an exception would end the request that is running."""

    def __init__(self, wakeup_fd: int) -> None:
        self._wakeup_fd = wakeup_fd

    def __call__(self, number: int, frame: FrameType | None) -> None:
        green.write(self._wakeup_fd, DRAIN_ASKED)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass
