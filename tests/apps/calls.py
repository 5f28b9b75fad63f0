"""Counts its calls, so that a test can tell that a request never reached an application."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from apps.gate import log, wait_for_file
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

routes = Routes()
lock = threading.Lock()
count = 0


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Counts every call but those of `/calls`, which ask for the number."""
    global count
    if environ["PATH_INFO"] != "/calls":
        with lock:
            count += 1
    return routes(environ, start_response)


@routes.legal
def calls(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Tells how often the application was called."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [str(count).encode()]


@routes.legal
def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with what it was asked, as JSON."""
    asked = [
        environ["REQUEST_METHOD"],
        environ["QUERY_STRING"],
        environ["wsgi.input"].read(-1).decode("latin-1"),
    ]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(asked).encode()]


@routes.bare
def sized(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with a body of known length, as many bytes as the query says."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"x" * int(environ["QUERY_STRING"] or 5)]


@routes.legal
def streamed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Answers with a body whose length only its end tells."""
    start_response("200 OK", list(PLAIN_TEXT))
    yield b"hel"
    yield b"lo"


@routes.legal
def held(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers when the test has made the file that the query names; the log tells when it began to wait."""
    log(f"held {environ['QUERY_STRING']}")
    wait_for_file(environ["QUERY_STRING"])
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"released"]


@routes.bare
def target(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Is reached by its path in any form of the target."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [environ["REQUEST_URI"].encode("latin-1")]
