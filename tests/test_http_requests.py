"""RFC 9112 as a client sees it: what a valid request gets, however it is delivered.

What is refused is in test_http_refusals.py, connections over time in test_http_connections.py.
"""

from __future__ import annotations

import email.utils
import io
import json
import random
import re
from collections.abc import Callable, Iterator

import pytest

from server import Response, Server, read_response
from wire import CLOSE, DELIVERIES, HOST, LAST_CHUNK, chunked, deliver, message, read_to_end, serving

Delivery = Callable[[bytes], list[bytes]]
CHUNKED = "Transfer-Encoding: chunked"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.calls:app", "-s1", "-t4") as server:
        yield server


def echoed(response: Response) -> list[str]:
    assert response.status == 200, response
    return [str(part) for part in json.loads(response.body)]


def post(query: str, *fields: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    return message(f"POST /echo?{query} {version}", HOST, *fields, body=body)


VALID = {
    "no body": (post("q", CLOSE), ""),
    "content length": (post("q", "Content-Length: 5", CLOSE, body=b"hello"), "hello"),
    "content length with leading zeros": (post("q", "Content-Length: 005", CLOSE, body=b"hello"), "hello"),
    "field names in any case": (post("q", "cOnTeNt-LeNgTh: 5", CLOSE, body=b"hello"), "hello"),
    "no space after the colon": (post("q", "Content-Length:5", CLOSE, body=b"hello"), "hello"),
    "tabs around a value": (post("q", "Content-Length:\t5\t", CLOSE, body=b"hello"), "hello"),
    "body that looks like a head": (
        post("q", "Content-Length: 8", CLOSE, body=b"\r\n\r\nGET "),
        "\r\n\r\nGET ",
    ),
    "empty chunked": (post("q", CHUNKED, CLOSE, body=chunked()), ""),
    "chunked": (post("q", CHUNKED, CLOSE, body=chunked(b"hel", b"l", b"o")), "hello"),
    "chunked in capitals": (post("q", "Transfer-Encoding: Chunked", CLOSE, body=chunked(b"hello")), "hello"),
    "chunk sizes in capitals": (
        post("q", CHUNKED, CLOSE, body=b"A\r\n0123456789\r\n0\r\n\r\n"),
        "0123456789",
    ),
    "chunk sizes with zeros": (post("q", CHUNKED, CLOSE, body=b"0005\r\nhello\r\n0000\r\n\r\n"), "hello"),
    "chunk extensions": (post("q", CHUNKED, CLOSE, body=b'5;a=b;c="d e"\r\nhello\r\n0;z\r\n\r\n'), "hello"),
    "trailers": (post("q", CHUNKED, CLOSE, body=b"5\r\nhello\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n"), "hello"),
    "chunk that looks like an end": (
        post("q", CHUNKED, CLOSE, body=chunked(b"0\r\n\r\n", b"!")),
        "0\r\n\r\n!",
    ),
    "one empty line before": (b"\r\n" + post("q", CLOSE), ""),
    "http 1.0": (message("POST /echo?q HTTP/1.0", "Content-Length: 5", body=b"hello"), "hello"),
    "later minor version": (
        post("q", "Content-Length: 5", CLOSE, body=b"hello", version="HTTP/1.9"),
        "hello",
    ),
    "unknown upgrade": (post("q", "Connection: Upgrade, close", "Upgrade: h2c, websocket"), ""),
    "te field": (post("q", "TE: trailers, gzip;q=0.5", "Connection: TE, close"), ""),
}


@pytest.mark.parametrize("deliver_as", DELIVERIES)
@pytest.mark.parametrize("name", VALID)
def test_a_valid_request_is_understood_however_it_is_delivered(
    server: Server, name: str, deliver_as: Delivery
) -> None:
    raw, body = VALID[name]
    with server.connect() as connection, connection.makefile("rb") as stream:
        deliver(connection, deliver_as(raw))
        assert echoed(read_response(stream)) == ["POST", "q", body]
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /target HTTP/1.1", 200),
        ("GET http://localhost/target HTTP/1.1", 200),
        ("GET HTTP://LOCALHOST:80/target?q HTTP/1.1", 200),
        ("GET http://[::1]:8080/target HTTP/1.1", 200),
        ("GET http://localhost HTTP/1.1", 404),
        ("GET http://localhost?q HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 404),
    ],
)
def test_every_form_of_the_target_reaches_the_application(server: Server, line: str, status: int) -> None:
    """RFC 9112 section 3.2: origin, absolute and asterisk form (authority form is for CONNECT alone)."""
    response = server.request(message(line, HOST, CLOSE))
    assert response.status == status
    if status == 200:
        assert response.body.decode() == line.split(" ")[1]


@pytest.mark.parametrize("field", ["Host:", "Host: localhost", "Host: [::1]:80", "Host: a.b-c_d~e%20:8080"])
def test_every_valid_host_is_accepted(server: Server, field: str) -> None:
    """RFC 9110 section 7.2: uri-host [":" port], and empty where the target has no authority."""
    assert server.request(message("GET /sized HTTP/1.1", field, CLOSE)).status == 200


