"""Connections that the application takes over, to speak WebSocket or another protocol: `spawning.socket`."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from apps.upgrade import SWITCHING
from conftest import ServerFactory
from http_client import read_response
from server import Server
from test_process_life import eventually
from wire import CLOSE, HOST, message, read_to_end, serving

UPGRADE = ("Connection: keep-alive, Upgrade", "Upgrade: echo")
APP = "apps.upgrade:app"
#: Threads, and green threads of either library.
MODES = {"threads": ["-t4"], "eventlet": ["-t0"], "gevent": ["-t0", "--green=gevent"]}


@pytest.fixture(scope="module", params=MODES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(APP, "-s1", *MODES[request.param], "--request-timeout=2") as server:
        yield server


@pytest.fixture(scope="module")
def threads() -> Iterator[Server]:
    with serving(APP, "-s1", "-t4", "--status-port=0", "--deadman-timeout=60") as server:
        yield server


def ask(path: str, *fields: str, body: bytes = b"") -> bytes:
    return message(f"GET {path} HTTP/1.1", HOST, *(fields or UPGRADE), body=body)


def read_exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        data = connection.recv(count - len(received))
        assert data, received
        received += data
    return received


@contextlib.contextmanager
def upgraded(server: Server, path: str, early: bytes = b"") -> Iterator[socket.socket]:
    """A connection that the application of `path` has taken over."""
    with server.connect() as connection:
        connection.sendall(ask(path, body=early))
        assert read_exactly(connection, len(SWITCHING)) == SWITCHING
        yield connection


def echoed(connection: socket.socket, data: bytes) -> bool:
    connection.sendall(data)
    return read_exactly(connection, len(data)) == data.upper()


@pytest.mark.parametrize("path", ["echoing", "responding", "stopping", "by_lines", "by_select"])
def test_an_application_speaks_its_own_protocol(server: Server, path: str) -> None:
    with upgraded(server, f"/{path}") as connection:
        for _ in range(3):
            assert echoed(connection, b"hello\n")
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b""
    server.wait_for_log(rf'"GET /{path} HTTP/1.1" 101 ')
    assert "Traceback" not in server.stderr_text()
    assert "Content-Length" not in server.stderr_text(), "nothing is said of a response that nobody wants"


@pytest.mark.parametrize("path", ["echoing", "by_lines"])
def test_bytes_that_come_with_the_request_are_not_lost(server: Server, path: str) -> None:
    early = b"early\n" * 100
    with upgraded(server, f"/{path}", early) as connection:
        assert read_exactly(connection, len(early)) == early.upper()
        assert echoed(connection, b"later\n")


def test_a_protocol_may_take_longer_than_a_request(server: Server) -> None:
    """`--request-timeout` is for responses."""
    with upgraded(server, "/echoing") as connection, server.connect() as clock:
        # Another request that takes too long is the clock.
        clock.sendall(ask("/offered").replace(b"\r\n\r\n", b"\r\nX-Unfinished: "))
        connection.settimeout(3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(60)
        assert echoed(connection, b"still here\n")
    assert "--request-timeout" not in server.stderr_text()


def test_only_who_asks_for_another_protocol_is_offered_the_connection(threads: Server) -> None:
    both = b"spawning.socket werkzeug.socket"
    for upgrade in [UPGRADE, ("Connection: upgrade", "Upgrade: websocket")]:
        response = threads.request(ask("/offered", *upgrade))
        assert (response.status, response.body) == (200, both)
        assert response.header("Connection") == "close", (
            "whoever keeps the offer meets no later request with it"
        )
    others: list[tuple[str, ...]] = [
        (CLOSE,),
        ("Upgrade: echo", CLOSE),
        ("Connection: Upgrade, close",),
        ("Connection: Upgrade, close", "Upgrade: h2c"),
        ("Connection: Upgrade, close", "Upgrade: echo", "Content-Length: 1"),
    ]
    for fields in others:
        assert threads.request(ask("/offered", *fields, body=b"x")).body == b"", fields
    assert threads.request(message("GET /offered HTTP/1.0", *UPGRADE)).body == b""


def test_a_response_that_has_begun_keeps_the_connection(threads: Server) -> None:
    assert threads.request(ask("/late")).body == b"begun FileExistsError"


def test_an_exception_of_a_protocol_is_logged_and_ends_the_connection(threads: Server) -> None:
    with upgraded(threads, "/failing") as connection:
        assert read_to_end(connection) == b""
    threads.wait_for_log("ValueError: in the middle of it")
    threads.wait_for_log('"GET /failing HTTP/1.1" 101 ')


def connections(server: Server) -> int:
    """How many connections the server counts."""
    port = int(server.wait_for_log(r"status page: http://[^:]+:(\d+)/")[1])
    with socket.create_connection(("127.0.0.1", port), 60) as status:
        status.sendall(message("GET /status.json HTTP/1.1", HOST, CLOSE))
        return int(json.loads(read_response(status.makefile("rb")).body)["connections"])


def test_a_connection_that_outlives_its_call_is_counted_and_then_logged(threads: Server) -> None:
    before = threads.stdout_text().count('"GET /keeping HTTP/1.1" 101 ')
    with upgraded(threads, "/keeping") as connection:
        threads.wait_for_log("the call is done")
        assert echoed(connection, b"hello")
        assert connections(threads) == 1
        assert threads.stdout_text().count('"GET /keeping HTTP/1.1" 101 ') == before
    threads.wait_for_log("the thread is done")
    threads.wait_for_log('"GET /keeping HTTP/1.1" 101 ')
    assert eventually(lambda: connections(threads) == 0)


def test_a_drain_waits_for_it_until_the_deadman(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "-t2", "--deadman-timeout=4")
    with upgraded(server, "/keeping") as kept, upgraded(server, "/echoing") as held:
        server.signal(signal.SIGHUP)
        server.wait_for_log("a new generation serves")
        assert echoed(kept, b"while it drains")
        assert echoed(held, b"while it drains")
        with upgraded(server, "/echoing") as successor:
            assert read_to_end(kept) == read_to_end(held) == b""
            assert echoed(successor, b"the next generation")
    # Cut a moment before, their calls can end and nothing is killed, unless the machine stops just then.
    line = '"GET /keeping HTTP/1.1" 101 '
    assert eventually(lambda: line in server.stdout_text() or "killing" in server.stderr_text())


def test_a_drain_ends_with_the_last_of_them(server_factory: ServerFactory) -> None:
    server = server_factory(APP, "-s1", "-t2", "--deadman-timeout=3600")
    with upgraded(server, "/keeping") as kept, upgraded(server, "/echoing") as held:
        server.signal(signal.SIGTERM)
        server.wait_for_log("stopping|draining")
        assert echoed(kept, b"while it drains")
        assert echoed(held, b"while it drains")
    assert server.wait() == 0
    assert server.stdout_text().count(" 101 ") == 2


def frame(opcode: int, payload: bytes) -> bytes:
    """A frame of a client, masked by zeros (RFC 6455 section 5.2)."""
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


def test_simple_websocket_finds_the_connection(server: Server) -> None:
    """And with it flask-sock, and Flask-SocketIO in its threading mode."""
    pytest.importorskip("simple_websocket")
    key = base64.b64encode(os.urandom(16)).decode()
    fields = [
        *("Connection: Upgrade", "Upgrade: websocket"),
        *(f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"),
    ]
    with server.connect() as connection:
        connection.sendall(ask("/websocket", *fields, body=frame(1, b"early")))
        with connection.makefile("rb") as stream:
            assert read_response(stream).status == 101
            assert stream.read(7) == b"\x81\x05early"
            connection.sendall(frame(1, b"later"))
            assert stream.read(7) == b"\x81\x05later"
            connection.sendall(frame(8, b"\x03\xe8"))
            assert stream.read(4) == b"\x88\x02\x03\xe8"
            assert stream.read() == b""
    server.wait_for_log('"GET /websocket HTTP/1.1" 101 ')
