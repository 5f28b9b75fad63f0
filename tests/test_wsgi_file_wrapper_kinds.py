"""`wsgi.file_wrapper` sends what `read()` gives, whatever is wrapped: the kernel helps only with plain files.

A descriptor says nothing about what an object makes of its file: `gzip.open` decompresses it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.files import CONTENT, KINDS
from server import Server
from wire import CLOSE, HOST, logged_once, message, read_to_end, serving, truncated

#: Whose content is told by reading them here, and those that give no bytes.
TRUE_BY_READING = {
    "of a size that is not true": Path("/proc/version"),
    "of a size that is too large": Path("/sys/kernel/mm/transparent_hugepage/enabled"),
}
NO_BYTES = {"text"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.files:app", "-s1", "-t2") as server:
        yield server


def expected(kind: str) -> bytes:
    path = TRUE_BY_READING.get(kind)
    if path is None:
        return KINDS[kind][1]
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return path.read_bytes()


def target(kind: str, directory: Path, length: int | None = None) -> str:
    return f"/returned?{kind.replace(' ', '%20')}&{directory}&{'' if length is None else length}"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NO_BYTES])
def test_what_read_gives_is_sent(server: Server, tmp_path: Path, kind: str) -> None:
    response = server.get(target(kind, tmp_path))
    assert (response.status, response.body) == (200, expected(kind))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NO_BYTES and KINDS[kind][1]])
def test_no_more_is_sent_than_the_content_length(server: Server, tmp_path: Path, kind: str) -> None:
    assert server.get(target(kind, tmp_path, 100)).body == expected(kind)[:100]


@pytest.mark.parametrize("kind", ["plain", "gzip", "part of a file", "temporary", "bytesio"])
def test_less_than_the_content_length_cuts_the_connection(server: Server, tmp_path: Path, kind: str) -> None:
    body = expected(kind)
    assert truncated(server, target(kind, tmp_path, len(body) + 1)).body == body
    server.wait_for_log(rf"shorter than its Content-Length.*declared_bytes={len(body) + 1}")


@pytest.mark.parametrize("kind", ["plain", "gzip", "named temporary", "read replaced"])
def test_head_sends_no_body_and_closes_the_file(server: Server, tmp_path: Path, kind: str) -> None:
    response = server.request(message(f"HEAD {target(kind, tmp_path, 5)} HTTP/1.1", HOST, CLOSE))
    assert (response.status, response.header("Content-Length"), response.body) == (200, "5", b"")


@pytest.mark.parametrize("kind", ["plain", "unbuffered", "unflushed", "part of a file", "spooled on disk"])
def test_the_file_is_closed_once_by_its_own_close(server: Server, tmp_path: Path, kind: str) -> None:
    before = server.stderr_text().count(f"closed {kind}\n")
    assert server.get(target(kind, tmp_path)).status == 200
    server.wait_for_log(f"(closed {kind}\n[^$]*){{{before + 1}}}")
    assert server.get("/").status == 404
    assert server.stderr_text().count(f"closed {kind}\n") == before + 1


def test_a_file_of_text_is_an_error(server: Server, tmp_path: Path) -> None:
    """Its bytes are not what `read()` gives."""
    assert server.get(target("text", tmp_path)).status == 500
    server.wait_for_log("a response body must be bytes .*, not str")


def test_a_file_that_grows_is_sent_as_far_as_was_promised(server: Server, tmp_path: Path) -> None:
    path, gate = tmp_path / "growing", tmp_path / "gate"
    path.write_bytes(CONTENT)
    with server.connect() as connection:
        connection.sendall(message(f"GET /changing?{path}&{gate} HTTP/1.1", HOST, CLOSE))
        received = connection.recv(65536)
        with path.open("ab") as file:
            file.write(CONTENT)
        gate.touch()
        received += read_to_end(connection)
    assert received.partition(b"\r\n\r\n")[2] == CONTENT


def test_a_file_that_shrinks_cuts_the_connection(server: Server, tmp_path: Path) -> None:
    path, gate = tmp_path / "shrinking", tmp_path / "gate"
    path.write_bytes(CONTENT)
    with server.connect() as connection:
        connection.sendall(message(f"GET /changing?{path}&{gate} HTTP/1.1", HOST))
        received = connection.recv(65536)
        with path.open("r+b") as file:
            file.truncate(100)
        gate.touch()
        received += read_to_end(connection)
    body = received.partition(b"\r\n\r\n")[2]
    # What was buffered already cannot be taken back.
    assert body == CONTENT[: len(body)]
    assert 100 <= len(body) < len(CONTENT)


def test_a_file_that_shrinks_while_the_kernel_sends_it_cuts_the_connection(
    server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 64 << 20)
    with server.connect() as connection:
        connection.sendall(message(f"GET /opened?{path} HTTP/1.1", HOST))
        assert b"Content-Length: 67108864\r\n" in connection.recv(65536)
        os.truncate(path, 1)
        assert len(read_to_end(connection)) < 64 << 20
    assert server.get("/").status == 404


@pytest.mark.parametrize("kind", ["plain", "unbuffered", "bytesio", "gzip", "named temporary"])
def test_positions_are_passed_through(server: Server, tmp_path: Path, kind: str) -> None:
    size = len(KINDS["plain"][1])
    said = server.get(f"/positions?{kind.replace(' ', '%20')}&{tmp_path}").body.decode()
    assert said == repr([True, 100, 100, size, size])


@pytest.mark.parametrize("kind", ["pipe", "only read"])
def test_what_has_no_positions_says_so(server: Server, tmp_path: Path, kind: str) -> None:
    assert server.get(f"/positions?{kind.replace(' ', '%20')}&{tmp_path}").body == b"[False]"


def test_a_range_is_not_read_from_the_start_of_the_file(server: Server, tmp_path: Path) -> None:
    """Pylons/waitress#359: the last bytes of a large file cost as much as all of it."""
    pytest.importorskip("werkzeug")
    size, last = 1 << 30, b"the very last bytes"
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(size - len(last))
        file.seek(0, 2)
        file.write(last)
    before = int(server.get("/bytes_read").body)
    response = server.get(f"/ranged?{path}", {"Range": f"bytes={size - len(last)}-"})
    assert (response.status, response.body) == (206, last)
    assert int(server.get("/bytes_read").body) - before < 16 << 20


def test_the_file_of_a_client_that_leaves_is_closed(server: Server, tmp_path: Path) -> None:
    with server.connect() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(message(f"GET {target('gzip', tmp_path)} HTTP/1.1", HOST))
        assert connection.recv(100) != b""
    assert server.get("/").status == 404
    assert "closed gzip" in server.stderr_text() or logged_once(server, "closed gzip")
