"""Every limit that a client can meet: just below it all is well, just above it the answer is the documented
one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server import Server, read_response
from test_process_life import workers
from wire import CLOSE, HOST, chunked, deliver, message, read_to_end

if TYPE_CHECKING:
    from conftest import ServerFactory

CHUNKED = "Transfer-Encoding: chunked"
#: How long a dripping client waits between two bytes; the server answers within it or the next byte is sent.
DRIP_INTERVAL_S = 0.05
#: For clients that do nothing wrong: longer than a machine stands still.
LONG_TIMEOUT_S = 6


def status_of(server: Server, raw: bytes) -> int:
    return server.request(raw).status


def request_with_line_of(size: int) -> bytes:
    """A request whose request line has `size` bytes, its end not counted."""
    return message(f"GET /sized?{'5'.zfill(size - len('GET /sized? HTTP/1.1'))} HTTP/1.1", HOST, CLOSE)


def request_with_fields_of(size: int) -> bytes:
    """A request whose field lines have `size` bytes, their ends not counted."""
    return message(
        "GET /sized HTTP/1.1", HOST, CLOSE, f"X-Long: {'v' * (size - len(HOST + CLOSE + 'X-Long: '))}"
    )


# Where the two bytes of a line's end count is the server's choice, so the lower sides leave room for them.


def test_request_line_bytes_max(server_factory: ServerFactory) -> None:
    """RFC 9112 section 3: `a server that receives a request-target longer than any URI it wishes to parse
    MUST respond with a 414`."""
    server = server_factory("apps.calls:app", "-s1", "--request-line-bytes-max=1000")
    assert status_of(server, request_with_line_of(998)) == 200
    assert status_of(server, request_with_line_of(1001)) == 414


def test_header_bytes_max(server_factory: ServerFactory) -> None:
    """RFC 6585 section 5: 431 when the fields are too large."""
    server = server_factory("apps.calls:app", "-s1", "--header-bytes-max=2000")
    assert status_of(server, request_with_fields_of(1990)) == 200
    assert status_of(server, request_with_fields_of(2001)) == 431


def test_header_count_max(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--header-count-max=10")
    few = [f"X-{index}: v" for index in range(8)]
    assert status_of(server, message("GET /sized HTTP/1.1", HOST, CLOSE, *few)) == 200
    assert status_of(server, message("GET /sized HTTP/1.1", HOST, CLOSE, *few, "X-More: v")) == 431


def test_body_bytes_max(server_factory: ServerFactory) -> None:
    """RFC 9110 section 15.5.14: 413, by the declared length and by what has come."""
    server = server_factory("apps.calls:app", "-s1", "--body-bytes-max=1000")
    for size, status in ((1000, 200), (1001, 413)):
        length, data = f"Content-Length: {size}", b"x" * size
        assert status_of(server, message("POST /echo HTTP/1.1", HOST, length, CLOSE, body=data)) == status
        coded = chunked(data[:600], data[600:])
        assert status_of(server, message("POST /echo HTTP/1.1", HOST, CHUNKED, CLOSE, body=coded)) == status
        # A chunked body is counted by what it holds, not by its many chunk lines.
        coded = chunked(*[b"x"] * size)
        assert status_of(server, message("POST /echo HTTP/1.1", HOST, CHUNKED, CLOSE, body=coded)) == status


def test_a_client_that_reads_only_after_it_has_sent_everything_is_told_that_it_was_too_much(
    server_factory: ServerFactory,
) -> None:
    """RFC 9112 section 9.6: as browsers do with a file; a reset would leave them with a broken page."""
    server = server_factory("apps.calls:app", "-s1", "--body-bytes-max=1000")
    with server.connect(timeout=60) as connection:
        head = message("POST /echo HTTP/1.1", HOST, f"Content-Length: {32 * 1024 * 1024}")
        connection.sendall(head)
        for _ in range(32):
            connection.sendall(b"x" * 1024 * 1024)
        assert read_to_end(connection).startswith(b"HTTP/1.1 413 ")
    assert server.get("/calls").body == b"0"


def test_a_body_over_the_limit_is_not_asked_for(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--body-bytes-max=1000")
    with server.connect() as connection:
        connection.sendall(
            message("POST /echo HTTP/1.1", HOST, "Content-Length: 1001", "Expect: 100-continue")
        )
        assert read_to_end(connection).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("start", "filling", "statuses"),
    [
        (b"GET /", b"a", (414,)),
        (b"", b"A", (400, 414, 501)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ", b"a", (431,)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"a", (400, 431)),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X-A: a\r\n", (431,)),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"a", (400, 413)),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", (400, 413)),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-A: a\r\n",
            (400, 431),
        ),
        (
            b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A: ",
            b"a",
            (400, 431),
        ),
    ],
    ids=[
        *["target", "method", "field value", "field name", "fields"],
        *["chunk extension", "chunk size", "trailers", "trailer value"],
    ],
)
def test_what_never_ends_is_refused_as_soon_as_a_limit_is_passed(
    server_factory: ServerFactory, start: bytes, filling: bytes, statuses: tuple[int, ...]
) -> None:
    """A megabyte that completes nothing: the server must neither keep it all nor wait for its timeout."""
    server = server_factory("apps.calls:app", "-s1", "--header-timeout=600", "--body-timeout=600")
    with server.connect() as connection, connection.makefile("rb") as stream:
        deliver(connection, [start, *[filling * (4096 // len(filling))] * 256])
        assert read_response(stream).status in statuses
        assert server.get("/calls").body == b"0"


def dripped(connection: socket.socket, start: bytes, drops: bytes) -> bytes:
    """What the server says to a client that sends `start` and then byte after byte, never pausing for
    long."""
    connection.sendall(start)
    for index in range(len(drops)):
        if select.select([connection], [], [], DRIP_INTERVAL_S)[0]:
            return read_to_end(connection)
        # It may have closed already, while we stood still; what it has said is there.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(drops[index : index + 1])
    raise AssertionError("the server took every byte")


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: local"])
def test_header_timeout_of_a_silent_client(server_factory: ServerFactory, sent: bytes) -> None:
    """RFC 9110 section 15.5.9: 408."""
    server = server_factory("apps.calls:app", "-s1", "--header-timeout=1")
    with server.connect() as connection:
        connection.sendall(sent)
        assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")
    assert server.get("/calls").body == b"0"


def test_header_timeout_of_a_client_that_drips(server_factory: ServerFactory) -> None:
    """The time is for the whole head: a byte now and then does not start it again."""
    server = server_factory("apps.calls:app", "-s1", "--header-timeout=1")
    with server.connect() as connection:
        start = message("GET / HTTP/1.1", HOST)[:-2] + b"X-A: "
        assert dripped(connection, start, b"a" * 1000).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("framing", ["Content-Length: 9", CHUNKED])
@pytest.mark.parametrize("sent", [b"", b"5"])
def test_body_timeout_of_a_silent_client(server_factory: ServerFactory, sent: bytes, framing: str) -> None:
    server = server_factory("apps.calls:app", "-s1", "--body-timeout=1")
    with server.connect() as connection:
        connection.sendall(message("POST /echo HTTP/1.1", HOST, framing, body=sent))
        assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")
    assert server.get("/calls").body == b"0"


def test_body_timeout_is_for_silence_only(server_factory: ServerFactory) -> None:
    """A body that goes on arriving may take longer than the time allowed without any progress."""
    server = server_factory(
        "apps.calls:app", "-s1", f"--body-timeout={LONG_TIMEOUT_S}", "--body-bytes-per-s-min=0"
    )
    pause_s = 0.2
    body = b"x" * int((LONG_TIMEOUT_S + 1) / pause_s)
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("POST /echo HTTP/1.1", HOST, f"Content-Length: {len(body)}", CLOSE))
        for index in range(len(body)):
            assert not select.select([connection], [], [], pause_s)[0], "answered before the end"
            connection.sendall(body[index : index + 1])
        assert read_response(stream).status == 200


def test_what_has_arrived_while_the_server_stood_still_is_not_too_late(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--body-timeout=1")
    (worker,) = workers(server, 1)

    def is_heard() -> bool:
        """Whether that was seen: not when we stood still before the server did."""
        with server.connect() as connection, connection.makefile("rb") as stream:
            began = time.monotonic()
            connection.sendall(message("POST /echo HTTP/1.1", HOST, "Content-Length: 2", CLOSE, body=b"a"))
            # The server has read this by then.
            time.sleep(0.2)
            os.kill(worker, signal.SIGSTOP)
            connection.sendall(b"b")
            took_s = time.monotonic() - began
            time.sleep(1.5)
            os.kill(worker, signal.SIGCONT)
            status = read_response(stream).status
            assert status == 200 or took_s > 1
            return status == 200

    assert any(is_heard() for _ in range(10))


def test_keepalive_timeout(server_factory: ServerFactory) -> None:
    """Between two requests nothing is owed to the client: the connection closes without a word."""
    server = server_factory("apps.calls:app", "-s1", "--keepalive-timeout=1")

    def closes_when_idle() -> bool:
        """Whether that was seen: not when the machine stood still between the requests."""
        began = time.monotonic()
        with server.connect() as connection, connection.makefile("rb") as stream:
            try:
                for _ in range(2):
                    connection.sendall(message("GET /sized HTTP/1.1", HOST))
                    assert read_response(stream).status == 200
            except ConnectionError:
                assert time.monotonic() - began > 1
                return False
            assert stream.read() == b""
            return True

    assert any(closes_when_idle() for _ in range(10))


def test_keepalive_timeout_does_not_run_while_the_application_works(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    server = server_factory("apps.calls:app", "-s1", "-t4", "--keepalive-timeout=1", "--header-timeout=1")
    gate = tmp_path / "gate"
    with server.connect() as busy, busy.makefile("rb") as stream, server.connect() as idle:
        busy.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
        server.wait_for_log(f"held {gate}")
        idle.sendall(message("GET /sized HTTP/1.1", HOST))
        # The idle connection is the clock: when it has been closed, the time has passed for both.
        assert read_to_end(idle).startswith(b"HTTP/1.1 200 ")
        gate.touch()
        assert read_response(stream).body == b"released"


def test_requests_per_connection_max(server_factory: ServerFactory) -> None:
    server = server_factory("apps.calls:app", "-s1", "--requests-per-connection-max=3")
    with server.connect() as connection, connection.makefile("rb") as stream:
        for number in (1, 2, 3):
            connection.sendall(message("GET /sized HTTP/1.1", HOST))
            assert read_response(stream).header("Connection") == ("close" if number == 3 else None)
        assert stream.read() == b""


def test_queue_timeout(server_factory: ServerFactory, tmp_path: Path) -> None:
    """RFC 9110 section 15.6.4: 503, and Retry-After says when to come back."""
    server = server_factory("apps.calls:app", "-s1", "-t1", "--queue-timeout=1")
    gate = tmp_path / "gate"
    with server.connect() as busy, busy.makefile("rb") as stream:
        busy.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
        server.wait_for_log(f"held {gate}")
        response = server.get("/sized")
        assert (response.status, response.header("Retry-After") is not None) == (503, True)
        gate.touch()
        assert read_response(stream).body == b"released"
