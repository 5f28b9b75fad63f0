"""Bodies far larger than memory may be, both ways: they arrive whole, and the worker does not grow.

200 MiB as a test; `make soak` sets BULK_MIB to 5,120.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.bulk import PIECE_BYTES, piece
from server import Server, read_response
from wire import CLOSE, HOST, message, serving

MIB = 1024 * 1024
SIZE = int(os.environ.get("BULK_MIB", "200")) * MIB
GROWTH_BYTES_MAX = 64 * MIB
#: The client reads so much slowly, again and again, and as much quickly in between.
SLOW_BYTES = 2 * MIB
STRETCH_BYTES = SIZE // 4

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.bulk:app", "-s1", "-t2", "--body-bytes-max=8G") as server:
        assert server.get("/generated?16").status == 200
        yield server


class Memory:
    """The most memory of its own that the worker has from `with` to its end, beyond what it began with."""

    def __init__(self, server: Server) -> None:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        self._statuses = [Path(f"/proc/{child}/status") for child in children]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.growth_bytes = 0

    def _bytes(self) -> int:
        lines = [line for status in self._statuses for line in status.read_text().splitlines()]
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssShmem")))

    def _watch(self) -> None:
        base = self._bytes()
        while not self._ended.wait(0.02):
            self.growth_bytes = max(self.growth_bytes, self._bytes() - base)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        print(f"{SIZE // MIB} MiB; the worker grew by {self.growth_bytes / MIB:.1f} MiB")


def pieces() -> Iterator[bytes]:
    return (piece(index) for index in range(SIZE // PIECE_BYTES))


def digest_of_all() -> str:
    found = hashlib.sha256()
    for data in pieces():
        found.update(data)
    return found.hexdigest()


def read_unevenly(connection: socket.socket) -> tuple[int, str]:
    """Length and digest of everything until the end, read slowly at times."""
    found, length = hashlib.sha256(), 0
    with connection.makefile("rb", buffering=MIB) as stream:
        while stream.readline() != b"\r\n":
            pass
        while data := stream.read(PIECE_BYTES):
            found.update(data)
            length += len(data)
            if length % STRETCH_BYTES < SLOW_BYTES:
                time.sleep(0.02)
    return length, found.hexdigest()


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_upload_arrives_whole(server: Server, framing: str) -> None:
    with Memory(server) as memory, server.connect(600) as connection:
        if framing == "length":
            connection.sendall(message("POST /digest HTTP/1.1", HOST, f"Content-Length: {SIZE}", CLOSE))
            for data in pieces():
                connection.sendall(data)
        else:
            connection.sendall(message("POST /digest HTTP/1.1", HOST, "Transfer-Encoding: chunked", CLOSE))
            for data in pieces():
                connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))
            connection.sendall(b"0\r\n\r\n")
        body = read_response(connection.makefile("rb")).body
    assert body == f"{SIZE} {digest_of_all()}".encode()
    assert memory.growth_bytes < GROWTH_BYTES_MAX


def test_a_large_response_that_is_generated_arrives_whole(server: Server) -> None:
    with Memory(server) as memory, server.connect(600) as connection:
        # A client of HTTP/1.0 gets the bare bytes, up to the end of the connection.
        connection.sendall(message(f"GET /generated?{SIZE // PIECE_BYTES} HTTP/1.0", HOST))
        assert read_unevenly(connection) == (SIZE, digest_of_all())
    assert memory.growth_bytes < GROWTH_BYTES_MAX


def test_a_large_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.writelines(pieces())
    with Memory(server) as memory, server.connect(600) as connection:
        connection.sendall(message(f"GET /file?{path} HTTP/1.0", HOST))
        assert read_unevenly(connection) == (SIZE, digest_of_all())
    assert memory.growth_bytes < GROWTH_BYTES_MAX
    path.unlink()