def test_a_response_says_its_date_and_version(server: Server) -> None:
    """RFC 9110 section 6.6.1, and section 2.5: the version is the server's, whatever the client's is."""
    response = server.request(message("GET /sized HTTP/1.0"))
    assert response.version == "HTTP/1.1"
    date = response.header("Date") or ""
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date)
    assert email.utils.format_datetime(email.utils.parsedate_to_datetime(date), usegmt=True) == date


def test_a_request_near_every_limit_is_accepted(server: Server) -> None:
    """Just below the default bounds of the request line (8190 bytes), the head (64 KiB) and its fields
    (100)."""
    fields = [f"X-{index}: {'v' * 600}" for index in range(98)]
    response = server.request(message(f"GET /echo?{'q' * 8100} HTTP/1.1", HOST, CLOSE, *fields))
    assert echoed(response)[1] == "q" * 8100


def test_a_hundred_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """RFC 9112 section 9.3.2: `MUST send the corresponding responses in the same order`."""
    raw = b"".join(message(f"GET /echo?{index} HTTP/1.1", HOST) for index in range(100))
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(raw)
        assert [echoed(read_response(stream))[1] for _ in range(100)] == [str(index) for index in range(100)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("deliver_as", DELIVERIES)
def test_a_pipeline_of_all_kinds_is_answered_in_order(
    server: Server, deliver_as: Delivery, seed: int
) -> None:
    dice = random.Random(seed)
    raw, expected = b"", []
    for index in range(12):
        method, body = (
            dice.choice(["GET", "POST", "PUT", "HEAD"]),
            dice.randbytes(dice.choice([0, 1, 50, 3000])),
        )
        if dice.random() < 0.5:
            framing, sent = f"Content-Length: {len(body)}", body
        else:
            framing, sent = CHUNKED, chunked(*(part for part in (body[:7], body[7:]) if part))
        raw += message(f"{method} /echo?{index} HTTP/1.1", HOST, framing, body=sent)
        expected.append([method, str(index), body.decode("latin-1")])
    raw += message("GET /echo?last HTTP/1.1", HOST, CLOSE)
    with server.connect() as connection:
        # The server may answer the first before the last is sent, so nothing stops at the first answer here.
        for piece in deliver_as(raw):
            connection.sendall(piece)
        stream = io.BytesIO(read_to_end(connection))
    for asked in expected:
        response = read_response(stream, head=asked[0] == "HEAD")
        assert response.status == 200
        if asked[0] != "HEAD":
            assert echoed(response) == asked
    assert echoed(read_response(stream)) == ["GET", "last", ""]
    assert stream.read() == b""


def test_valid_requests_before_a_bad_one_are_answered(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(2 * message("GET /sized HTTP/1.1", HOST) + b"GARBAGE\r\n\r\n")
        stream = io.BytesIO(read_to_end(connection))
    assert [read_response(stream).status for _ in range(3)] == [200, 200, 400]
    assert stream.read() == b""


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("value", ["100-continue", "100-Continue"])
def test_a_client_that_waits_is_told_to_continue(server: Server, value: str, framing: str) -> None:
    """RFC 9110 section 10.1.1, and PEP 3333: `servers and gateways that implement HTTP 1.1 must provide
    transparent support`."""
    field, body = ("Content-Length: 5", b"hello") if framing == "length" else (CHUNKED, chunked(b"hello"))
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(post("q", f"Expect: {value}", field, CLOSE))
        assert read_response(stream).status == 100
        connection.sendall(body)
        assert echoed(read_response(stream)) == ["POST", "q", "hello"]
        assert stream.read() == b""


@pytest.mark.parametrize(
    "raw",
    [
        post("q", "Expect: 100-continue", "Content-Length: 0", CLOSE),
        post("q", "Expect: 100-continue", CLOSE),
        message("POST /echo HTTP/1.0", "Expect: 100-continue", "Content-Length: 5", body=b"hello"),
        message("GET /calls HTTP/1.1", HOST, CLOSE),
    ],
    ids=["empty body", "no body", "http 1.0", "not asked"],
)
def test_nobody_is_told_to_continue_in_vain(server: Server, raw: bytes) -> None:
    """RFC 9110 section 10.1.1: never to an HTTP/1.0 client, and needless without content."""
    with server.connect() as connection:
        connection.sendall(raw)
        received = read_to_end(connection)
    assert CONTINUE not in received
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_refused_by_its_head_is_not_told_to_continue(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(post("q", "Expect: 100-continue", "Content-Length: 99999999999"))
        received = read_to_end(connection)
    assert received.startswith(b"HTTP/1.1 413 ")


def test_a_streamed_response_is_chunked_for_1_1_and_ends_with_the_connection_for_1_0(server: Server) -> None:
    """RFC 9112 section 6.1: no Transfer-Encoding to a client that did not speak HTTP/1.1."""
    with server.connect() as connection:
        connection.sendall(message("GET /streamed HTTP/1.1", HOST, CLOSE))
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert body == b"3\r\nhel\r\n2\r\nlo\r\n" + LAST_CHUNK
    with server.connect() as connection:
        connection.sendall(message("GET /streamed HTTP/1.0", "Connection: keep-alive"))
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"hello"
