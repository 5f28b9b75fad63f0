"""Responses that end before their end, and threads that do not end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MIB = bytes(1024 * 1024)

app = Routes()


@app.legal
def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """As many MiB as the query says, at once."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [MIB * int(environ["QUERY_STRING"])]


@app.legal
def pieces(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """As many MiB as the query says, one after the other, their length known."""
    count = int(environ["QUERY_STRING"])
    start_response("200 OK", [*PLAIN_TEXT, ("Content-Length", str(count * len(MIB)))])
    return (MIB for _ in range(count))


@app.legal
def fails(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Begins, and fails."""
    start_response("200 OK", list(PLAIN_TEXT))

    def body() -> Iterator[bytes]:
        yield b"begun"
        raise RuntimeError("in the middle")

    return body()


def sleeps_long() -> None:
    """Keeps a process from ending."""
    time.sleep(3600)


@app.legal
def thread(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Starts a thread of that name, which is no daemon."""
    threading.Thread(target=sleeps_long, name=environ["QUERY_STRING"], daemon=False).start()
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"started"]
