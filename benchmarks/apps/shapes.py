"""One path for each shape of request, response or view that treats servers differently."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.util import FileWrapper

from .data import made_once

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    View = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

KIB = 1024
MIB = 1024 * KIB
CHUNKS = 100
FILE_BYTES = 10 * MIB
FILE_BLOCK_BYTES = 64 * KIB

BODY = b"x" * MIB
CHUNK = b"x" * KIB


def write_file(path: Path) -> None:
    """Write what `/file` sends."""
    path.write_bytes(BODY * (FILE_BYTES // MIB))


def begin(start_response: StartResponse, content_length: int | None) -> None:
    """Start a 200 response."""
    headers = [("Content-Type", "application/octet-stream")]
    if content_length is not None:
        headers.append(("Content-Length", str(content_length)))
    start_response("200 OK", headers)


def burn(seconds: float) -> None:
    """Run bytecode until this thread has used that much CPU time.

    CPU time, because a thread that is made to wait for the GIL must still do all of its work.
    """
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        for _ in range(200):
            pass


def instant(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer at once."""
    begin(start_response, 5)
    return [b"Hello"]


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send the request's body back."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    begin(start_response, len(body))
    return [body]


def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send 1 MiB in one piece."""
    begin(start_response, len(BODY))
    return [BODY]


def chunks(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Send 100 pieces of 1 KiB whose sum is not announced."""
    begin(start_response, None)
    return (CHUNK for _ in range(CHUNKS))


def file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Send a 10 MiB file, by `wsgi.file_wrapper` where the server has one."""
    begin(start_response, FILE_BYTES)
    wrapper: Callable[..., Iterable[bytes]] = environ.get("wsgi.file_wrapper", FileWrapper)
    return wrapper(FILE.open("rb"), FILE_BLOCK_BYTES)


def busy(environ: WSGIEnvironment, start_response: StartResponse, *, seconds: float) -> Iterable[bytes]:
    """Hold the GIL for that long, then answer."""
    burn(seconds)
    return instant(environ, start_response)


def asleep(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Wait 10 ms off the GIL, as for a database, then answer."""
    time.sleep(0.010)
    return instant(environ, start_response)


FILE = made_once("file", write_file)

VIEWS: dict[str, View] = {
    "/instant": instant,
    "/echo": echo,
    "/large": large,
    "/chunks": chunks,
    "/file": file,
    "/busy-1ms": partial(busy, seconds=0.001),
    "/busy-20ms": partial(busy, seconds=0.020),
    "/asleep-10ms": asleep,
}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer by path; an unknown path is a mistake of the benchmark and raises."""
    return VIEWS[environ["PATH_INFO"]](environ, start_response)
