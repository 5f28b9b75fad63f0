"""Signals in a worker: the supervisor decides, a worker only drains."""

import signal
import sys
from types import FrameType

from spawning import green

# In green mode written to the descriptor that is otherwise told the numbers of signals.
DRAIN_ASKED = b"\0"


def install(wakeup_fd: int, is_green: bool) -> None:
    """Make TERM drain this worker and INT do nothing, and have every signal make ``wakeup_fd`` readable.

    A terminal sends INT, and some service managers send TERM, to all processes of a group at once.
    Handlers of the application, set while it was loaded, are kept.
    """
    signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _Drain(wakeup_fd) if is_green else _drain)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        # Meant for the supervisor by whoever signals the whole group; their default would end this process.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _do_nothing)
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.default_int_handler):
        # Not SIG_IGN, which subprocesses of the application would inherit.
        signal.signal(signal.SIGINT, _do_nothing)


def _drain(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


class _Drain:
    """What TERM does in green mode, where an exception would end whichever green thread is running."""

    def __init__(self, wakeup_fd: int) -> None:
        self._wakeup_fd = wakeup_fd

    def __call__(self, number: int, frame: FrameType | None) -> None:
        green.write(self._wakeup_fd, DRAIN_ASKED)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass
