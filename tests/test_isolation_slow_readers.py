"""A client that reads slowly costs no application thread and little memory: its response waits in a file."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from apps.bulk import PIECE_BYTES, piece
from server import Server, read_response
from test_isolation_limits import MIB, files_in
from test_process_life import eventually
from wire import CLOSE, HOST, message

if TYPE_CHECKING:
    from conftest import ServerFactory

#: More than what the kernel keeps for a connection, several times.
COUNT = 400


def content(count: int) -> bytes:
    return b"".join(piece(index) for index in range(count))


def slow_client(server: Server, target: str, *fields: str) -> socket.socket:
    """A connection that has asked for `target` and reads nothing. The kernel keeps little for it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(server.address)
    connection.sendall(message(f"GET {target} HTTP/1.1", HOST, *fields))
    return connection


def body_of(connection: socket.socket) -> bytes:
    # From here on as fast as any client.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
    with connection.makefile("rb") as stream:
        return read_response(stream).body


@pytest.mark.parametrize("target", [f"/generated?{COUNT}", f"/whole?{COUNT}"])
def test_an_unread_response_is_in_a_file_and_its_thread_free(
    server_factory: ServerFactory, tmp_path: Path, target: str
) -> None:
    server = server_factory("apps.bulk:app", "-s1", "-t1", f"--spill-directory={tmp_path}")
    with slow_client(server, target) as slow:
        assert eventually(lambda: files_in(server, tmp_path) != [])
        if "generated" in target:
            server.wait_for_log(f"generated {COUNT}")
        assert server.get("/hello").body == b"hello"
        assert body_of(slow) == content(COUNT)
        # The connection lives on, and its file does not.
        slow.sendall(message("GET /hello HTTP/1.1", HOST, CLOSE))
        assert body_of(slow) == b"hello"
        assert eventually(lambda: files_in(server, tmp_path) == [])


def test_slow_readers_beyond_the_number_of_threads_hinder_nobody(server_factory: ServerFactory) -> None:
    # Each of them waits for those before it.
    server = server_factory("apps.bulk:app", "-s1", "-t2", "--response-stall-timeout=600")
    slow = [slow_client(server, f"/generated?{COUNT}", CLOSE) for _ in range(8)]
    assert eventually(lambda: server.stderr_text().count(f"generated {COUNT}") == len(slow))
    assert [server.get("/hello").body for _ in range(10)] == [b"hello"] * 10
    expected = content(COUNT)
    for connection in slow:
        with connection:
            assert body_of(connection) == expected


def test_response_spill_bytes_max_makes_the_application_wait(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """The file is filled and emptied many times, and what the client gets is what was made."""
    server = server_factory(
        "apps.bulk:app", "-s1", "-t2", "--response-spill-bytes-max=1M", f"--spill-directory={tmp_path}"
    )
    with slow_client(server, f"/generated?{COUNT}", CLOSE) as slow:
        assert eventually(lambda: files_in(server, tmp_path) != [])
        assert [server.get("/hello").body for _ in range(10)] == [b"hello"] * 10
        assert f"generated {COUNT}" not in server.stderr_text(), "it is ahead by more than it may"
        assert body_of(slow) == content(COUNT)
    server.wait_for_log(f"generated {COUNT}")


def test_response_spill_bytes_max_of_0_makes_no_file(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory(
        "apps.bulk:app", "-s1", "-t2", "--response-spill-bytes-max=0", f"--spill-directory={tmp_path}"
    )
    with slow_client(server, f"/generated?{COUNT}", CLOSE) as slow:
        assert [server.get("/hello").body for _ in range(10)] == [b"hello"] * 10
        assert body_of(slow) == content(COUNT)
    assert f"generated {COUNT}" in server.stderr_text()


def test_a_disk_that_refuses_makes_the_application_wait(server_factory: ServerFactory) -> None:
    wrapper = ["prlimit", f"--fsize={MIB}"]
    server = server_factory("apps.bulk:app", "-s1", "-t2", wrapper=wrapper)
    with slow_client(server, f"/generated?{COUNT}", CLOSE) as slow:
        server.wait_for_log("cannot store a response for a slow client.*File too large")
        assert server.get("/hello").body == b"hello"
        assert body_of(slow) == content(COUNT)


def test_responses_leave_half_of_the_room_to_bodies(server_factory: ServerFactory) -> None:
    server = server_factory(
        "apps.bulk:app", "-s1", "-t4", "--spill-bytes-max=4M", "--response-stall-timeout=600"
    )
    slow = [slow_client(server, f"/generated?{COUNT}", CLOSE) for _ in range(3)]
    body = b"x" * MIB
    upload = message("POST /digest HTTP/1.1", HOST, f"Content-Length: {len(body)}", CLOSE, body=body)
    for _ in range(10):
        assert server.request(upload).status == 200
    expected = content(COUNT)
    for connection in slow:
        with connection:
            assert body_of(connection) == expected


def test_a_slow_client_that_vanishes_leaves_no_file(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory("apps.bulk:app", "-s1", "-t1", f"--spill-directory={tmp_path}")
    for _ in range(3):
        with slow_client(server, f"/generated?{COUNT}"):
            assert eventually(lambda: files_in(server, tmp_path) != [])
        assert eventually(lambda: files_in(server, tmp_path) == [])
        assert server.get("/hello").body == b"hello"


def test_a_stalled_response_in_a_file_is_cut_off(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory(
        "apps.bulk:app", "-s1", "-t1", "--response-stall-timeout=6", f"--spill-directory={tmp_path}"
    )
    with slow_client(server, f"/generated?{COUNT}"):
        # Long enough that we see the file, though the machine may stand still.
        assert eventually(lambda: files_in(server, tmp_path) != [])
        assert eventually(lambda: files_in(server, tmp_path) == [])


def test_a_slow_reader_of_a_file_costs_no_thread(server_factory: ServerFactory, tmp_path: Path) -> None:
    """`wsgi.file_wrapper` is sent from the file itself, by the executor."""
    path = tmp_path / "content"
    path.write_bytes(content(COUNT))
    server = server_factory("apps.bulk:app", "-s1", "-t1")
    slow = [slow_client(server, f"/file?{path}", CLOSE) for _ in range(4)]
    for connection in slow:
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    assert server.get("/hello").body == b"hello"
    for connection in slow:
        with connection:
            received = 15
            while data := connection.recv(65536):
                received += len(data)
            assert received > COUNT * PIECE_BYTES
