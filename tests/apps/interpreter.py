"""Views that want the interpreter at the same time."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from apps.gate import WAIT_TIMEOUT_S, log
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

app = Routes()


def convoy(gate: str, hold_us: int) -> None:
    """Compute between one system call and the next until the file `gate` is there."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    rounds = round_of(hold_us)
    while not Path(gate).exists() and time.monotonic() < deadline:
        sum(range(rounds))


def round_of(hold_us: int) -> int:
    """Return up to which number this machine adds in so many microseconds, as far as can be told."""
    best = min(timed(20_000) for _ in range(20))
    return max(1, int(20_000 * hold_us / 1e6 / best))


def timed(rounds: int) -> float:
    """Return how many seconds that takes."""
    begun = time.perf_counter()
    sum(range(rounds))
    return time.perf_counter() - begun


@app.legal
def computing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Computes for `us` between system calls until the file `gate` is there."""
    query = parse_qs(environ["QUERY_STRING"])
    gate = query["gate"][0]
    log(f"computing {query['name'][0]}")
    convoy(gate, int(query["us"][0]))
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"released"]


@app.legal
def background(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Starts a thread that does what `computing` does."""
    query = parse_qs(environ["QUERY_STRING"])
    threading.Thread(target=convoy, args=(query["gate"][0], int(query["us"][0])), daemon=True).start()
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"started"]


@app.legal
def short(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Lets the interpreter go a few times, as one that asks a database does."""
    for _ in range(4):
        Path("/nowhere").exists()
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"short"]


@app.legal
def absurd(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Sets a switch interval that nobody can mean, and answers when it is none any more."""
    # What the interval reads as while a thread that waits for the interpreter is not to sleep.
    sys.setswitchinterval(2**64 / 1e6 - 2)
    log("absurd")
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while sys.getswitchinterval() > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    start_response("200 OK", list(PLAIN_TEXT))
    return [f"{sys.getswitchinterval()}".encode()]


@app.legal
def unyielding(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Calls C code that does not let the interpreter go, for one and a half seconds each time, until the file
    that the query names is there."""
    log("unyielding")
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not Path(environ["QUERY_STRING"]).exists() and time.monotonic() < deadline:
        # Unlike CDLL, PyDLL keeps the interpreter during a call.
        ctypes.PyDLL(None).usleep(1_500_000)
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"released"]
