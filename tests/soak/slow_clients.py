"""A thousand slow clients of each kind beside normal load: `make soak` prints what they cost the others.

The load is wrk's. Two servers share a CPU, and each has the same normal load at the same time; in each round
the slow clients come to the other one of them. What the machine does meanwhile happens to both, and what the
slow clients cost their own CPU, that of all clients, too. So the two differ by what they cost the server.
"""

from __future__ import annotations

import os
import re
import resource
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import ServerFactory
from server import Server
from wire import HOST, message

CLIENTS = int(os.environ.get("SOAK_SLOW_CLIENTS", "1000"))
LOAD_S = int(os.environ.get("SOAK_LOAD_S", "3"))
ROUNDS = int(os.environ.get("SOAK_ROUNDS", "6"))
#: Of those for which the application makes gigabytes first.
READER_ROUNDS = min(ROUNDS, 2)
MADE_TIMEOUT_S = 300.0
SETTLE_S = 2.0
THROUGHPUT_PART_MIN = 0.95
LATENCY_FACTOR_MAX = 1.5
MIB = 1024 * 1024

pytestmark = pytest.mark.timeout(1800)

HEAD = message("GET /hello HTTP/1.1", HOST)
UPLOAD = message("POST /digest HTTP/1.1", HOST, "Content-Length: 100000")
CHUNKS = message("POST /digest HTTP/1.1", HOST, "Transfer-Encoding: chunked")

#: Limits that would end a client in the middle of a round, when others come in its place, are out of the way.
TIMEOUT = [
    "--body-bytes-per-s-min=0",
    "--body-timeout=600",
    "--header-timeout=600",
    "--keepalive-timeout=600",
    # A thousand large responses are made one after the other, and the last must not be told to come back.
    "--queue-timeout=600",
]

#: No clients at all: how far a measurement on this machine is to be believed.
NOBODY = "nobody"
#: What each kind sends at first, and then once a second.
KINDS: dict[str, tuple[bytes, Callable[[int], bytes]]] = {
    NOBODY: (b"", lambda _: b""),
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

    def __init__(self, server: Server, kind: str) -> None:
        self._address = server.address
        self._first, self._then = KINDS[kind]
        self._count = 0 if kind == NOBODY else CLIENTS
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._clients: list[socket.socket] = []
        self.lost = 0

    def __enter__(self) -> Crowd:
        self._clients = [self._join() for _ in range(self._count)]
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
            if words := self._then(second):
                client.send(words)
            client.recv(1024)
        except BlockingIOError:
            pass
        except OSError:
            # Cut off by a limit, as it should be after a while: another takes its place.
            client.close()
            self.lost += 1
            self._clients[index] = self._join()


@dataclass
class Load:
    """What normal clients had of the server, and what that cost."""

    requests_per_s: float
    p99_ms: float
    cpu_us: float
    """CPU of the worker for each of their requests, whatever else it did meanwhile."""


def load(server: Server) -> Load:
    command = ["wrk", "-t1", "-c20", f"-d{LOAD_S}", "--latency", f"{server.url}/hello"]
    cpu_s = worker_cpu_s(server)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    cpu_s = worker_cpu_s(server) - cpu_s
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    count = re.search(r"(\d+) requests in", said)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", said)
    assert rate, said
    assert count, said
    assert tail, said
    assert "Non-2xx" not in said, said
    p99_ms = float(tail[1]) * {"us": 0.001, "ms": 1, "s": 1000}[tail[2]]
    return Load(float(rate[1]), p99_ms, cpu_s / int(count[1]) * 1e6)


def worker(server: Server) -> Path:
    """The one worker, in /proc."""
    (pid,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return Path("/proc", pid)


def worker_cpu_s(server: Server) -> float:
    # Behind the name, which may hold anything. The 14th and 15th of all fields count ticks.
    fields = (worker(server) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def eventually(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


def memory_mib(server: Server) -> float:
    """The worker's own memory."""
    lines = (worker(server) / "status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


@pytest.fixture(autouse=True, scope="module")
def _descriptors() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
def twins(server_factory: ServerFactory) -> Iterator[tuple[Server, Server]]:
    """On one CPU, and all clients on the others, if there are any."""
    cpus = os.sched_getaffinity(0)
    alone = {min(cpus)} if len(cpus) > 1 else cpus
    os.sched_setaffinity(0, alone)
    options = ["-s1", "-t2", "-l/dev/null", *TIMEOUT]
    servers = server_factory("apps.bulk:app", *options), server_factory("apps.bulk:app", *options)
    os.sched_setaffinity(0, cpus - alone or cpus)
    yield servers
    os.sched_setaffinity(0, cpus)


@dataclass
class Round:
    """What normal clients had of the server with the slow ones to what they had of the one without."""

    throughput: float
    latency: float
    cpu: float
    without: Load
    alone_cpu_part: float
    """CPU of the worker for the slow clients, while nobody else asks for anything."""
    grown_mib: float
    lost: int


def compare(plain: Server, beset: Server, kind: str) -> Round:
    base_mib, made = memory_mib(beset), beset.stderr_text().count("generated ")
    with Crowd(beset, kind) as crowd:
        # What they ask for is made first, which is the application's work and not what slowness costs.
        if "reader" in kind:
            made += CLIENTS
            assert eventually(lambda: beset.stderr_text().count("generated ") >= made, MADE_TIMEOUT_S)
        time.sleep(SETTLE_S)
        cpu_s, since = worker_cpu_s(beset), time.monotonic()
        time.sleep(SETTLE_S)
        alone_cpu_part = (worker_cpu_s(beset) - cpu_s) / (time.monotonic() - since)
        without, beside = load_both(plain, beset)
        return Round(
            beside.requests_per_s / without.requests_per_s,
            beside.p99_ms / without.p99_ms,
            beside.cpu_us / without.cpu_us,
            without,
            alone_cpu_part,
            memory_mib(beset) - base_mib,
            crowd.lost,
        )


def load_both(plain: Server, beset: Server) -> tuple[Load, Load]:
    with ThreadPoolExecutor(2) as pool:
        without, beside = pool.map(load, (plain, beset))
    return without, beside


@pytest.mark.parametrize("kind", KINDS)
def test_slow_clients_cost_others_next_to_nothing(twins: tuple[Server, Server], kind: str) -> None:
    load_both(*twins)
    rounds = []
    for index in range(READER_ROUNDS if "reader" in kind else ROUNDS):
        plain, beset = twins if index % 2 == 0 else twins[::-1]
        rounds.append(compare(plain, beset, kind))
        time.sleep(1)

    def usual(what: Callable[[Round], float]) -> float:
        return statistics.median(what(round_) for round_ in rounds)

    throughput, latency = usual(lambda it: it.throughput), usual(lambda it: it.latency)
    print(
        f"{kind}: {throughput:.3f} of {usual(lambda it: it.without.requests_per_s):.0f} requests/s, "
        f"p99 {latency:.2f} of {usual(lambda it: it.without.p99_ms):.2f} ms, "
        f"CPU a request {usual(lambda it: it.cpu):.3f} of {usual(lambda it: it.without.cpu_us):.1f} us; "
        f"alone they take {100 * usual(lambda it: it.alone_cpu_part):.1f} % of a CPU; "
        f"{max(it.grown_mib for it in rounds):.1f} MiB more, {sum(it.lost for it in rounds)} cut off"
    )
    assert throughput >= THROUGHPUT_PART_MIN
    assert latency <= LATENCY_FACTOR_MAX
