"""A view that computes between one system call and the next, and one that answers at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

SAMPLE = 20_000


def timed() -> float:
    """Return how many seconds the sum of so many numbers takes."""
    begun = time.perf_counter()
    sum(range(SAMPLE))
    return time.perf_counter() - begun


NUMBERS_PER_S = SAMPLE / min(timed() for _ in range(50))


def rounds(hold_ms: float, seconds: float) -> int:
    """Compute for `hold_ms` and make a system call, again and again; returns how often."""
    numbers = int(NUMBERS_PER_S * hold_ms / 1000)
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        sum(range(numbers))
        os.path.exists("/nowhere")  # noqa: PTH110 - it is the system call that counts
        count += 1
    return count


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """`/long?HOLD_MS,SECONDS` answers with its rounds, everything else at once."""
    body = b"ok"
    if environ["PATH_INFO"] == "/long":
        hold_ms, seconds = map(float, environ["QUERY_STRING"].split(","))
        body = str(rounds(hold_ms, seconds)).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
