"""Bodies of every kind, the way in which they end, and what happens to their close()."""

from __future__ import annotations

import ast
import itertools
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpResponse, StreamingHttpResponse

from apps.gate import log, wait_for_file
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

settings.configure()

app = Routes()

PARTS = [b"one ", b"", b"two ", b"three"]


class Closing:
    """Iterates over `parts` and logs `closed TOKEN` each time its close() is called."""

    def __init__(self, token: str, parts: Iterable[bytes]) -> None:
        self.token = token
        self.parts = iter(parts)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self.parts)

    def close(self) -> None:
        log(f"closed {self.token}")


class IterableOnly:
    """Has `__iter__` and nothing else."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(PARTS)


class SequenceOnly:
    """Has `__getitem__` and nothing else: the iteration of Python before 2.2."""

    def __getitem__(self, index: int) -> bytes:
        return PARTS[index]


class SizedOne:
    """Has a length of one, without being a list."""

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"only one"])


def generated() -> Iterator[bytes]:
    """The parts, from a generator."""
    yield from PARTS


KINDS: dict[str, Callable[[], Any]] = {
    "list": lambda: list(PARTS),
    "tuple": lambda: tuple(PARTS),
    "generator": generated,
    "iterator": lambda: Closing("kinds", PARTS),
    "iterable-only": IterableOnly,
    "sequence-only": SequenceOnly,
    "map": lambda: map(bytes, PARTS),
    "dict-keys": lambda: dict.fromkeys(PARTS).keys(),
    "list-of-one": lambda: [b"only one"],
    "tuple-of-one": lambda: (b"only one",),
    "sized-one": SizedOne,
    "empty-list": list,
    "empty-tuple": tuple,
    "empty-generator": lambda: iter(()),
    "empty-string": lambda: [b""],
    "empty-strings": lambda: iter([b"", b""]),
    "every-byte": lambda: [bytes(range(256))],
}


@app.bare
def kind(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Returns the kind of iterable that the query names."""
    start_response("200 OK", list(PLAIN_TEXT))
    iterable: Iterable[bytes] = KINDS[environ["QUERY_STRING"]]()
    return iterable


