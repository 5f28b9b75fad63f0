"""Lets a test hold an application at a known point: the application waits for a file, the test makes it.

A file works between processes and when every application thread is taken, where a second request would not.
"""

import sys
import time
from pathlib import Path

WAIT_TIMEOUT_S = 120.0
POLL_INTERVAL_S = 0.01


def wait_for_file(path: str) -> None:
    """Return when `path` exists; the TimeoutError otherwise fails the request and with it the test."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody made {path}")
        time.sleep(POLL_INTERVAL_S)


def log(message: str) -> None:
    """Tell the test, by the server's stderr, what happened. One write, so that lines never interleave."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
