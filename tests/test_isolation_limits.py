"""What one client may take away from the others: places for connections, room on the disk, time."""

from __future__ import annotations

import hashlib
import os
import random
import select
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from server import Server, Truncated, read_response
from test_process_life import eventually
from wire import CLOSE, HOST, chunked, message, read_to_end

if TYPE_CHECKING:
    from conftest import ServerFactory

KIB = 1024
MIB = 1024 * KIB
CHUNKED = "Transfer-Encoding: chunked"
HELLO = message("GET /hello HTTP/1.1", HOST)


def upload(path: str, body: bytes, *fields: str) -> bytes:
    return message(f"POST {path} HTTP/1.1", HOST, f"Content-Length: {len(body)}", CLOSE, *fields, body=body)


def digest_of(body: bytes) -> bytes:
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()


def files_in(server: Server, directory: Path) -> list[str]:
    """What the server's processes have open in that directory, files without a name included."""
    found = []
    for pid in server.processes():
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(descriptor.readlink())
            except OSError:
                continue
            if target.startswith(f"{directory}/"):
                found.append(target)
    return found


def read_exactly(connection: socket.socket, size: int) -> None:
    while size > 0:
        data = connection.recv(min(size, 65536))
        assert data
        size -= len(data)


# Time


def test_response_stall_timeout_cuts_off_a_client_that_takes_nothing(server_factory: ServerFactory) -> None:
    server = server_factory("apps.iterables:app", "-s1", "-t1", "--response-stall-timeout=1")
    with server.connect() as connection:
        connection.sendall(message("GET /closing_endless?token-stalled HTTP/1.1", HOST))
        # The application hears of it, its thread is free again, and the client finds its response cut off.
        server.wait_for_log("closed token-stalled")
        assert server.get("/closing?token").status == 200
        with pytest.raises((Truncated, ConnectionResetError)), connection.makefile("rb") as stream:
            read_response(stream)


def test_response_stall_timeout_is_for_silence_only(server_factory: ServerFactory) -> None:
    """A client that takes some of its response now and then may take as long as it likes."""
    server = server_factory("apps.iterables:app", "-s1", "-t2", "--response-stall-timeout=6")
    with server.connect() as slow, server.connect() as clock:
        slow.sendall(message("GET /closing_endless?token-slow HTTP/1.1", HOST))
        # The other client is the clock: it takes nothing, and is cut off. It begins a little later.
        read_exactly(slow, 1000)
        clock.sendall(message("GET /closing_endless?token-clock HTTP/1.1", HOST))

        def clock_has_rung() -> bool:
            # So little at a time that the kernel does not call the socket writable in between.
            read_exactly(slow, 10_000)
            return "closed token-clock" in server.stderr_text()

        assert eventually(clock_has_rung)
        assert "closed token-slow" not in server.stderr_text()
    server.wait_for_log("closed token-slow")


# Connections


def test_connections_max_leaves_further_connections_unaccepted(server_factory: ServerFactory) -> None:
    server = server_factory("apps.bulk:app", "-s1", "--connections-max=3")
    with server.connect() as one, server.connect() as two, server.connect() as three:
        for connection in (one, two, three):
            connection.sendall(HELLO)
            assert read_response(connection.makefile("rb")).body == b"hello"
        with server.connect() as fourth, fourth.makefile("rb") as stream:
            fourth.sendall(HELLO)
            for connection in (one, two, three) * 5:
                connection.sendall(HELLO)
                assert read_response(connection.makefile("rb")).body == b"hello"
            assert not select.select([fourth], [], [], 0)[0], (
                "it has waited through fifteen requests of others"
            )
            server.wait_for_log("holds as many connections as it may.*connections=3")
            two.close()
            assert read_response(stream).body == b"hello"


def test_connections_max_loses_nobody_under_a_storm(server_factory: ServerFactory) -> None:
    server = server_factory("apps.bulk:app", "-s2", "--connections-max=2")
    connections = [server.connect() for _ in range(40)]
    for connection in connections:
        connection.sendall(message("GET /hello HTTP/1.1", HOST, CLOSE))
    for connection in connections:
        with connection:
            assert read_response(connection.makefile("rb")).body == b"hello"


# Room on the disk


