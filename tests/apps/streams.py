"""Uses wsgi.errors and wsgi.file_wrapper."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.gate import log
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

app = Routes()


@app.legal
def errors(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Uses every method of the stream, and then flushes once."""
    stream, token = environ["wsgi.errors"], environ["QUERY_STRING"]
    stream.write(f"{token} by write\n")
    stream.writelines([f"{token} by ", "writelines\n", f"{token} second line\n"])
    print(f"{token} by print", file=stream)
    stream.flush()
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"written"]


@app.legal
def errors_in_any_script(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Writes text that ISO-8859-1 and ASCII lack, and a surrogate that no encoding has."""
    stream, token = environ["wsgi.errors"], environ["QUERY_STRING"]
    stream.write(f"{token} caf\xe9 \N{SNOWMAN} \N{SNAKE} \udcff end\n")
    stream.flush()
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"written"]


class Recorded:
    """A file-like object around another, with `read` and `close` only; it logs its close()."""

    def __init__(self, file: Any, token: str) -> None:
        self.file = file
        self.token = token

    def read(self, size: int = -1) -> Any:
        return self.file.read(size)

    def close(self) -> None:
        self.file.close()
        log(f"closed {self.token}")


class RecordedFile(Recorded):
    """The same with the descriptor in sight, so that the server may use it."""

    def fileno(self) -> int:
        return int(self.file.fileno())


class ReadOnly:
    """A file-like object with nothing but `read`."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


class Failing(Recorded):
    """A file that breaks in the middle."""

    def read(self, size: int = -1) -> Any:
        data = self.file.read(min(size, 1000))
        if not data:
            raise OSError(f"broken {self.token}")
        return data


def pipe_with(data: bytes) -> Any:
    """The reading end of a pipe that holds `data`: it has a descriptor, and cannot seek or be mapped."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return os.fdopen(reader, "rb")


def binary(path: str, buffering: int = -1) -> Any:
    """The file itself; whoever gets the wrapper closes it."""
    return Path(path).open("rb", buffering)


def opened(kind: str, path: str, token: str) -> Any:
    """The file at `path` in the shape that `kind` names."""
    shapes: dict[str, Any] = {
        "file": lambda: binary(path),
        "unbuffered": lambda: binary(path, buffering=0),
        "recorded-file": lambda: RecordedFile(binary(path), token),
        "recorded": lambda: Recorded(binary(path), token),
        "bytesio": lambda: io.BytesIO(Path(path).read_bytes()),
        "read-only": lambda: ReadOnly(Path(path).read_bytes()),
        "pipe": lambda: pipe_with(Path(path).read_bytes()[:60000]),
        "failing": lambda: Failing(binary(path), token),
    }
    return shapes[kind]()


def option(environ: WSGIEnvironment, name: str) -> str | None:
    """The value of `name` in the query."""
    pairs = dict(pair.split("=", 1) for pair in environ["QUERY_STRING"].split("&"))
    return pairs.get(name)


def wrapped(environ: WSGIEnvironment) -> Any:
    """The file wrapper that the query describes: `kind`, `path`, `offset`, `block`, `token`."""
    file = opened(
        option(environ, "kind") or "", option(environ, "path") or "", option(environ, "token") or ""
    )
    if offset := option(environ, "offset"):
        file.read(int(offset))
    block = option(environ, "block")
    return environ["wsgi.file_wrapper"](file, int(block)) if block else environ["wsgi.file_wrapper"](file)


@app.bare
def returned(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Returns the wrapper to the server, which may then use sendfile."""
    length = option(environ, "length")
    start_response("200 OK", [*PLAIN_TEXT, *([("Content-Length", length)] if length else [])])
    return wrapped(environ)  # type: ignore[no-any-return]


@app.legal
def iterated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Under the validator, a middleware that iterates over the wrapper and closes it."""
    start_response("200 OK", list(PLAIN_TEXT))
    return wrapped(environ)  # type: ignore[no-any-return]


@app.legal
def transformed(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Changes what the wrapper gives: the file itself must not have been sent behind its back."""
    start_response("200 OK", list(PLAIN_TEXT))
    wrapper = wrapped(environ)

    def body() -> Iterator[bytes]:
        try:
            for block in wrapper:
                yield b"%d " % len(block)
        finally:
            wrapper.close()

    return body()


@app.legal
def discarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Makes a wrapper and returns something else."""
    wrapped(environ).close()
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"something else"]


@app.bare
def written_then_returned(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Uses write() before it returns a wrapper."""
    start_response("200 OK", list(PLAIN_TEXT))(b"written ")
    return wrapped(environ)  # type: ignore[no-any-return]
