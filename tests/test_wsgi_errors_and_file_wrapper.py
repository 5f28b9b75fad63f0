"""PEP 3333, "Input and Error Streams" and "Optional Platform-Specific File Handling"."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from server import Server, read_response
from wire import CLOSE, HOST, logged_once, message, read_to_end, serving, truncated

FILE_BYTES = 3 * 1024 * 1024 + 17
KINDS = ["file", "unbuffered", "recorded-file", "recorded", "bytesio", "read-only"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.streams:app", "-s1", "-t4") as server:
        yield server


@pytest.fixture(scope="module")
def content() -> bytes:
    return random.Random(1).randbytes(FILE_BYTES)


@pytest.fixture(scope="module")
def path(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "content"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("line", ["by write", "by writelines", "second line", "by print"])
def test_what_is_written_to_errors_is_in_the_log(server: Server, line: str) -> None:
    """`An output stream to which error output can be written, for the purpose of recording program or other
    errors`."""
    assert server.get("/errors?token-errors").status == 200
    server.wait_for_log(f"token-errors {line}$")


def test_errors_takes_any_unicode(server: Server) -> None:
    """`The error stream should accept and log arbitrary unicode without raising an error`."""
    assert server.get("/errors_in_any_script?token-unicode").status == 200
    server.wait_for_log("token-unicode caf.+ end$")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_a_wrapped_file_is_sent_whole(
    server: Server, path: Path, content: bytes, kind: str, version: str
) -> None:
    """`Transmission should begin at the current position within the "file"` and `continue until the end`."""
    raw = message(f"GET /returned?kind={kind}&path={path} {version}", HOST, CLOSE)
    assert server.request(raw).body == content


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapped_file_is_sent_from_its_position(
    server: Server, path: Path, content: bytes, kind: str
) -> None:
    """`Transmission should begin at the current position`, also where a buffered file has read ahead of
    it."""
    assert server.get(f"/returned?kind={kind}&path={path}&offset=1000001").body == content[1000001:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0, 1, 100_000])
def test_no_more_of_a_file_is_sent_than_its_content_length(
    server: Server, path: Path, content: bytes, kind: str, length: int
) -> None:
    """`Until the end is reached, or until Content-Length bytes have been written`."""
    with server.connect() as connection:
        target = f"/returned?kind={kind}&path={path}&length={length}&offset=10"
        connection.sendall(message(f"GET {target} HTTP/1.1", HOST, CLOSE))
        _, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert body == content[10 : 10 + length]


@pytest.mark.parametrize("kind", ["file", "recorded", "bytesio"])
def test_a_file_shorter_than_its_content_length_closes_the_connection(
    server: Server, path: Path, content: bytes, kind: str
) -> None:
    with server.connect() as connection:
        target = f"/returned?kind={kind}&path={path}&length={FILE_BYTES + 1}"
        connection.sendall(message(f"GET {target} HTTP/1.1", HOST))
        _, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert body == content


def test_a_file_without_end_in_sight_is_sent_to_its_end(server: Server, path: Path, content: bytes) -> None:
    """A pipe has a `fileno()` that sendfile cannot take: `Must still return an iterable that wraps
    read()`."""
    assert server.get(f"/returned?kind=pipe&path={path}").body == content[:60000]


def test_an_empty_file_is_an_empty_body(server: Server, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    response = server.get(f"/returned?kind=file&path={tmp_path / 'empty'}")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize("kind", KINDS)
def test_middleware_may_iterate_over_the_wrapper(
    server: Server, path: Path, content: bytes, kind: str
) -> None:
    """`The callable must return an iterable object`, of bytestrings, for whoever iterates over it."""
    assert server.get(f"/iterated?kind={kind}&path={path}").body == content


def test_blocks_are_no_larger_than_suggested(server: Server, path: Path) -> None:
    """`The second parameter is an optional block size "suggestion"`."""
    body = server.get(f"/transformed?kind=recorded&path={path}&block=100000&token=t").body
    sizes = [int(size) for size in body.split()]
    assert max(sizes) <= 100_000
    assert sum(sizes) == FILE_BYTES


@pytest.mark.parametrize("path_name", ["returned", "iterated", "transformed", "discarded"])
@pytest.mark.parametrize("kind", ["recorded", "recorded-file"])
def test_the_file_is_closed_once(server: Server, path: Path, path_name: str, kind: str) -> None:
    """`Must have a close() method that invokes the original file-like object's close() method`."""
    token = f"token-{path_name}-{kind}"
    assert server.get(f"/{path_name}?kind={kind}&path={path}&token={token}").status == 200
    assert logged_once(server, f"closed {token}")


def test_the_file_is_closed_when_its_head_is_enough(server: Server, path: Path) -> None:
    target = f"/returned?kind=recorded-file&path={path}&token=token-head"
    response = server.request(message(f"HEAD {target} HTTP/1.1", HOST, CLOSE))
    assert (response.status, response.body) == (200, b"")
    assert logged_once(server, "closed token-head")


def test_the_file_is_closed_when_the_client_disconnects(server: Server, path: Path) -> None:
    with server.connect() as connection:
        target = f"/returned?kind=recorded-file&path={path}&token=token-gone"
        connection.sendall(message(f"GET {target} HTTP/1.1", HOST))
        assert connection.recv(100) != b""
    assert logged_once(server, "closed token-gone")


def test_a_file_that_fails_cuts_the_connection_and_is_closed(
    server: Server, path: Path, content: bytes
) -> None:
    assert truncated(server, f"/returned?kind=failing&path={path}&token=token-broken").body == content
    assert logged_once(server, "OSError: broken token-broken")
    assert logged_once(server, "closed token-broken")


def test_a_wrapper_that_is_not_returned_sends_nothing(server: Server, path: Path) -> None:
    """`Must not perform any data transmission until and unless the server/gateway actually receives the
    iterable as a return value from the application`."""
    assert server.get(f"/discarded?kind=recorded-file&path={path}&token=t").body == b"something else"


def test_a_wrapped_file_follows_what_was_written(server: Server, path: Path, content: bytes) -> None:
    response = server.get(f"/written_then_returned?kind=file&path={path}&offset=3000000")
    assert response.body == b"written " + content[3000000:]


@pytest.mark.parametrize("kind", ["file", "bytesio"])
def test_the_connection_serves_on_after_a_file(server: Server, path: Path, content: bytes, kind: str) -> None:
    with server.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(3):
            connection.sendall(message(f"GET /returned?kind={kind}&path={path}&length=200000 HTTP/1.1", HOST))
            assert read_response(stream).body == content[:200_000]
