"""PEP 3333, "Specification Details" and "Buffering and Streaming": how the body of a response reaches the
client.

How it ends, well or badly, is in test_wsgi_response_end.py.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import Server, Truncated, read_response
from wire import CLOSE, HOST, LAST_CHUNK, message, read_to_end, serving, truncated


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.iterables:app", "-s1", "-t4") as server:
        yield server


@pytest.mark.parametrize(
    "kind",
    ["list", "tuple", "generator", "iterator", "iterable-only", "sequence-only", "map", "dict-keys"],
)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_every_iterable_gives_the_same_body(server: Server, kind: str, version: str) -> None:
    """`An iterable yielding zero or more bytestrings. This can be accomplished in a variety of ways`."""
    response = server.request(message(f"GET /kind?{kind} {version}", HOST, CLOSE))
    assert (response.status, response.body) == (200, b"one two three")
    if version == "HTTP/1.0":
        assert response.header("Transfer-Encoding") is None


def test_an_iterable_with_a_length_is_not_taken_for_a_list(server: Server) -> None:
    assert server.get("/kind?sized-one").body == b"only one"


def test_an_application_may_be_a_class(server: Server) -> None:
    """`The application being a class whose instances are iterable`."""
    assert server.get("/application_class").body == b"from an instance"


@pytest.mark.parametrize(
    "kind", ["empty-list", "empty-tuple", "empty-generator", "empty-string", "empty-strings"]
)
def test_an_empty_body_is_a_complete_response(server: Server, kind: str) -> None:
    """The head goes out when there is body data, `or until the application's returned iterable is
    exhausted`."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message(f"GET /kind?{kind} HTTP/1.1", HOST))
        response = read_response(stream)
        assert (response.status, response.body) == (200, b"")
        connection.sendall(message("GET /kind?list-of-one HTTP/1.1", HOST, CLOSE))
        assert read_response(stream).body == b"only one"


@pytest.mark.parametrize("kind", ["list-of-one", "tuple-of-one"])
def test_content_length_is_inferred_from_a_single_bytestring(server: Server, kind: str) -> None:
    """`Returns an iterable whose len() is 1, then the server can automatically determine Content-Length`."""
    response = server.get(f"/kind?{kind}")
    assert (response.header("Content-Length"), response.header("Transfer-Encoding")) == ("8", None)
    assert response.body == b"only one"


@pytest.mark.parametrize("kind", ["empty-list", "empty-tuple"])
def test_content_length_of_nothing_is_zero(server: Server, kind: str) -> None:
    assert server.get(f"/kind?{kind}").header("Content-Length") == "0"


def test_content_length_is_inferred_for_a_django_response(server: Server) -> None:
    """A complete HttpResponse holds all its bytes; without CommonMiddleware nothing sets Content-Length."""
    response = server.get("/django_response")
    assert (response.header("Content-Length"), response.header("Transfer-Encoding")) == ("11", None)
    assert response.body == b"from django"


def test_a_streaming_django_response_is_streamed_and_closed(server: Server) -> None:
    assert server.get("/django_streaming_response?token-streaming").body == b"from django"
    server.wait_for_log("^closed token-streaming$")


def test_every_byte_passes_unaltered(server: Server) -> None:
    """`Should treat the yielded bytestrings as binary byte sequences: in particular, it should ensure that
    line endings are not altered`."""
    assert server.get("/kind?every-byte").body == bytes(range(256))


def test_an_empty_bytestring_does_not_end_a_chunked_body(server: Server) -> None:
    """The last chunk is the one of size zero (RFC 9112 section 7.1), and nothing may follow it."""
    with server.connect() as connection:
        connection.sendall(message("GET /kind?generator HTTP/1.1", HOST, CLOSE))
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert body.endswith(b"three\r\n" + LAST_CHUNK)
    assert body.count(LAST_CHUNK) == 1


@pytest.mark.parametrize(
    "body", ["['text']", "'text'", "[1]", "[None]", "[[b'nested']]", "5", "None", "{'a': 1}"]
)
def test_a_body_that_is_not_of_bytestrings_is_an_error(server: Server, body: str) -> None:
    """`The value must be of type bytes under Python 3`."""
    raw = message("POST /evaluated HTTP/1.1", HOST, f"Content-Length: {len(body)}", CLOSE, body=body.encode())
    assert server.request(raw).status == 500
    server.wait_for_log("TypeError")


@pytest.mark.parametrize("kind", ["bytearray", "memoryview"])
def test_a_buffer_is_not_a_bytestring(server: Server, kind: str) -> None:
    """`Bytestring` means `an object of type bytes under Python 3`: a buffer could still change."""
    assert server.get(f"/buffers?{kind}").status == 500


def test_text_after_the_head_cuts_the_connection(server: Server) -> None:
    assert truncated(server, "/str_after_bytes").body == b"bytes"


def test_a_body_that_is_not_iterable_is_an_error(server: Server) -> None:
    assert server.get("/not_iterable").status == 500


@pytest.mark.parametrize("path", ["fails_twice", "fails_at_once_twice"])
def test_an_exception_of_close_after_another_is_logged_as_well(server: Server, path: str) -> None:
    with contextlib.suppress(Truncated):
        assert server.get(f"/{path}").status == 500
    server.wait_for_log(f"ValueError: in the iteration of {path}")
    server.wait_for_log(f"KeyError: 'in close of {path}'")
    raised = re.findall('"the application raised" request="?([^"\n]*)', server.stderr_text())
    assert raised.count(f"GET /{path}") == 2


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_each_part_arrives_before_the_next_is_produced(server: Server, version: str, tmp_path: Path) -> None:
    """`Must not delay the transmission of any block`: the second is made only when the first has been
    read."""
    gate = tmp_path / "gate"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message(f"GET /held?{gate} {version}", HOST, CLOSE))
        received = b""
        while b"first" not in received:
            received += stream.read1()
        assert b"second" not in received
        gate.touch()
        received += stream.read()
    assert received.count(b"second") == 1


def test_a_stream_to_one_client_does_not_hold_up_another(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        assert server.get("/kind?list-of-one").body == b"only one"
        gate.touch()
        assert b"second" in stream.read()
