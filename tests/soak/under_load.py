"""Reloads under the load of wrk and ab, and how connections are shared: `make soak` prints the figures."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import versions
from conftest import ServerFactory
from server import Server
from test_process_life import eventually, workers
from versions import APP, ENVIRONMENT

RELOADS = 20
RELOAD_PAUSE_S = 1.0
CONNECTIONS = 64
#: How much longer the slowest hundredth may take while the server reloads.
P99_RATIO_MAX = 3.0
#: How many more connections than its share a process may have.
SHARE_RATIO_MAX = 1.25
RUNS = 3

pytestmark = pytest.mark.timeout(900)


@contextlib.contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wrk(server: Server, seconds: float, during: Callable[[], None]) -> tuple[float, int]:
    """The p99 in milliseconds and the number of requests of a run in which nothing failed."""
    with running(
        "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--latency", server.url + "/"
    ) as process:
        during()
        output, _ = process.communicate(timeout=seconds + 60)
    assert "Socket errors" not in output, output
    assert "Non-2xx" not in output, output
    value, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", output)[0]
    (count,) = re.findall(r"(\d+) requests in", output)
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit], int(count)


def ab(server: Server, seconds: float, during: Callable[[], None]) -> tuple[float, int]:
    """As `wrk`, with a connection for each request."""
    with running(
        "ab", "-q", "-c", str(CONNECTIONS), "-t", f"{seconds:.0f}", "-n", "1000000", server.url + "/"
    ) as process:
        during()
        output, _ = process.communicate(timeout=seconds + 60)
    assert process.returncode == 0, output
    assert re.findall(r"Failed requests:\s+(\d+)", output) == ["0"], output
    assert "Non-2xx" not in output, output
    (p99,) = re.findall(r"99%\s+(\d+)", output)
    (count,) = re.findall(r"Complete requests:\s+(\d+)", output)
    return float(p99), int(count)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    versions.write(tmp_path, "v01")
    return tmp_path


@pytest.mark.parametrize("load", [wrk, ab])
@pytest.mark.parametrize("trigger", ["signal", "file"])
def test_twenty_reloads_under_load(
    server_factory: ServerFactory,
    site: Path,
    load: Callable[[Server, float, Callable[[], None]], tuple[float, int]],
    trigger: str,
) -> None:
    server = server_factory(APP, "-s2", "-t4", "-l/dev/null", "-rdev", cwd=site, environment=ENVIRONMENT)
    first = workers(server, 2)
    steady_ms, _ = load(server, 5, lambda: None)

    def reload() -> None:
        for version in range(2, RELOADS + 2):
            time.sleep(RELOAD_PAUSE_S)
            if trigger == "signal":
                server.signal(signal.SIGHUP)
            else:
                # ab takes a body of another length for a failure.
                versions.write(site, f"v{version:02}")
            server.wait_for_log(rf"a new generation serves.*generation={version}\b")

    reloading_ms, requests = load(server, RELOADS * (RELOAD_PAUSE_S + 1), reload)
    print(
        f"{load.__name__}, {RELOADS} reloads by {trigger}: {requests} requests, none failed; "
        f"p99 {steady_ms:.2f} ms steady, {reloading_ms:.2f} ms with reloads"
    )
    assert reloading_ms <= P99_RATIO_MAX * max(steady_ms, 1)
    assert eventually(lambda: not set(first) & set(server.processes()))
    assert len(workers(server, 2)) == 2
    server.stop()


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("connections", [20, 64, 256])
def test_connections_are_shared(server_factory: ServerFactory, processes: int, connections: int) -> None:
    server = server_factory("apps.hello:app", f"-s{processes}", "-t4", "-l/dev/null")
    pids = workers(server, processes)
    before = {pid: sockets(pid) for pid in pids}
    spreads = []
    for _ in range(RUNS):
        command = ["wrk", "-t1", f"-c{connections}", "-d3s", server.url + "/"]
        with running(*command) as process:
            eventually(lambda: sum(sockets(pid) - before[pid] for pid in pids) == connections)
            spreads.append(sorted(sockets(pid) - before[pid] for pid in pids))
            process.wait(30)
        assert eventually(lambda: all(sockets(pid) == before[pid] for pid in pids))
    print(f"{connections} connections over {processes} processes: {spreads}")
    most = sorted(spread[-1] for spread in spreads)[RUNS // 2]
    assert most <= SHARE_RATIO_MAX * connections / processes
    server.stop()


def sockets(pid: int) -> int:
    """Sockets that a process has open."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(entry.readlink()).startswith("socket:")
    return count
