"""Shows where it runs, and dies on request. Each start is noted in the file that STARTS_FILE names, if
any."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from apps.gate import WAIT_TIMEOUT_S, log, wait_for_file
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

if starts_file := os.environ.get("STARTS_FILE"):
    with Path(starts_file).open("a") as starts:
        starts.write(f"{time.monotonic()}\n")

app = Routes()
barriers: dict[int, threading.Barrier] = {}
lock = threading.Lock()


@app.legal
def pid(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Tells its process."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [str(os.getpid()).encode()]


@app.legal
def held(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers when the test has made the file that the query names; the log tells when it began to wait."""
    log(f"held {environ['QUERY_STRING']}")
    wait_for_file(environ["QUERY_STRING"])
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"released"]


@app.legal
def computing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """As `held`, but never off the interpreter for long: it computes until the file is there."""
    log(f"computing {environ['QUERY_STRING']}")
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not Path(environ["QUERY_STRING"]).exists() and time.monotonic() < deadline:
        sum(range(50_000))
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"released"]


@app.legal
def together(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers when as many requests as the query says are in here at the same time."""
    parties = int(environ["QUERY_STRING"])
    with lock:
        barrier = barriers.setdefault(parties, threading.Barrier(parties, timeout=WAIT_TIMEOUT_S))
    barrier.wait()
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"together"]


@app.bare
def die(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Takes its process with it."""
    os._exit(7)
