"""What only shows after a while: `make soak`, ten minutes. Not part of the tests, which are waited for.

Reloads and kills under load, and a look at everything that could grow meanwhile: descriptors, memory, zombies
and processes. And what takes a machine of its own: ten thousand clients that wait for one event.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import versions
from comet import broadcast
from conftest import ServerFactory
from load import Load
from server import Server
from test_process_life import accepting, eventually, workers
from versions import APP, ENVIRONMENT

RELOADS = int(os.environ.get("SOAK_RELOADS", "200"))
RELOAD_PAUSE_S = float(os.environ.get("SOAK_RELOAD_PAUSE_S", "2.5"))
KILLS_S = float(os.environ.get("SOAK_KILLS_S", "60"))
#: Reloads after which everything that is allocated once has been.
WARM_UP = 20
MEMORY_GROWTH_KIB_MAX = 2048

COMET_CLIENTS = 10_000
#: A process keeps an eighth of its files for other things.
COMET_OPEN_FILES = COMET_CLIENTS * 8 // 7 + 100
COMET_S_MAX = 1.0
COMET_REQUEST_BYTES_MAX = 32 * 1024

pytestmark = pytest.mark.timeout(1800)


@dataclass
class Size:
    """What a supervisor holds."""

    descriptors: int
    children: int
    zombies: int
    memory_kib: int


def size_of(server: Server) -> Size:
    pid = server.pid
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    states = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in children]
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (private,) = (line for line in rollup if line.startswith("Private_Dirty:"))
    return Size(
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        children=len(children),
        zombies=states.count("Z"),
        memory_kib=int(private.split()[1]),
    )


def settled(server: Server, processes: int) -> Size:
    """The size when every old worker is gone."""
    workers(server, processes)
    assert eventually(lambda: size_of(server).children == processes)
    return size_of(server)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    versions.write(tmp_path, "v1")
    return tmp_path


def test_reloads_leave_nothing_behind(server_factory: ServerFactory, site: Path) -> None:
    server = server_factory(APP, "-s2", "-l/dev/null", "-rdev", cwd=site, environment=ENVIRONMENT)
    warm = None
    with Load(server.address) as load:
        for version in range(2, RELOADS + 2):
            versions.write(site, f"v{version}")
            if version % 2 == 0:
                server.signal(signal.SIGHUP)
            load.wait_for(f"v{version}".encode())
            assert load.failures == [], f"at reload {version - 1}"
            time.sleep(RELOAD_PAUSE_S)
            if version == WARM_UP:
                warm = settled(server, 2)
    assert warm is not None
    end = settled(server, 2)
    print(f"{load.answered} requests; warm {warm}, in the end {end}")
    assert (end.descriptors, end.zombies) == (warm.descriptors, 0)
    assert end.memory_kib <= warm.memory_kib + MEMORY_GROWTH_KIB_MAX
    server.stop()


def test_kills_leave_nothing_behind(server_factory: ServerFactory, site: Path) -> None:
    """Requests in a killed process are lost; connects and everything else are not."""
    server = server_factory(APP, "-s4", "-l/dev/null", cwd=site, environment=ENVIRONMENT)
    before, dice = settled(server, 4), random.Random(time.time_ns())
    ends_at = time.monotonic() + KILLS_S
    kills = 0
    with Load(server.address) as load:
        while time.monotonic() < ends_at:
            # Whoever crashes again and again is replaced ever more slowly: not all four are always there.
            if len(alive := accepting(server)) > 1:
                os.kill(dice.choice(alive), signal.SIGKILL)
                kills += 1
            time.sleep(0.5)
        assert eventually(lambda: len(accepting(server)) == 4) or eventually(
            lambda: len(accepting(server)) == 4
        )
        end = settled(server, 4)
        failures = len(load.failures)
        load.wait_for_more(1000)
        assert len(load.failures) == failures, "calm again"
    print(f"{kills} kills, {load.answered} requests, {failures} lost; before {before}, in the end {end}")
    assert not [failure for failure in load.failures if "refused" in failure.lower()]
    assert (end.descriptors, end.zombies) == (before.descriptors, 0)
    assert end.memory_kib <= before.memory_kib + MEMORY_GROWTH_KIB_MAX
    server.stop()


@pytest.mark.parametrize("library", ["eventlet", "gevent"])
def test_ten_thousand_wait_for_one_event(server_factory: ServerFactory, library: str) -> None:
    """In one process of green threads, all answered within a second of the event, the best of three."""
    _, open_files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files_max < COMET_OPEN_FILES:
        pytest.skip(f"needs {COMET_OPEN_FILES} open files, and {open_files_max} are allowed")
    results = []
    for _ in range(3):
        server = server_factory("apps.green:app", "-s1", "-t0", f"--green={library}", "-l/dev/null")
        (worker,) = workers(server, 1)
        results.append(broadcast(server, worker, COMET_CLIENTS))
        print(f"{library}: {results[-1]}")
        server.stop()
    assert min(result.took_s for result in results) < COMET_S_MAX
    assert max(result.request_bytes for result in results) < COMET_REQUEST_BYTES_MAX