def test_a_large_body_is_in_the_spill_directory_without_a_name(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    directory, gate = tmp_path / "spill", tmp_path / "gate"
    directory.mkdir()
    server = server_factory("apps.bulk:app", "-s1", f"--spill-directory={directory}")
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(upload(f"/keep?{gate}", b"x" * MIB))
        server.wait_for_log("keeps")
        (name,) = files_in(server, directory)
        assert name.endswith("(deleted)")
        assert list(directory.iterdir()) == []
        gate.touch()
        assert read_response(stream).body == b"%d" % MIB
    assert eventually(lambda: files_in(server, directory) == [])


def test_an_upload_that_is_broken_off_leaves_no_file(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory("apps.bulk:app", "-s1", f"--spill-directory={tmp_path}")
    for _ in range(5):
        with server.connect() as connection:
            connection.sendall(upload("/digest", b"x" * MIB)[: -MIB // 2])
            assert eventually(lambda: files_in(server, tmp_path) != [])
        assert eventually(lambda: files_in(server, tmp_path) == [])


def test_spill_bytes_max_refuses_a_body_that_does_not_fit(server_factory: ServerFactory) -> None:
    """RFC 4918 section 11.5: 507, whether the length is declared or not, and the server keeps serving."""
    server = server_factory("apps.bulk:app", "-s1", "--spill-bytes-max=1M")
    fits, over = random.Random(1).randbytes(MIB), b"x" * (MIB + 1)
    assert server.request(upload("/digest", fits)).body == digest_of(fits)
    assert server.request(upload("/digest", over)).status == 507
    pieces = [over[start : start + 50_000] for start in range(0, len(over), 50_000)]
    coded = message("POST /digest HTTP/1.1", HOST, CHUNKED, CLOSE, body=chunked(*pieces))
    assert server.request(coded).status == 507
    server.wait_for_log("cannot store a request body.*--spill-bytes-max")
    # The thread that had the first body may still be letting go of it.
    assert eventually(lambda: server.request(upload("/digest", fits)).body == digest_of(fits))


def test_a_body_without_room_is_not_asked_for(server_factory: ServerFactory) -> None:
    server = server_factory("apps.bulk:app", "-s1", "--spill-bytes-max=0")
    with server.connect() as connection:
        connection.sendall(upload("/digest", b"x" * MIB, "Expect: 100-continue")[:-MIB])
        assert read_to_end(connection).startswith(b"HTTP/1.1 507 ")
    # What fits into memory needs no file.
    assert server.request(upload("/digest", b"x" * 1000)).body == digest_of(b"x" * 1000)


def test_spill_bytes_max_is_for_all_bodies_together(server_factory: ServerFactory, tmp_path: Path) -> None:
    server = server_factory("apps.bulk:app", "-s1", "-t2", "--spill-bytes-max=1M")
    body, gate = b"x" * (600 * KIB), tmp_path / "gate"
    with server.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(upload(f"/keep?{gate}", body))
        server.wait_for_log("keeps")
        assert server.request(upload("/digest", body)).status == 507
        gate.touch()
        assert read_response(stream).status == 200
    assert eventually(lambda: server.request(upload("/digest", body)).status == 200)


def test_a_disk_that_refuses_is_507_and_a_line_in_the_log(server_factory: ServerFactory) -> None:
    server = server_factory("apps.bulk:app", "-s1", wrapper=["prlimit", f"--fsize={MIB}"])
    assert server.request(upload("/digest", b"x" * (2 * MIB))).status == 507
    server.wait_for_log("cannot store a request body.*File too large")
    assert server.request(upload("/digest", b"x" * 1000)).body == digest_of(b"x" * 1000)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="only root may mount")
def test_a_full_disk_is_507_and_a_line_in_the_log(server_factory: ServerFactory, tmp_path: Path) -> None:
    mounted = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'mount -t tmpfs -o size=1M none {tmp_path} && exec "$@"',
        "sh",
    ]
    server = server_factory("apps.bulk:app", "-s1", f"--spill-directory={tmp_path}", wrapper=mounted)
    assert server.request(upload("/digest", b"x" * (2 * MIB))).status == 507
    server.wait_for_log("cannot store a request body.*No space left on device")
    body = b"x" * (500 * KIB)
    assert server.request(upload("/digest", body)).body == digest_of(body)
