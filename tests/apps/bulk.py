"""Takes and gives a lot of data, none of which it keeps."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from apps.gate import log, wait_for_file
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PIECE_BYTES = 64 * 1024

app = Routes()


def piece(index: int) -> bytes:
    """The piece of that index of every generated response: each is different."""
    return hashlib.sha256(b"%d" % index).digest() * (PIECE_BYTES // 32)


@app.legal
def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers at once."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"hello"]


@app.legal
def digest(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers with the length and the SHA-256 of the body."""
    stream, length, found = environ["wsgi.input"], 0, hashlib.sha256()
    while data := stream.read(256 * 1024):
        length += len(data)
        found.update(data)
    start_response("200 OK", list(PLAIN_TEXT))
    return [f"{length} {found.hexdigest()}".encode()]


@app.legal
def keep(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Keeps a body unread until the test has made the file that the query names."""
    log(f"keeps {environ['QUERY_STRING']}")
    wait_for_file(environ["QUERY_STRING"])
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"%d" % len(environ["wsgi.input"].read(-1))]


@app.legal
def greeting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Reads a line, tells the log of it, and answers with the length of what follows."""
    stream = environ["wsgi.input"]
    log(f"heard {stream.readline().decode().strip()}")
    length = 0
    while data := stream.read(65536):
        length += len(data)
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"%d" % length]


@app.legal
def ignoring(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answers without a look at the body."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"ignored"]


@app.bare
def echoing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Answers with the body, piece by piece, while it arrives."""
    start_response("200 OK", list(PLAIN_TEXT))
    while data := environ["wsgi.input"].read(65536):
        yield data


@app.legal
def failing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Tells the log how reading has failed."""
    log(f"reads {environ['QUERY_STRING']}")
    try:
        environ["wsgi.input"].read(-1)
    except OSError as error:
        log(f"failed {environ['QUERY_STRING']} {type(error).__name__}")
        raise
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"all read"]


@app.legal
def generated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Answers with as many pieces as the query says, made one by one; the log tells when all are made."""
    start_response("200 OK", list(PLAIN_TEXT))
    count = int(environ["QUERY_STRING"])
    for index in range(count):
        yield piece(index)
    log(f"generated {count}")


@app.legal
def whole(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The same in one piece."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"".join(piece(index) for index in range(int(environ["QUERY_STRING"])))]


def body(size: int) -> bytes:
    """So many bytes, none of which could be left out unnoticed."""
    return b"".join(piece(index) for index in range(size // PIECE_BYTES + 1))[:size]


class Told(bytes):
    """Bytes whose end is logged."""

    def __del__(self) -> None:
        log(f"released {len(self)}")


@app.bare
def lent(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """So many bytes in one piece, and of what length that is said to be: `bytes,length` in the query."""
    size, _, promised = environ["QUERY_STRING"].partition(",")
    fields = [("Content-Length", promised)] if promised else []
    start_response("200 OK", [*PLAIN_TEXT, *fields])
    return [Told(body(int(size)))]


@app.bare
def file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The file that the query names, by the server's wrapper."""
    start_response("200 OK", list(PLAIN_TEXT))
    return environ["wsgi.file_wrapper"](Path(environ["QUERY_STRING"]).open("rb"))  # type: ignore[no-any-return]
