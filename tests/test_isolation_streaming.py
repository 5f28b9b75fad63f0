"""`--stream-uploads`: the application is called at once, and reads the body as it arrives."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server import Server, read_response
from test_isolation_limits import CHUNKED, MIB, digest_of, files_in, upload
from wire import CLOSE, HOST, LAST_CHUNK, chunked, message, read_to_end, serving

if TYPE_CHECKING:
    from conftest import ServerFactory


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving("apps.bulk:app", "-s1", "-t4", "--stream-uploads", "--body-bytes-max=64M") as server:
        yield server


@pytest.mark.parametrize("framing", ["Content-Length: 11", CHUNKED])
def test_the_application_reads_what_has_arrived(server: Server, framing: str) -> None:
    pieces = (
        (b"hello\n", b"world") if framing != CHUNKED else (b"6\r\nhello\n\r\n", b"5\r\nworld\r\n0\r\n\r\n")
    )
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message("POST /greeting HTTP/1.1", HOST, framing, body=pieces[0]))
        server.wait_for_log("heard hello")
        connection.sendall(pieces[1])
        response = read_response(stream)
        assert (response.body, response.header("Connection")) == (b"5", None)
        # All of the body was read, so the connection lives on.
        connection.sendall(message("GET /hello HTTP/1.1", HOST, CLOSE))
        assert read_response(stream).body == b"hello"


@pytest.mark.parametrize("size", [0, 1, 70_000, 5 * MIB])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_body_arrives_whole(server: Server, size: int, coding: str) -> None:
    body = random.Random(size).randbytes(size)
    raw = upload("/digest", body)
    if coding == "chunked":
        pieces = [body[start : start + 30_000] for start in range(0, size, 30_000)]
        raw = message("POST /digest HTTP/1.1", HOST, CHUNKED, CLOSE, body=chunked(*pieces))
    assert server.request(raw).body == digest_of(body)


def test_pipelined_uploads_are_kept_apart(server: Server) -> None:
    first = message("POST /digest HTTP/1.1", HOST, "Content-Length: 3", body=b"abc")
    second = message("POST /digest HTTP/1.1", HOST, CHUNKED, CLOSE, body=chunked(b"defg"))
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(first + second)
        assert read_response(stream).body == digest_of(b"abc")
        assert read_response(stream).body == digest_of(b"defg")


def test_100_continue_is_sent_when_the_application_reads(server: Server, tmp_path: Path) -> None:
    """RFC 9110 section 10.1.1, and PEP 3333 on Expect/Continue: `only when the application reads`."""
    gate = tmp_path / "gate"
    fields = [HOST, "Content-Length: 3", "Expect: 100-continue", CLOSE]
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(message(f"POST /keep?{gate} HTTP/1.1", *fields))
        server.wait_for_log(f"keeps {gate}")
        assert server.get("/hello").body == b"hello"
        assert not select.select([connection], [], [], 0)[0], "nothing was read yet"
        gate.touch()
        assert read_response(stream).status == 100
        connection.sendall(b"abc")
        assert read_response(stream).body == b"3"


def test_without_a_read_there_is_no_100_continue(server: Server) -> None:
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(
            message("POST /ignoring HTTP/1.1", HOST, "Content-Length: 3", "Expect: 100-continue")
        )
        response = read_response(stream)
        assert (response.status, response.body, response.header("Connection")) == (200, b"ignored", "close")
        assert stream.read() == b""


def test_what_is_not_read_is_not_the_next_request(server: Server) -> None:
    forged = message("GET /hello HTTP/1.1", HOST)
    with server.connect() as connection:
        connection.sendall(
            message("POST /ignoring HTTP/1.1", HOST, "Content-Length: 1000000", body=forged * 100)
        )
        received = read_to_end(connection)
    assert received.count(b"HTTP/1.1 200 OK") == 1


def test_a_client_is_held_back_until_the_application_reads(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """Nothing grows meanwhile, neither memory nor files, and the time counts against nobody."""
    server = server_factory(
        *["apps.bulk:app", "-s1", "-t2", "--stream-uploads", "--body-timeout=5"],
        f"--spill-directory={tmp_path}",
    )
    gate, body = tmp_path / "gate", bytes(64 * MIB)
    with server.connect(60) as connection, server.connect() as clock:
        connection.sendall(upload(f"/keep?{gate}", body)[: -len(body)])
        server.wait_for_log("keeps")
        connection.setblocking(False)
        sent, is_held_back = 0, False
        while not is_held_back:
            try:
                sent += connection.send(body[sent : sent + MIB])
            except BlockingIOError:
                # Longer than a machine stands still.
                is_held_back = not select.select([], [connection], [], 4)[1]
            assert sent < len(body), "somebody keeps all of it"
        # Another client that is silent is the clock.
        clock.sendall(message("POST /digest HTTP/1.1", HOST, "Content-Length: 9"))
        assert read_to_end(clock).startswith(b"HTTP/1.1 408 ")
        assert files_in(server, tmp_path) == []
        gate.touch()
        connection.setblocking(True)
        connection.sendall(body[sent:])
        assert read_response(connection.makefile("rb")).body == b"%d" % len(body)


def test_a_client_may_read_after_it_has_sent_everything(server: Server) -> None:
    """Neither side waits for the other for ever, though the application answers while it reads."""
    body = random.Random(2).randbytes(32 * MIB)
    with server.connect(60) as connection:
        connection.sendall(upload("/echoing", body))
        assert read_response(connection.makefile("rb")).body == body


def test_body_timeout_is_408_and_an_error_of_the_read(server_factory: ServerFactory) -> None:
    server = server_factory("apps.bulk:app", "-s1", "-t1", "--stream-uploads", "--body-timeout=1")
    with server.connect(60) as connection:
        connection.sendall(message("POST /failing?stalled HTTP/1.1", HOST, "Content-Length: 9", body=b"abc"))
        assert read_to_end(connection).startswith(b"HTTP/1.1 408 ")
    server.wait_for_log("failed stalled ClientTimeout")
    server.wait_for_log('"POST /failing\\?stalled HTTP/1.1" 408 ')
    assert server.get("/hello").body == b"hello"


def test_body_bytes_max_is_413_and_an_error_of_the_read(server_factory: ServerFactory) -> None:
    server = server_factory("apps.bulk:app", "-s1", "-t1", "--stream-uploads", "--body-bytes-max=1000")
    body = chunked(b"x" * 600, b"x" * 600)
    raw = message("POST /failing?large HTTP/1.1", HOST, CHUNKED, CLOSE, body=body)
    assert server.request(raw).status == 413
    server.wait_for_log("failed large ClientError")
    assert server.request(upload("/failing?declared", b"x" * 1001)).status == 413
    assert "failed declared" not in server.stderr_text(), "it was refused before the application was called"
    assert server.get("/hello").body == b"hello"


def test_a_malformed_body_is_400(server: Server) -> None:
    raw = message("POST /failing?malformed HTTP/1.1", HOST, CHUNKED, body=b"3\r\nabcX" + LAST_CHUNK)
    assert server.request(raw).status == 400
    server.wait_for_log("failed malformed ClientError")


@pytest.mark.parametrize("how", ["reset", "end"])
def test_a_client_that_vanishes_is_an_error_of_the_read(server_factory: ServerFactory, how: str) -> None:
    server = server_factory("apps.bulk:app", "-s1", "-t1", "--stream-uploads")
    with server.connect() as connection:
        connection.sendall(message(f"POST /failing?{how} HTTP/1.1", HOST, "Content-Length: 9", body=b"abc"))
        server.wait_for_log(f"reads {how}")
        if how == "end":
            connection.shutdown(socket.SHUT_WR)
            server.wait_for_log("failed end ClientDisconnected")
        else:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    server.wait_for_log(f"failed {how} ClientDisconnected")
    assert server.get("/hello").body == b"hello"


def test_many_uploads_at_once(server: Server) -> None:
    body = random.Random(3).randbytes(3 * MIB)
    answers: list[bytes] = []

    def send() -> None:
        with contextlib.suppress(OSError):
            answers.append(server.request(upload("/digest", body), timeout=180).body)

    threads = [threading.Thread(target=send) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [digest_of(body)] * 16
