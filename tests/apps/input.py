"""Reads its input in the way the request asks for, and reports what each call gave."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import TYPE_CHECKING, Any

from apps.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: The name of a method of the stream, and its arguments. `next` takes that many lines by iteration.
Operation = tuple[str, list[int]]

app = Routes()


def perform(stream: Any, operations: Iterable[Operation]) -> list[object]:
    """What every operation gives on `stream`, in order: the test runs the same on an io.BytesIO."""
    return [summary(one(stream, name, arguments)) for name, arguments in operations]


def one(stream: Any, name: str, arguments: list[int]) -> object:
    """The result of a single operation."""
    if name == "next":
        return list(itertools.islice(iter(stream), arguments[0]))
    return getattr(stream, name)(*arguments)


def summary(result: object) -> object:
    """Short enough to send and to read in a failed test, and different for different results."""
    if isinstance(result, list):
        return [len(result), *(summary(line) for line in result[:3]), summary(b"".join(result))]
    if isinstance(result, bytes):
        return [len(result), result[:16].decode("latin-1"), hashlib.sha256(result).hexdigest()[:16]]
    return f"neither bytes nor a list: {result!r}"


def report(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Performs the operations of the field `X-Operations`, a JSON list."""
    body = json.dumps(perform(environ["wsgi.input"], json.loads(environ["HTTP_X_OPERATIONS"])))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body.encode()]


@app.legal
def legal(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Under the validator, which allows fewer signatures than a file has."""
    return report(environ, start_response)


@app.bare
def bare(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """On the server's own object."""
    return report(environ, start_response)


@app.legal
def ignore(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Never looks at its input."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"ignored"]


@app.legal
def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with its input, read in pieces as large as the query says."""
    size = int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return iter(lambda: environ["wsgi.input"].read(size), b"")