class ApplicationClass:
    """The class of PEP 3333's example: calling it makes the iterable."""

    def __init__(self, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        self.start_response = start_response

    def __iter__(self) -> Iterator[bytes]:
        self.start_response("200 OK", list(PLAIN_TEXT))
        yield b"from an instance"


@app.legal
def application_class(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Is an application that is a class."""
    return ApplicationClass(environ, start_response)


@app.bare
def evaluated(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    """Returns what the request's body holds as a Python literal."""
    start_response("200 OK", list(PLAIN_TEXT))
    return ast.literal_eval(environ["wsgi.input"].read().decode())


@app.bare
def buffers(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    """Yields objects that hold bytes and are not of type bytes."""
    start_response("200 OK", list(PLAIN_TEXT))
    return [{"bytearray": bytearray(b"data"), "memoryview": memoryview(b"data")}[environ["QUERY_STRING"]]]


@app.bare
def str_after_bytes(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[Any]:
    """Yields text when its head is already out."""
    start_response("200 OK", list(PLAIN_TEXT))
    yield b"bytes"
    yield "text"


@app.legal
def held(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Produces its second part only when the test has made the file that the query names."""
    start_response("200 OK", list(PLAIN_TEXT))

    def body() -> Iterator[bytes]:
        yield b"first"
        yield b""
        wait_for_file(environ["QUERY_STRING"])
        yield b"second"

    return body()


@app.legal
def closing(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Ends normally, with the status that the request asks for."""
    token = environ["QUERY_STRING"]
    status = environ.get("HTTP_X_STATUS", "200 OK")
    start_response(status, [] if status[:3] in ("204", "304") else list(PLAIN_TEXT))
    return Closing(token, [b"some ", b"body"])


@app.legal
def closing_endless(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Goes on until the client has gone."""
    start_response("200 OK", list(PLAIN_TEXT))
    return Closing(environ["QUERY_STRING"], itertools.repeat(b"x" * 65536))


@app.legal
def closing_when_released(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Calls close() only after the test has made a file: the response must be complete before that."""
    start_response("200 OK", [*PLAIN_TEXT, ("Content-Length", "4")])

    class Held(Closing):
        def close(self) -> None:
            wait_for_file(self.token)

    return Held(environ["QUERY_STRING"], [b"body"])


@app.bare
def closing_never_started(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Forgets start_response, and has something to close."""
    return Closing(environ["QUERY_STRING"], [b"body"])


@app.bare
def closing_not_bytes(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Yields text, and has something to close."""
    start_response("200 OK", list(PLAIN_TEXT))
    parts: Any = ["text"]
    return Closing(environ["QUERY_STRING"], parts)


@app.legal
def closing_fails_at_once(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Raises in its first iteration."""
    start_response("200 OK", list(PLAIN_TEXT))
    return Closing(environ["QUERY_STRING"], failing(environ["QUERY_STRING"]))


@app.legal
def closing_fails_later(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Raises when a part of the body is out."""
    start_response("200 OK", list(PLAIN_TEXT))
    return Closing(environ["QUERY_STRING"], failing(environ["QUERY_STRING"], b"partial"))


@app.legal
def closing_fails_within_its_length(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Raises when a part of the promised Content-Length is out."""
    start_response("200 OK", [*PLAIN_TEXT, ("Content-Length", "100")])
    return Closing(environ["QUERY_STRING"], failing(environ["QUERY_STRING"], b"partial"))


def failing(token: str, *parts: bytes) -> Iterator[bytes]:
    """Yields the parts and raises a ValueError of `token`."""
    yield from parts
    raise ValueError(token)


@app.bare
def close_fails(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Raises in close()."""
    start_response("200 OK", list(PLAIN_TEXT))

    class Failing(Closing):
        def close(self) -> None:
            super().close()
            raise ValueError(self.token)

    return Failing(environ["QUERY_STRING"], [b"complete"])


@app.bare
def not_iterable(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    """Returns nothing."""
    start_response("200 OK", list(PLAIN_TEXT))


@app.bare
def iter_fails(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    """Returns an object whose `__iter__` raises, and which has something to close."""
    start_response("200 OK", list(PLAIN_TEXT))

    class NoIterator(Closing):
        def __iter__(self) -> Iterator[bytes]:
            raise ValueError(self.token)

    return NoIterator(environ["QUERY_STRING"], [])


@app.bare
def promised(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Promises a length, and then sends what it likes: `length way token` in the query."""
    length, way, token = environ["QUERY_STRING"].split(",")
    write = start_response("200 OK", [*PLAIN_TEXT, ("Content-Length", length)])
    parts = [b"01234", b"56789"]
    if way == "list":
        return parts
    if way == "write":
        for part in parts:
            write(part)
        return Closing(token, [])
    return Closing(token, (noted(token, part) for part in [*parts, b"abcde", b"fghij"]))


def noted(token: str, part: bytes) -> bytes:
    """The part itself; the log tells that it was produced."""
    log(f"produced {token} {part.decode()}")
    return part


@app.bare
def raises(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Raises the exception that the query names, before or after it has started the response."""
    name, when, token = environ["QUERY_STRING"].split(",")
    exceptions = [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, BaseException]
    if when == "started":
        start_response("200 OK", [*PLAIN_TEXT, ("X-Replaced", "must not be seen")])
    raise next(kind for kind in exceptions if kind.__name__ == name)(token)


@app.bare
def django_response(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """What Django's handler returns when CommonMiddleware is not there to set Content-Length."""
    response = HttpResponse(b"from django")
    start_response("200 OK", list(response.items()))
    return response


@app.bare
def django_streaming_response(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A response of Django's that is produced piece by piece, and is closed by the server."""
    response = StreamingHttpResponse(Closing(environ["QUERY_STRING"], [b"from ", b"django"]))
    start_response("200 OK", list(response.items()))
    return response


class FailingTwice:
    """Raises in its iteration, after `parts`, and in its close()."""

    def __init__(self, name: str, parts: Iterable[bytes]) -> None:
        self.name, self.parts = name, parts

    def __iter__(self) -> Iterator[bytes]:
        yield from self.parts
        raise ValueError(f"in the iteration of {self.name}")

    def close(self) -> None:
        raise KeyError(f"in close of {self.name}")


@app.bare
def fails_twice(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """After a first part."""
    start_response("200 OK", list(PLAIN_TEXT))
    return FailingTwice("fails_twice", [b"part"])


@app.bare
def fails_at_once_twice(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Before anything is sent."""
    start_response("200 OK", list(PLAIN_TEXT))
    return FailingTwice("fails_at_once_twice", [])
