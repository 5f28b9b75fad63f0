"""Bytes to the wire and back, for tests that care where each byte goes."""

from __future__ import annotations

import contextlib
import random
import select
import socket
from collections.abc import Callable, Iterable, Iterator

import pytest

from server import Response, Server, Truncated

HOST = "Host: localhost"
CLOSE = "Connection: close"
LAST_CHUNK = b"0\r\n\r\n"


def message(line: str, *fields: str, body: bytes = b"") -> bytes:
    """A request of a request line, field lines and a body, each exactly as given; strings are latin-1."""
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1") + body


def chunked(*chunks: bytes) -> bytes:
    """The chunked coding of `chunks`, the last chunk included (RFC 9112 section 7.1)."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + LAST_CHUNK


def whole(data: bytes) -> list[bytes]:
    """One write."""
    return [data]


def per_byte(data: bytes) -> list[bytes]:
    """A write for each byte."""
    return [data[index : index + 1] for index in range(len(data))]


def randomly_split(data: bytes) -> list[bytes]:
    """Writes of random sizes, the same ones for the same data."""
    dice = random.Random(data)
    cuts = sorted(dice.sample(range(1, len(data)), min(len(data) - 1, 7)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


#: The ways in which the same bytes are delivered: no answer may depend on them.
DELIVERIES: list[Callable[[bytes], list[bytes]]] = [whole, per_byte, randomly_split]


def deliver(connection: socket.socket, pieces: Iterable[bytes]) -> None:
    """Send the pieces one by one, until the server answers: it may refuse before it has read everything."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            if select.select([connection], [], [], 0)[0]:
                return
            connection.sendall(piece)


def read_to_end(connection: socket.socket) -> bytes:
    """Everything until the server closes. A reset counts as the end, what came before it is kept."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


@contextlib.contextmanager
def serving(app: str, *arguments: str) -> Iterator[Server]:
    """A server for all tests of a module; it must end politely, and leave every validated response closed."""
    server = Server(app, *arguments)
    try:
        yield server
        server.stop()
        assert "garbage collected without being closed" not in server.stderr_text()
        assert "panicked at" not in server.stderr_text()
    finally:
        server.kill()
        print(f"{server.command}\n--- stdout\n{server.stdout_text()}\n--- stderr\n{server.stderr_text()}")


def truncated(server: Server, path: str) -> Response:
    """What arrived of the response to GET `path`, which the server must cut off."""
    with pytest.raises(Truncated) as fault:
        server.get(path)
    assert fault.value.response is not None
    return fault.value.response


def logged_once(server: Server, line: str) -> bool:
    """Whether `line` is in the log, and only once after the server has gone on to another request."""
    server.wait_for_log(line)
    assert server.get("/").status > 0
    return server.stderr_text().count(line) == 1
