"""What is no valid request: refused with the right status, the connection closed, the application never
called.

Every shape is followed by a request that must not be answered: whoever got that far has smuggled it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from server import Server, read_response
from shapes import SMUGGLED, TABLE, fields
from wire import DELIVERIES, HOST, deliver, message, read_to_end, serving

Delivery = Callable[[bytes], list[bytes]]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.calls:app", "-s1", "-t4") as server:
        yield server


def calls(server: Server) -> int:
    return int(server.get("/calls").body)


@pytest.mark.parametrize("deliver_as", DELIVERIES)
@pytest.mark.parametrize("name", TABLE)
def test_no_invalid_request_reaches_the_application(server: Server, name: str, deliver_as: Delivery) -> None:
    raw, status = TABLE[name]
    before = calls(server)
    with server.connect() as connection:
        deliver(connection, deliver_as(raw + SMUGGLED))
        received = io.BytesIO(read_to_end(connection))
    response = read_response(received)
    assert response.status in (status if isinstance(status, tuple) else (status,)), response
    assert response.header("Connection") == "close"
    assert response.header("Date") is not None
    assert received.read() == b""
    assert calls(server) == before


def test_a_refusal_is_not_followed_by_a_body_for_head(server: Server) -> None:
    """RFC 9112 section 6.3: no response to HEAD has a body, an error's neither."""
    with server.connect() as connection:
        connection.sendall(message("HEAD / HTTP/1.1", HOST, "X-A : b"))
        head, _, rest = read_to_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert rest == b""


def test_a_refusal_arrives_while_the_client_is_still_sending(server: Server) -> None:
    """RFC 9112 section 9.6: closing at once would reset the connection, and the response be lost."""
    raw = fields("Content-Length: 9999999999")
    with server.connect() as connection:
        deliver(connection, [raw, *[b"x" * 65536] * 64])
        assert read_to_end(connection).startswith(b"HTTP/1.1 413 ")
