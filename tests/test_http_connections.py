"""RFC 9112 section 9, and what a client may do to a connection: keep it, close it, stall it, break it."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server import Server, read_response
from wire import CLOSE, HOST, message, read_to_end, serving

if TYPE_CHECKING:
    from conftest import ServerFactory

HELLO = message("GET /sized HTTP/1.1", HOST)
LAST = message("GET /sized HTTP/1.1", HOST, CLOSE)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.calls:app", "-s1", "-t4") as server:
        yield server


def kept_open(server: Server, raw: bytes) -> bool:
    """Whether the connection that carried `raw` serves another request, and says so truly."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(raw)
        response = read_response(stream, head=raw.startswith(b"HEAD"))
        assert response.status == 200
        options = [value.lower() for value in response.header_all("Connection")]
        if "close" in options:
            assert stream.read() == b""
            return False
        if b"HTTP/1.0\r\n" in raw:
            assert options == ["keep-alive"]
        connection.sendall(LAST)
        return read_response(stream).status == 200


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (HELLO, True),
        (LAST, False),
        (message("GET /sized HTTP/1.1", HOST, "Connection: keep-alive"), True),
        (message("GET /sized HTTP/1.1", HOST, "Connection: CLOSE"), False),
        (message("GET /sized HTTP/1.1", HOST, "Connection: keep-alive, close"), False),
        (message("GET /sized HTTP/1.1", HOST, "Connection: X-A ,\tClose ,"), False),
        (message("GET /sized HTTP/1.1", HOST, "Connection: X-A", "connection: close"), False),
        (message("GET /sized HTTP/1.1", HOST, "Connection: closed"), True),
        (message("GET /sized HTTP/1.1", HOST, "X-Connection: close"), True),
        (message("GET /sized HTTP/1.0"), False),
        (message("GET /sized HTTP/1.0", "Connection: Keep-Alive"), True),
        (message("GET /sized HTTP/1.0", "Connection: keep-alive, close"), False),
        (message("GET /streamed HTTP/1.1", HOST), True),
        (message("GET /streamed HTTP/1.0", "Connection: keep-alive"), False),
        (message("HEAD /streamed HTTP/1.1", HOST), True),
        (message("POST /echo HTTP/1.1", HOST, "Content-Length: 2", body=b"ab"), True),
    ],
)
def test_a_connection_is_kept_as_the_client_wishes(server: Server, raw: bytes, kept: bool) -> None:
    """RFC 9112 section 9.3: persistence by version and connection options."""
    assert kept_open(server, raw) is kept


def test_nothing_after_a_close_is_answered(server: Server) -> None:
    """RFC 9112 section 9.6: the server that sends close `MUST NOT process any further requests`."""
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(LAST + HELLO)
        assert read_response(stream).status == 200
        assert stream.read() == b""


def test_no_keepalive_closes_after_every_response(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--no-keepalive")
    assert not kept_open(server, HELLO)
    assert not kept_open(server, message("GET /sized HTTP/1.0", "Connection: keep-alive"))


def test_a_client_that_has_sent_its_last_byte_still_gets_its_responses(server: Server) -> None:
    """RFC 9112 section 9.6 speaks of half-closed connections: an end of input is no abort."""
    with server.connect() as connection:
        connection.sendall(HELLO + HELLO)
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection).count(b"HTTP/1.1 200 OK\r\n") == 2


def test_a_half_closed_client_gets_its_response_when_the_application_is_slow(
    server: Server, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST))
        connection.shutdown(socket.SHUT_WR)
        server.wait_for_log(f"held {gate}")
        gate.touch()
        assert read_response(stream).body == b"released"
        assert stream.read() == b""


def test_what_a_client_sends_after_its_last_request_does_not_cost_it_the_response(
    server: Server, tmp_path: Path
) -> None:
    """RFC 9112 section 9.6: closing with unread bytes would reset the connection and lose the response."""
    gate = tmp_path / "gate"
    with server.connect() as connection:
        connection.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
        server.wait_for_log(f"held {gate}")
        connection.sendall(b"more")
        gate.touch()
        response = read_to_end(connection)
    assert response.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nreleased\r\n" in response


@pytest.mark.parametrize(
    "sent", [b"", b"GET /si", HELLO[:-2], message("POST /echo HTTP/1.1", HOST, "Content-Length: 9")]
)
def test_an_end_in_the_middle_closes_the_connection(server: Server, sent: bytes) -> None:
    before = server.get("/calls").body
    with server.connect() as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in read_to_end(connection)
    assert server.get("/calls").body == before


def test_responses_keep_their_order_when_the_first_is_slow(server: Server, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(
            message(f"GET /held?{gate} HTTP/1.1", HOST) + message("GET /echo?second HTTP/1.1", HOST)
        )
        server.wait_for_log(f"held {gate}")
        gate.touch()
        assert read_response(stream).body == b"released"
        assert b"second" in read_response(stream).body


def reset(connection: socket.socket) -> None:
    """Close so that the peer sees a reset rather than an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_clients_that_vanish_harm_nobody(server: Server, tmp_path: Path) -> None:
    """In the middle of a head, of a body, of the application's work and of a response."""
    gate = tmp_path / "gate"
    for raw in (
        HELLO[:9],
        message("POST /echo HTTP/1.1", HOST, "Content-Length: 100000", body=b"x" * 10),
        message(f"GET /held?{gate} HTTP/1.1", HOST),
        message("GET /sized?8000000 HTTP/1.1", HOST),
    ):
        connection = server.connect()
        connection.sendall(raw)
        if b"/held" in raw:
            server.wait_for_log(f"held {gate}")
        reset(connection)
    gate.touch()
    processes = server.processes()
    assert [server.get("/calls").status for _ in range(20)] == [200] * 20
    assert server.processes() == processes


def test_many_idle_connections_leave_room_for_one_more(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(300)]
        for connection in idle:
            connection.sendall(HELLO)
        for connection in idle:
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert server.get("/sized").status == 200


@pytest.fixture
def single_threaded(server_factory: ServerFactory) -> Server:
    """One application thread in all, so that whoever occupied it would be noticed by everybody."""
    return server_factory("apps.calls:app", "-s1", "-t1")


def test_slow_senders_occupy_no_application_thread(single_threaded: Server) -> None:
    head = message("POST /echo?slow HTTP/1.1", HOST, "Content-Length: 10", CLOSE, body=b"01234")
    with single_threaded.connect() as slow, slow.makefile("rb") as stream:
        slow.sendall(head)
        assert single_threaded.get("/sized").status == 200
        slow.sendall(b"56789")
        assert b"0123456789" in read_response(stream).body


def test_slow_readers_occupy_no_application_thread(single_threaded: Server) -> None:
    size = 32 * 1024 * 1024
    with single_threaded.connect() as slow, slow.makefile("rb") as stream:
        slow.sendall(message(f"GET /sized?{size} HTTP/1.1", HOST, CLOSE))
        # The first line shows that the response is under way; far more of it than any socket buffer remains.
        assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
        assert single_threaded.get("/sized").status == 200
        assert len(stream.read()) > size


def test_a_large_response_arrives_whole(server: Server) -> None:
    assert server.get("/sized?20000000").body == b"x" * 20_000_000
