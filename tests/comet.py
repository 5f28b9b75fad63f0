"""Many clients of `apps.green` that wait for one event, from a single thread."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from server import Server
from wire import HOST, message

TIMEOUT_S = 60.0
#: Connections opened before the server has its turn: fewer than the kernel holds for it.
BURST = 500
ANSWER_END = b"\r\n\r\nreleased"


@dataclass
class Broadcast:
    """What an event took to reach everybody who waited for it."""

    clients: int
    #: From the request that is the event to the last byte of the last answer.
    took_s: float
    #: Memory of the worker for each waiting request, of the proportional set size (proc_pid_smaps(5)).
    request_bytes: float


def memory_bytes(process: int) -> int:
    """The proportional set size."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return int(size) * 1024


@contextlib.contextmanager
def waiting(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """So many connections, each with a request that the application has begun to work on."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        clients = []
        for index in range(count):
            client = stack.enter_context(server.connect(TIMEOUT_S))
            client.sendall(message("GET /wait HTTP/1.1", HOST))
            clients.append(client)
            if index % BURST == BURST - 1:
                until(lambda: int(server.get("/count").body) == len(clients))
        until(lambda: int(server.get("/count").body) == count)
        yield clients


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def broadcast(server: Server, worker: int, count: int) -> Broadcast:
    """Let `count` clients wait, cause the event, and see that every one of them hears of it."""
    assert server.get("/count").body == b"0"
    before = memory_bytes(worker)
    with waiting(server, count) as clients:
        request_bytes = (memory_bytes(worker) - before) / count
        poll = select.epoll()
        for client in clients:
            client.setblocking(False)
            poll.register(client, select.EPOLLIN)
        by_number = {client.fileno(): client for client in clients}
        began_at = time.monotonic()
        assert server.get("/release").body == str(count).encode()
        while by_number:
            ready = poll.poll(TIMEOUT_S)
            assert ready, f"{len(by_number)} heard nothing"
            for number, _ in ready:
                answer = by_number.pop(number).recv(4096)
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
                assert answer.endswith(ANSWER_END), answer
                poll.unregister(number)
        took_s = time.monotonic() - began_at
        poll.close()
    return Broadcast(count, took_s, request_bytes)
