"""Every way to begin a response that PEP 3333 allows, and those that it forbids."""

from __future__ import annotations

import ast
import contextlib
import sys
import weakref
from typing import TYPE_CHECKING, Any

from apps.gate import log, wait_for_file
from apps.routes import PLAIN_TEXT, Routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from _typeshed.wsgi import StartResponse, WSGIEnvironment

app = Routes()


@app.bare
def given(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Calls start_response with the arguments that the request's body holds as a Python literal."""
    arguments: Any = ast.literal_eval(environ["wsgi.input"].read().decode())
    start_response(*arguments)
    return [b"given"]


@app.bare
def never(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Returns a body and forgets to start the response."""
    return [b"body without a head"]


@app.bare
def never_and_empty(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Forgets both."""
    return []


@app.bare
def twice(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """`It is a fatal error to call start_response without the exc_info argument` a second time."""
    start_response("200 OK", list(PLAIN_TEXT))
    start_response("404 Not Found", list(PLAIN_TEXT))
    return [b"twice"]


@app.bare
def again_after_an_error(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Hides that its first call was refused."""
    with contextlib.suppress(ValueError):
        start_response("200 OK", [("X-A", "line\nfeed")])
    start_response("200 OK", list(PLAIN_TEXT))
    return [b"again"]


@app.bare
def again_after_an_error_with_exc_info(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Reports that its first call was refused."""
    try:
        start_response("200 OK", [("X-A", "line\nfeed")])
    except ValueError:
        start_response("503 Busy", list(PLAIN_TEXT), sys.exc_info())
    return [b"again"]


class ForgettableError(Exception):
    """An exception that, unlike the builtin ones, can be referred to weakly."""


@app.legal
def exc_info_released(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Says whether its exception is still alive after the call, without help of the garbage collector."""
    try:
        raise ForgettableError
    except ForgettableError as error:
        reference = weakref.ref(error)
        start_response("200 OK", list(PLAIN_TEXT), sys.exc_info())
    return [b"released" if reference() is None else b"held"]


@app.legal
def replaced(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Changes its mind with exc_info, while nothing has been sent."""
    start_response("200 OK", [*PLAIN_TEXT, ("X-First", "yes"), ("Content-Length", "999")])
    try:
        raise ValueError("before the head is out")
    except ValueError:
        start_response("503 Busy", [*PLAIN_TEXT, ("X-Second", "yes")], sys.exc_info())
    return [b"replaced"]


@app.legal
def replaced_after_empty_strings(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Changes its mind after yielding, but nothing but empty strings."""
    start_response("200 OK", list(PLAIN_TEXT))

    def body() -> Iterator[bytes]:
        yield b""
        yield b""
        try:
            raise ValueError("nothing was sent yet")
        except ValueError:
            start_response("503 Busy", list(PLAIN_TEXT), sys.exc_info())
        yield b"replaced"

    return body()


@app.legal
def too_late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Tries to change its mind after the head is out: start_response must raise what it is given."""
    start_response("200 OK", list(PLAIN_TEXT))
    token = environ["QUERY_STRING"]

    def body() -> Iterator[bytes]:
        yield b"already sent"
        try:
            raise ValueError(token)
        except ValueError as error:
            try:
                start_response("500 Oops", list(PLAIN_TEXT), sys.exc_info())
            except ValueError as raised:
                log(f"raised again {token} {raised is error}")
                raise
        yield b"must not arrive"

    return body()


@app.legal
def written(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Uses write() before it returns an iterable."""
    write = start_response("200 OK", list(PLAIN_TEXT))
    write(b"one ")
    write(b"")
    write(b"two ")
    return [b"three ", b"four"]


@app.legal
def written_only(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Uses nothing but write()."""
    start_response("200 OK", list(PLAIN_TEXT))(b"written")
    return []


@app.legal
def written_and_held(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Writes, and goes on only when the test has made the file that the query names."""
    write = start_response("200 OK", list(PLAIN_TEXT))
    write(b"first")
    wait_for_file(environ["QUERY_STRING"])
    return [b"second"]


@app.bare
def written_str(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Writes text."""
    write: Any = start_response("200 OK", list(PLAIN_TEXT))
    write("text")
    return []


@app.legal
def by_generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Is a generator: start_response is called when the server asks for the first item."""
    start_response("202 Later", [*PLAIN_TEXT, ("X-Generator", "yes")])
    yield b"by "
    yield b"generator"


@app.bare
def after_an_empty_string(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Yields an empty string before it knows its status."""
    yield b""
    start_response("202 Later", list(PLAIN_TEXT))
    yield b"after an empty string"


@app.bare
def after_a_body(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Yields body before it started the response."""
    yield b"too early"
    start_response("200 OK", list(PLAIN_TEXT))


@app.bare
def headers_changed_later(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Goes on using the list that it has handed over."""
    headers = [*PLAIN_TEXT, ("X-Kept", "1")]
    start_response("200 OK", headers)
    headers.append(("X-Added-Later", "1"))
    return [b"body"]
