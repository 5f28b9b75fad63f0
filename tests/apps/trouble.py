"""Everything that `apps.processes` does, and what no application should: hangs, grows, stops threads."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from apps.gate import log
from apps.processes import app
from apps.routes import PLAIN_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["app"]

MIB = 1024 * 1024
hoard: list[bytes] = []


@app.bare
def endless(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Sends as long as anybody reads."""
    start_response("200 OK", list(PLAIN_TEXT))
    while True:
        yield b"x" * 65536


@app.legal
def hang(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Never answers; the name of this function is in its stack."""
    hang_in_a_place_of_its_own()
    return []


def hang_in_a_place_of_its_own() -> None:
    threading.Event().wait()


@app.bare
def hang_after_a_piece(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Begins its response and never ends it."""
    start_response("200 OK", list(PLAIN_TEXT))
    yield b"begun"
    threading.Event().wait()


@app.bare
def drip(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Sends a piece now and then: in as many seconds as the query says, ten a second."""
    start_response("200 OK", list(PLAIN_TEXT))
    for _ in range(10 * int(environ["QUERY_STRING"])):
        time.sleep(0.1)
        yield b"."


@app.bare
def drip_until(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Sends a piece now and then, until the test has made the file that the query names."""
    log(f"drips until {environ['QUERY_STRING']}")
    start_response("200 OK", list(PLAIN_TEXT))
    yield b"."
    while not Path(environ["QUERY_STRING"]).exists():
        time.sleep(0.1)
        yield b"."


@app.legal
def grow(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Takes as many MiB as the query says, and keeps them."""
    hoard.append(os.urandom(MIB) * int(environ["QUERY_STRING"]))
    start_response("200 OK", list(PLAIN_TEXT))
    return [str(os.getpid()).encode()]


@app.legal
def hold_interpreter(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Sleeps for ever without letting go of the interpreter, as an extension module with a fault may."""
    ctypes.PyDLL(None).sleep(100_000)
    return []


@app.legal
def stop_executor(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Makes an executor's thread run a signal handler that never returns, as good as an endless loop."""
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGUSR1, ctypes.cast(libc.pause, ctypes.c_void_p))
    tasks = Path("/proc/self/task").iterdir()
    executor = next(task for task in tasks if (task / "comm").read_text().startswith("executor-"))
    start_response("200 OK", list(PLAIN_TEXT))

    def stop_soon() -> None:
        time.sleep(0.2)
        libc.tgkill(os.getpid(), int(executor.name), signal.SIGUSR1)

    threading.Thread(target=stop_soon, daemon=True).start()
    return [str(os.getpid()).encode()]
