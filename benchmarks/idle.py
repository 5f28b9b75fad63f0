"""Keep-alive connections that have asked once and then stay, and what they cost the server."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .load import LoadError
from .process_tree import cpu_ns, resident_bytes

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
BATCH = 100
"""Connections that are opened before the first of them is waited for."""
WARM_UP = 500
"""Connections until all that is allocated once has been."""
WATCH_S = 1.0
"""How long the idle server is watched for CPU time."""
TIMEOUT_S = 10
SPARE_DESCRIPTORS = 100


@contextmanager
def idle_connections(count: int, port: int, root_pid: int) -> Iterator[str | None]:
    """Hold `count` connections open; yields what each costs, in words. None at all for 0."""
    if count == 0:
        yield None
        return
    allow_descriptors(count + WARM_UP + SPARE_DESCRIPTORS)
    with ExitStack() as stack:
        open_connections(stack, WARM_UP, port)
        before = resident_bytes(root_pid)
        open_connections(stack, count, port)
        each = (resident_bytes(root_pid) - before) / count
        cpu = cpu_ns(root_pid)
        time.sleep(WATCH_S)
        busy_share = (cpu_ns(root_pid) - cpu) / 1e9 / WATCH_S
        yield f"{each / 1024:.1f} KiB for each idle connection, {busy_share:.1%} of a core while idle"


def allow_descriptors(count: int) -> None:
    """Raise this process's limit of open files, as far as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        raise LoadError(f"needs {count} open files, and {hard} are allowed; see `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def open_connections(stack: ExitStack, count: int, port: int) -> None:
    """Open connections and read one answer on each."""
    for start in range(0, count, BATCH):
        batch = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), TIMEOUT_S))
            for _ in range(min(BATCH, count - start))
        ]
        for connection in batch:
            connection.sendall(REQUEST)
        for connection in batch:
            read_answer(connection)


def read_answer(connection: socket.socket) -> None:
    """Read until the head of an answer has come."""
    received = b""
    while b"\r\n\r\n" not in received:
        try:
            piece = connection.recv(4096)
        except OSError as error:
            raise LoadError(f"an idle connection got no answer: {error}") from None
        if not piece:
            raise LoadError("the server closes connections instead of keeping them")
        received += piece
