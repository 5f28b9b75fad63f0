"""What no application should do, one way each. `docs/security.md` says what it may cost."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

app = Routes()


@app.legal
def good(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Tells which process has answered."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [str(os.getpid()).encode()]


# Heads that are none

HEADS: dict[str, tuple[Any, Any]] = {
    "line_feed_in_a_value": ("200 OK", [("X-A", "b\nX-Injected: c")]),
    "carriage_return_in_a_value": ("200 OK", [("X-A", "b\rX-Injected: c")]),
    "line_feed_in_a_name": ("200 OK", [("X-A\nX-Injected", "b")]),
    "nul_in_a_value": ("200 OK", [("X-A", "b\0")]),
    "space_in_a_name": ("200 OK", [("X A", "b")]),
    "empty_name": ("200 OK", [("", "b")]),
    "value_beyond_latin_1": ("200 OK", [("X-A", "\N{SNOWMAN}")]),
    "value_that_is_bytes": ("200 OK", [("X-A", b"b")]),
    "value_that_is_none": ("200 OK", [("X-A", None)]),
    "field_that_is_a_list": ("200 OK", [["X-A", "b"]]),
    "headers_that_are_a_dict": ("200 OK", {"X-A": "b"}),
    "headers_that_are_none": ("200 OK", None),
    "line_feed_in_the_status": ("200 OK\nX-Injected: c", []),
    "status_99": ("99 Too Small", []),
    "status_1000": ("1000 Too Large", []),
    "status_101": ("101 Switching Protocols", []),
    "status_without_a_number": ("OK", []),
    "empty_status": ("", []),
    "status_that_is_a_number": (200, []),
    "status_that_is_bytes": (b"200 OK", []),
    "hop_by_hop_field": ("200 OK", [("Transfer-Encoding", "chunked")]),
    "length_below_zero": ("200 OK", [("Content-Length", "-1")]),
    "length_that_is_no_number": ("200 OK", [("Content-Length", "many")]),
    "two_lengths": ("200 OK", [("Content-Length", "1"), ("Content-Length", "2")]),
}


def with_head(status: Any, headers: Any) -> Callable[..., Any]:
    def application(environ: WSGIEnvironment, start_response: Any) -> Iterable[bytes]:
        start_response(status, headers)
        return [b"body"]

    return application


for name, (status, headers) in HEADS.items():
    application = with_head(status, headers)
    application.__name__ = name
    app.bare(application)


# Bodies that are none

BODIES: dict[str, Any] = {
    "body_of_text": ["text"],
    "body_that_is_text": "text",
    "body_of_numbers": [1, 2],
    "body_that_is_none": None,
    "body_that_is_a_number": 7,
    "body_that_cannot_be_iterated": object(),
}


def with_body(body: Any) -> Callable[..., Any]:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        start_response("200 OK", list(PLAIN_TEXT))
        return body

    return application


for name, body in BODIES.items():
    application = with_body(body)
    application.__name__ = name
    app.bare(application)


# Exceptions, where an application may raise them


def recurse(depth: int) -> int:
    return recurse(depth + 1) + 1


class BadTraceback(Exception):
    """Cannot be told."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


ENDINGS: dict[str, Callable[[], object]] = {
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "generator_exit": lambda: (_ for _ in ()).throw(GeneratorExit()),
    "stop_iteration": lambda: next(iter(())),
    "recursion": lambda: recurse(0),
    "memory": lambda: bytes(sys.maxsize // 2),
    "unspeakable": lambda: (_ for _ in ()).throw(BadTraceback()),
}


class RaisingBody:
    """Raises in the method that is asked for."""

    def __init__(self, method: str, ending: Callable[[], object]) -> None:
        self.method = method
        self.ending = ending
        self.left = 1

    def __iter__(self) -> RaisingBody:
        if self.method == "iter":
            self.ending()
        return self

    def __next__(self) -> bytes:
        if self.method == "next":
            self.ending()
        if not self.left:
            raise StopIteration
        self.left -= 1
        return b"body"

    def close(self) -> None:
        if self.method == "close":
            self.ending()


@app.bare
def raises(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Raises what the query names: `call` or a method of the body, and which exception."""
    where, _, what = environ["QUERY_STRING"].partition(":")
    if where == "call":
        ENDINGS[what]()
    start_response("200 OK", list(PLAIN_TEXT))
    return RaisingBody(where, ENDINGS[what])


# Ends of the process


@app.bare
def segfault(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Reads where nothing is, as an extension module with a fault does."""
    ctypes.string_at(0)
    return []


@app.bare
def quit_at_once(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Ends the process without a word."""
    os._exit(0)


@app.bare
def abort(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Ends the process as a failed assertion in C does."""
    os.abort()


@app.bare
def kill_itself(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Ends the process as the kernel does when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()
    return []


@app.bare
def start_response_later(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Keeps start_response and write for a thread that outlives the request."""
    write = start_response("200 OK", list(PLAIN_TEXT))
    threading.Timer(0.05, lambda: write(b"late")).start()
    yield b"body"
