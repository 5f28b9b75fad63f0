"""One request at a time: until a server answers, and to see that it answers rightly."""

from __future__ import annotations

import http.client
import itertools
import socket
import subprocess
import time

from .load import TIMEOUT_S, LoadError
from .workloads import Load

READY_TIMEOUT_S = 20.0
READY_POLL_S = 0.02
WARM_UP_S = 0.3

# Below the ephemeral range, where connections of an earlier run may still hold a port.
PORTS = itertools.cycle(range(18000, 19000))


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens."""
    for port in itertools.islice(PORTS, 1000):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise LoadError("no free port between 18000 and 18999")


def wait_until_ready(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a server accepts connections; raises `LoadError` if it ends first or takes too long."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise LoadError(f"did not start, exit status {server.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(READY_POLL_S)
        else:
            return
    raise LoadError(f"not ready after {READY_TIMEOUT_S:.0f} s")


def warm_up(load: Load, port: int) -> bool:
    """Send requests for a moment and check each answer; raises `LoadError` on a wrong one.

    Returns whether only the end of the connection ends an answer; RFC 9112, section 6.3, case 8.
    """
    deadline = time.monotonic() + WARM_UP_S
    body = b"x" * load.body_bytes
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        while True:
            try:
                connection.request(load.method, load.path, body or None)
                response = connection.getresponse()
                ends_with_connection = response.length is None and not response.chunked
                check(load, response.status, len(response.read()))
            except (OSError, http.client.HTTPException) as error:
                raise LoadError(f"{load.method} {load.path}: {error or type(error).__name__}") from error
            if time.monotonic() >= deadline:
                return ends_with_connection
    finally:
        connection.close()


def check(load: Load, status: int, body_bytes: int) -> None:
    """Raise `LoadError` unless that is what the application sent."""
    if status != 200:
        raise LoadError(f"{load.method} {load.path} was answered with status {status}")
    if load.response_bytes is not None and body_bytes != load.response_bytes:
        raise LoadError(f"{load.method} {load.path} brought {body_bytes} bytes, not {load.response_bytes}")
