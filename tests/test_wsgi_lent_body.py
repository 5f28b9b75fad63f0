"""A large body in one piece is sent from where the application has it: no client notices, no memory stays."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from apps.bulk import body
from server import Server, Truncated, read_response
from wire import CLOSE, HOST, message, serving

KIB, MIB = 1024, 1024 * 1024
#: `LENT_BYTES_MIN` in src/limits.rs.
LENT_BYTES_MIN = 64 * KIB


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.bulk:app", "-s1", "-t2") as server:
        yield server


def ask(query: str, *fields: str, method: str = "GET") -> bytes:
    return message(f"{method} /lent?{query} HTTP/1.1", HOST, *fields)


@pytest.mark.parametrize("size", [LENT_BYTES_MIN - 1, LENT_BYTES_MIN, LENT_BYTES_MIN + 1, 5 * MIB])
def test_a_body_of_any_size_arrives_whole_and_the_connection_stays(server: Server, size: int) -> None:
    with server.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(3):
            connection.sendall(ask(str(size)))
            response = read_response(stream)
            assert response.header("Content-Length") == str(size)
            assert response.body == body(size)
    server.wait_for_log(f"released {size}")


def test_a_head_response_says_its_length_and_sends_nothing_of_it(server: Server) -> None:
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(ask(str(MIB), method="HEAD") + ask("5", CLOSE))
        assert read_response(stream, head=True).header("Content-Length") == str(MIB)
        assert read_response(stream).body == body(5)


def test_a_promise_counts_more_than_the_body(server: Server) -> None:
    assert server.request(ask(f"{MIB},{MIB}", CLOSE)).body == body(MIB)
    assert server.request(ask(f"{MIB},70000", CLOSE)).body == body(70_000)
    with pytest.raises(Truncated):
        server.request(ask(f"{MIB},{MIB + 1}"))


def test_a_slow_client_gets_all_of_it_and_the_memory_is_free_before(server: Server) -> None:
    size = 24 * MIB
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        connection.settimeout(60)
        connection.connect(server.address)
        connection.sendall(ask(str(size), CLOSE))
        # The rest is in a temporary file.
        server.wait_for_log(f"released {size}")
        with connection.makefile("rb") as stream:
            assert read_response(stream).body == body(size)


def test_a_client_that_leaves_frees_it(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(ask(str(7 * MIB)))
        assert connection.recv(1)
    server.wait_for_log(f"released {7 * MIB}")
