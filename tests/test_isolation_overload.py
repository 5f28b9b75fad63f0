"""More requests than the application can answer: what waits, where it waits, and who hears of it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from server import Server, read_response
from test_process_life import eventually
from wire import CLOSE, HOST, message

if TYPE_CHECKING:
    from conftest import ServerFactory

#: One executor, so that what it reads before it knows of the full queue is nobody else's doing.
ONE_CORE = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
HELLO = message("GET /sized HTTP/1.1", HOST)


def unread_of(server: Server) -> int:
    """Requests that wait in the kernel, unread or unaccepted, by what it says of the server's sockets."""
    _, port = server.address
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _remote, state, queues = line.split()[:5]
        if int(local.split(":")[1], 16) == port:
            waiting = int(queues.split(":")[1], 16)
            is_listening = int(state, 16) == 10
            # The queue of a listener counts connections, whose bytes are counted with the connections.
            count += 0 if is_listening else min(waiting, 1)
    return count


def test_a_full_queue_leaves_connections_unread(server_factory: ServerFactory, tmp_path: Path) -> None:
    """What does not fit into the queue stays with the kernel, and every request is answered in the end."""
    gate = tmp_path / "gate"
    server = server_factory(
        "apps.calls:app", "-s1", "-t1", "--queue=4", "--queue-timeout=600", wrapper=ONE_CORE
    )
    with contextlib.ExitStack() as stack:
        # Connections that have had a response, so that they are idle and not merely unaccepted.
        clients = [stack.enter_context(server.connect(60)) for _ in range(20)]
        for client in clients:
            client.sendall(HELLO)
            assert read_response(client.makefile("rb")).status == 200
        busy = stack.enter_context(server.connect(60))
        busy.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
        server.wait_for_log(f"held {gate}")
        for client in clients:
            client.sendall(HELLO)
        assert eventually(lambda: unread_of(server) == len(clients) - 4), unread_of(server)
        # Nobody accepts newcomers meanwhile: they have not been read either.
        late = [stack.enter_context(server.connect(60)) for _ in range(5)]
        for client in late:
            client.sendall(message("GET /sized HTTP/1.1", HOST, CLOSE))
        assert eventually(lambda: unread_of(server) == len(clients) - 4 + len(late)), unread_of(server)
        gate.touch()
        for client in [busy, *clients, *late]:
            assert read_response(client.makefile("rb")).status == 200


def test_waiting_unread_is_not_idling(server_factory: ServerFactory, tmp_path: Path) -> None:
    """The time that the server takes to read counts against no limit of the client's."""
    gate = tmp_path / "gate"
    server = server_factory(
        *["apps.calls:app", "-s1", "-t1", "--queue=1", "--queue-timeout=600"],
        *["--keepalive-timeout=6", "--header-timeout=6"],
        wrapper=ONE_CORE,
    )
    with contextlib.ExitStack() as stack:
        queued, unread, clock = (stack.enter_context(server.connect(60)) for _ in range(3))
        for client in (queued, unread, clock):
            client.sendall(HELLO)
            assert read_response(client.makefile("rb")).status == 200
        busy = stack.enter_context(server.connect(60))
        busy.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
        server.wait_for_log(f"held {gate}")
        queued.sendall(HELLO)
        unread.sendall(HELLO)
        assert eventually(lambda: unread_of(server) == 1)
        # A connection that is idle is the clock: it is closed when the time has passed for all.
        assert clock.recv(1) == b""
        assert not select.select([queued, unread], [], [], 0.1)[0]
        gate.touch()
        for client in (busy, queued, unread):
            assert read_response(client.makefile("rb")).status == 200


def test_what_waits_unread_is_answered_when_the_server_stops(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    server = server_factory(
        "apps.calls:app", "-s1", "-t1", "--queue=1", "--deadman-timeout=600", wrapper=ONE_CORE
    )
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = [stack.enter_context(server.connect(60)) for _ in range(6)]
        for client in clients:
            client.sendall(HELLO)
            assert read_response(client.makefile("rb")).status == 200
        busy = stack.enter_context(server.connect(60))
        busy.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST))
        server.wait_for_log(f"held {gate}")
        for client in clients:
            client.sendall(HELLO)
        assert eventually(lambda: unread_of(server) == len(clients) - 1), unread_of(server)
        server.signal(signal.SIGTERM)
        assert eventually(lambda: unread_of(server) == 0)
        gate.touch()
        for client in [busy, *clients]:
            assert read_response(client.makefile("rb")).status == 200
    assert server.wait() == 0


def test_who_waited_unread_is_told_to_come_back_as_well(
    server_factory: ServerFactory, tmp_path: Path
) -> None:
    """503 and Retry-After, for those in the queue first and then for those behind it."""
    gate = tmp_path / "gate"
    server = server_factory(
        "apps.calls:app", "-s1", "-t1", "--queue=2", "--queue-timeout=1", wrapper=ONE_CORE
    )
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(server.connect(60))
        busy.sendall(message(f"GET /held?{gate} HTTP/1.1", HOST, CLOSE))
        server.wait_for_log(f"held {gate}")
        clients = [stack.enter_context(server.connect(60)) for _ in range(6)]
        for client in clients:
            client.sendall(message("GET /sized HTTP/1.1", HOST, CLOSE))
        for client in clients:
            response = read_response(client.makefile("rb"))
            assert (response.status, response.header("Retry-After")) == (503, "1")
        gate.touch()
        assert read_response(busy.makefile("rb")).body == b"released"
        assert server.get("/sized").status == 200
