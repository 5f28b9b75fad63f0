"""A thousand slow clients of each kind beside normal load: `make soak` prints what they cost the others.

Each kind is measured against the same load without it, before and after; the load is wrk's.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import Server
from wire import HOST, message

CLIENTS = int(os.environ.get("SOAK_SLOW_CLIENTS", "1000"))
LOAD_S = int(os.environ.get("SOAK_LOAD_S", "10"))
MADE_TIMEOUT_S = 300.0
THROUGHPUT_PART_MIN = 0.95
LATENCY_FACTOR_MAX = 1.5
MIB = 1024 * 1024

pytestmark = pytest.mark.timeout(1800)

HEAD = message("GET /hello HTTP/1.1", HOST)
UPLOAD = message("POST /digest HTTP/1.1", HOST, "Content-Length: 100000")
CHUNKS = message("POST /digest HTTP/1.1", HOST, "Transfer-Encoding: chunked")

#: What each kind sends at first, and then once a second.
KINDS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    "idle": (HEAD, lambda _: b""),
    "silent": (b"", lambda _: b""),
    "slow head (Slowloris)": (b"GET /hello HTTP/1.1\r\n", lambda tick: b"X-%d: a\r\n" % tick),
    "slow body (slow POST)": (UPLOAD, lambda _: b"x" * 500),
    "tiny chunks": (CHUNKS, lambda _: b"1\r\nx\r\n" * 100),
    "slow reader of 1 MiB": (message("GET /generated?16 HTTP/1.1", HOST), lambda _: b""),
    "slow reader of 8 MiB": (message("GET /generated?128 HTTP/1.1", HOST), lambda _: b""),
    "half open, half an upload": (UPLOAD + b"x" * 500, lambda _: b""),
}


class Crowd:
    """Slow clients of one kind, all driven by one thread: each sends, and reads a little, once a second."""

    def __init__(self, server: Server, first: bytes, then: Callable[[int], bytes]) -> None:
        self._address = server.address
        self._first = first
        self._then = then
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._clients: list[socket.socket] = []
        self.lost = 0

    def __enter__(self) -> Crowd:
        self._clients = [self._join() for _ in range(CLIENTS)]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for client in self._clients:
            client.close()

    def _join(self) -> socket.socket:
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect(self._address)
        client.sendall(self._first)
        client.setblocking(False)
        return client

    def _run(self) -> None:
        tick = 0
        while not self._ended.wait(1 / 20):
            # A twentieth of them at a time, so that they are no bursts of load themselves.
            for index in range(tick % 20, len(self._clients), 20):
                self._move(index, tick // 20)
            tick += 1

    def _move(self, index: int, second: int) -> None:
        client = self._clients[index]
        try:
            client.send(self._then(second))
            client.recv(1024)
        except BlockingIOError:
            pass
        except OSError:
            # Cut off by a limit, as it should be after a while: another takes its place.
            client.close()
            self.lost += 1
            self._clients[index] = self._join()


def load(server: Server) -> tuple[float, float]:
    """Requests a second, and the 99th percentile of the latency in milliseconds."""
    command = ["wrk", "-t1", "-c20", f"-d{LOAD_S}", "--latency", f"{server.url}/hello"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", said)
    assert rate, said
    assert tail, said
    assert "Non-2xx" not in said, said
    return float(rate[1]), float(tail[1]) * {"us": 0.001, "ms": 1, "s": 1000}[tail[2]]


def eventually(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def memory_mib(server: Server) -> float:
    """The worker's own memory."""
    (worker,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    lines = Path(f"/proc/{worker}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


@pytest.fixture(autouse=True, scope="module")
def _descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.mark.parametrize("kind", KINDS)
def test_slow_clients_cost_others_next_to_nothing(server_factory: ServerFactory, kind: str) -> None:
    # A thousand large responses are made one after the other, and the last must not be told to come back.
    patient = ["--queue-timeout=600", "--body-bytes-per-s-min=0"]
    server = server_factory("apps.bulk:app", "-s1", "-t2", "-l/dev/null", *patient)
    load(server)
    before = load(server)
    base_mib = memory_mib(server)
    with Crowd(server, *KINDS[kind]) as crowd:
        # What they ask for is made first, which is the application's work and not what slowness costs.
        time.sleep(5)
        if "reader" in kind:
            assert eventually(lambda: server.stderr_text().count("generated ") >= CLIENTS, MADE_TIMEOUT_S)
            time.sleep(5)
        beside = load(server)
        grown_mib = memory_mib(server) - base_mib
    time.sleep(1)
    after = load(server)
    throughput, latency = (before[0] + after[0]) / 2, (before[1] + after[1]) / 2
    print(
        f"{kind}: {beside[0]:.0f} requests/s of {throughput:.0f} ({beside[0] / throughput:.2f}), "
        f"p99 {beside[1]:.2f} ms of {latency:.2f} ms ({beside[1] / latency:.2f}), "
        f"{grown_mib:.1f} MiB more, {crowd.lost} cut off"
    )
    assert beside[0] >= THROUGHPUT_PART_MIN * throughput
    assert beside[1] <= LATENCY_FACTOR_MAX * latency
