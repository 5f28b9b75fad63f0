"""Hands its input to the standard library, which expects a file of io."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import pickle
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

from apps.gate import log
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

app = Routes()


def by_readinto(stream: Any) -> bytes:
    """Everything, through a buffer."""
    data, buffer = b"", bytearray(1000)
    while count := stream.readinto(buffer):
        data += buffer[:count]
    return data


def by_readinto1(stream: Any) -> bytes:
    """Everything, through a view of items that are no bytes."""
    data, buffer = b"", memoryview(bytearray(1000)).cast("H")
    while count := stream.readinto1(buffer):
        data += buffer.cast("B")[:count]
    return data


def by_read1(stream: Any) -> bytes:
    """Everything, as far as it is there each time."""
    data: bytes = b"".join(iter(lambda: stream.read1(777), b"")) + stream.read1() + stream.read1(-1)
    return data


def copied(stream: Any) -> bytes:
    """What shutil copies."""
    target = io.BytesIO()
    shutil.copyfileobj(stream, target)
    return target.getvalue()


def within(stream: Any) -> bytes:
    """What is read within a `with`."""
    with stream as entered:
        data: bytes = entered.read()
    assert stream.closed
    return data


def peeked(stream: Any) -> bytes:
    """What a buffer gives after a look at what comes."""
    buffer = io.BufferedReader(stream, 100)
    buffer.peek(1)
    return buffer.read()


def tarred(stream: Any) -> bytes:
    """The member of an archive that is read as a stream."""
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        members: Any = archive  # type: ignore[unused-ignore]
        data: bytes = members.extractfile(members.next()).read()
        return data


#: By name: the body, as the standard library reads it.
WAYS: dict[str, Callable[[Any], bytes]] = {
    "text": lambda stream: io.TextIOWrapper(stream, "latin-1", newline="").read().encode("latin-1"),
    "lines of text": lambda stream: "".join(io.TextIOWrapper(stream, "latin-1", newline="")).encode(
        "latin-1"
    ),
    "buffer": lambda stream: io.BufferedReader(stream).read(),
    "peeking buffer": peeked,
    "lines of a buffer": lambda stream: b"".join(io.BufferedReader(stream)),
    "lines": b"".join,
    "readinto": by_readinto,
    "readinto1": by_readinto1,
    "read1": by_read1,
    "copy": copied,
    "with": within,
}

#: The same, for bodies of a kind.
DECODED: dict[str, Callable[[Any], object]] = {
    "json": json.load,
    "pickle": pickle.load,
    "csv": lambda stream: list(csv.reader(io.TextIOWrapper(stream, "utf-8", newline=""))),
    "digest": lambda stream: hashlib.sha256(stream.read()).hexdigest(),
    "tar": tarred,
}


@app.bare
def read(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The body, read in the way that the query names."""
    body = WAYS[environ["QUERY_STRING"].replace("%20", " ")](environ["wsgi.input"])
    start_response("200 OK", list(PLAIN_TEXT))
    return [body]


@app.bare
def decoded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What a module of the standard library makes of the body."""
    body = DECODED[environ["QUERY_STRING"]](environ["wsgi.input"])
    start_response("200 OK", list(PLAIN_TEXT))
    return [repr(body).encode()]


def told(call: Callable[[], object]) -> str:
    """What a call returns or raises."""
    try:
        return repr(call())
    except Exception as error:
        return f"{type(error).__mro__[0].__name__}: {error}"


@app.bare
def asked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What the input says of itself, before and after it is closed."""
    stream: Any = environ["wsgi.input"]
    names = ["readable", "writable", "seekable", "isatty", "flush", "fileno", "tell", "detach"]
    said: dict[str, str] = {name: told(getattr(stream, name)) for name in names}
    said["io"] = repr([isinstance(stream, kind) for kind in (io.IOBase, io.BufferedIOBase, io.TextIOBase)])
    said["seek"], said["write"] = told(lambda: stream.seek(0)), told(lambda: stream.write(b"a"))
    said["readinto"] = told(lambda: stream.readinto(b"not writable"))
    said["closed"] = repr(stream.closed)
    stream.close()
    stream.close()
    said["closed at last"] = repr(stream.closed)
    for name in ["read", "readline", "readlines", "read1", "readable", "__iter__", "__enter__"]:
        said[f"{name} at last"] = told(getattr(stream, name))
    start_response("200 OK", list(PLAIN_TEXT))
    return [json.dumps(said).encode()]


@app.bare
def greeted(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Logs the first line of an upload that is streamed, as text, before the rest has arrived."""
    stream = environ["wsgi.input"]
    text = io.TextIOWrapper(stream, "utf-8")
    log(f"heard {text.readline().strip()}")
    rest = text.read()
    start_response("200 OK", list(PLAIN_TEXT))
    return [rest.encode()]


@app.bare
def length(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """CONTENT_LENGTH, if there is any, and the body."""
    said = repr(environ.get("CONTENT_LENGTH")).encode()
    start_response("200 OK", list(PLAIN_TEXT))
    return [said, b" ", environ["wsgi.input"].read()]


@app.bare
def trusting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Reads all of its input, and does nothing about an error."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", list(PLAIN_TEXT))
    return [body]


@app.bare
def wrapping(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """As a framework does that has an exception of its own for it."""
    try:
        body = environ["wsgi.input"].read()
    except OSError as error:
        raise RuntimeError("cannot read the request") from error
    start_response("200 OK", list(PLAIN_TEXT))
    return [body]
