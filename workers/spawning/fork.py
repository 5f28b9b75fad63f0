"""What a forked process gives up of Python's, and how it ends if it comes back to the server.

What is the operating system's is given up in Rust, however it was forked (``src/sys/fork.rs``).
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

# Whatever the application puts in its place.
_exit = os._exit

_after: list[Callable[[], None]] = []
_current: Callable[[], Any] | None = None
_forked_by: Any = None


def after_in_child(call: Callable[[], None]) -> None:
    """Have ``call`` called in every process that Python forks, before any code of the application's."""
    if not _after:
        os.register_at_fork(after_in_child=_run)
    _after.append(call)


def threads_are_told_by(current: Callable[[], Any]) -> None:
    """Tell the green thread that forks from those merely copied: ``current`` returns the running one."""
    global _current
    _current = current


def _run() -> None:
    global _forked_by
    if _current is not None:
        _forked_by = _current()
    for call in _after:
        call()


def leave(error: BaseException | None) -> None:
    """End this process, which was forked and has returned from the application, or raised ``error``.

    The request is the parent's to answer. Returns only in a green thread that was merely copied.
    """
    if _current is not None and _forked_by is not None and _current() is not _forked_by:
        return
    status = 1
    try:
        status = _status(error)
        _say(error)
    finally:
        # As children of multiprocessing end: what was registered for the end of the parent is the parent's.
        _exit(status)


def _status(error: BaseException | None) -> int:
    code = error.code if isinstance(error, SystemExit) else error
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _say(error: BaseException | None) -> None:
    # The streams may be closed, or replaced by anything.
    with contextlib.suppress(Exception):
        if isinstance(error, SystemExit):
            if _status(error) and not isinstance(error.code, int):
                print(error.code, file=sys.stderr)
        elif error is not None:
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
